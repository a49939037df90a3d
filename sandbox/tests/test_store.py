import sqlite3
import threading

import pytest

from sandbox.store import Refused, Store


@pytest.fixture
def file(tmp_path):
    store = Store(str(tmp_path / "sandbox.sqlite3"))
    yield store
    store.close()


@pytest.mark.parametrize("sql", ["UPDATE ledger SET what = 'x'", "DELETE FROM ledger"])
def test_ledger_cannot_be_rewritten(file, sql):
    file.write(lambda tx: tx.log("sold"))

    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        file.write(lambda tx: tx.run(sql))

    assert [row["what"] for row in file.read("SELECT what FROM ledger")] == ["sold"]


def test_failed_write_leaves_nothing_and_spares_its_neighbours(file):
    def fail(tx):
        tx.log("lost")
        tx.later(0, "webhook", {})
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        file.write(fail)
    file.write(lambda tx: tx.log("kept"))

    assert [row["what"] for row in file.read("SELECT what FROM ledger")] == ["kept"]
    assert file.unfinished_jobs() == []


def test_refusal_keeps_what_was_logged_before(file):
    def refuse(tx):
        tx.log("order_received")
        raise Refused(422, {})

    with pytest.raises(Refused):
        file.write(refuse)

    assert [row["what"] for row in file.read("SELECT what FROM ledger")] == ["order_received"]


def test_many_writers_are_all_served(file):
    threads = [
        threading.Thread(target=lambda: [file.write(lambda tx: tx.log("sold")) for _ in range(20)]) for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert file.read("SELECT count(*) AS n FROM ledger")[0]["n"] == 400


def test_commits_reach_the_disk(file):
    assert file.write(lambda tx: tx.one("PRAGMA synchronous")[0]) == 2
    assert file.write(lambda tx: tx.one("PRAGMA journal_mode")[0]) == "wal"


def test_second_sandbox_on_the_same_file_is_refused(file, monkeypatch):
    monkeypatch.setattr("sandbox.store.LOCK_SECONDS", 0)

    with pytest.raises(RuntimeError, match="Another sandbox uses"):
        Store(str(file._path))
