"""`backup` and `restore` as processes over databases of their own, and the file's format as docs/backup.md has it."""

import io
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import boto3
import psycopg
import pytest
from moto import mock_aws

from bitloot.ops.backup import places
from bitloot.ops.backup.sealed import CHUNK, MAGIC, NotOurBackup, seal, unseal
from bitloot.tests.services import EMBEDDED, Postgres, free_port
from tools.dev.devenv import ROOT, process_environment

SECRET = "Zq3vX8_bNw1mK7-tYr5cJ0hGdLs2PfUeA9iOxV4kQ6B"
HEADER = len(MAGIC) + 32


def sealed(plain, secret=SECRET):
    target = io.BytesIO()
    seal(io.BytesIO(plain), target, secret=secret)
    return target.getvalue()


def opened(file, secret=SECRET):
    return b"".join(unseal(io.BytesIO(file), secret=secret))


# --- the file ---


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK])
def test_a_file_opens_to_what_was_sealed(size):
    plain = bytes(range(256)) * (size // 256 + 1)
    assert opened(sealed(plain[:size])) == plain[:size]


def test_a_file_shows_nothing_and_is_never_the_same_twice():
    one, other = sealed(b"a customer" * 100), sealed(b"a customer" * 100)
    assert b"customer" not in one
    assert one[HEADER:] != other[HEADER:]


WHOLE = sealed(b"x" * (2 * CHUNK + 5))
FIRST, SECOND = HEADER, HEADER + CHUNK + 16
LAST = SECOND + CHUNK + 16


@pytest.mark.parametrize(
    "file",
    [
        b"",
        WHOLE[: HEADER - 1],
        b"PK" + WHOLE[2:],
        WHOLE[:HEADER],
        WHOLE[:LAST],
        WHOLE[:-1],
        WHOLE + b"x",
        WHOLE[:FIRST] + WHOLE[SECOND:LAST] + WHOLE[FIRST:SECOND] + WHOLE[LAST:],
        WHOLE[:FIRST] + WHOLE[SECOND:],
        *(WHOLE[:at] + bytes([WHOLE[at] ^ 1]) + WHOLE[at + 1 :] for at in (9, FIRST, SECOND, LAST, len(WHOLE) - 1)),
    ],
    ids=["empty", "half a header", "another file", "only a header", "cut between chunks", "cut", "longer", "exchanged",
         "one missing", "salt", "first chunk", "second chunk", "last chunk", "tag"],
)  # fmt: skip
def test_a_file_that_was_changed_does_not_open(file):
    with pytest.raises(NotOurBackup):
        opened(file)


def test_a_file_does_not_open_under_another_secret():
    with pytest.raises(NotOurBackup):
        opened(WHOLE, secret=SECRET[::-1])


def test_the_program_of_the_documentation_opens_a_file(tmp_path):
    text = (ROOT / "docs" / "backup.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "file").write_bytes(sealed(b"engine".ljust(16) + b"the dump"))
    command = [sys.executable, "-c", program, SECRET, str(tmp_path / "file")]
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"the dump"


# --- where they lie ---


@pytest.fixture
def folder(tmp_path, settings):
    settings.BACKUP_TARGET = str(tmp_path / "backups")
    return tmp_path / "backups"


@pytest.fixture
def bucket(settings):
    settings.BACKUP_TARGET, settings.R2_ENDPOINT = "s3://shop-backups/daily", "https://s3.amazonaws.com"
    settings.R2_ACCESS_KEY_ID = settings.R2_SECRET_ACCESS_KEY = "of the store"
    with mock_aws():
        boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="shop-backups")
        yield


@pytest.mark.parametrize("kind", ["folder", "bucket"])
def test_a_place_keeps_what_it_is_given(kind, request):
    request.getfixturevalue(kind)
    place = places.place()
    assert place.names() == []
    names = [f"bitloot-2026030{day}T000000Z.backup" for day in (1, 3, 2)]
    for name in names:
        place.put(name, io.BytesIO(name.encode()))
    place.put("notes.txt", io.BytesIO(b""))
    assert place.names() == sorted(names, reverse=True)
    got = io.BytesIO()
    place.fetch(names[0], got)
    assert got.getvalue() == names[0].encode()
    place.delete(names[0])
    assert names[0] not in place.names()
    with pytest.raises(FileNotFoundError):
        place.fetch(names[0], io.BytesIO())


def test_a_bucket_that_is_not_there_fails_as_a_folder_would(bucket, settings):
    settings.BACKUP_TARGET = "s3://another-bucket"
    for use in (lambda place: place.names(), lambda place: place.put(places.new_name(), io.BytesIO(b"x"))):
        with pytest.raises(OSError, match="The bucket "):
            use(places.place())


def test_what_a_killed_backup_left_is_no_backup_and_goes(folder):
    folder.mkdir()
    left = folder / "bitloot-20260301T000000Z.backup.part"
    left.write_bytes(b"half")
    assert places.place().names() == []
    places.place().put("bitloot-20260302T000000Z.backup", io.BytesIO(b"whole"))
    assert [path.name for path in folder.iterdir()] == ["bitloot-20260302T000000Z.backup"]


def test_two_backups_at_once_wait_for_each_other(folder):
    """The file that one is writing looks like what a killed one left, which the other would remove."""
    is_reading, may_end = threading.Event(), threading.Event()

    class Slow(io.BytesIO):
        def read(self, *size):
            is_reading.set()
            may_end.wait(10)
            return super().read(*size)

    first, second = (f"bitloot-2026030{day}T000000Z.backup" for day in (1, 2))
    with ThreadPoolExecutor(2) as threads:
        slow = threads.submit(places.place().put, first, Slow(b"first"))
        is_reading.wait(10)
        quick = threads.submit(places.place().put, second, io.BytesIO(b"second"))
        with pytest.raises(TimeoutError):
            quick.result(0.3)
        may_end.set()
        slow.result(10)
        quick.result(10)
    assert places.place().names() == [second, first]


def test_a_backup_of_the_same_second_replaces_none(folder):
    name = places.new_name()
    places.place().put(name, io.BytesIO(b"first"))
    with pytest.raises(FileExistsError, match="was started in the same second"):
        places.place().put(name, io.BytesIO(b"second"))
    assert [path.read_bytes() for path in folder.iterdir()] == [b"first"]


def test_a_backup_is_for_its_owner_alone(folder):
    places.place().put(places.new_name(), io.BytesIO(b"x"))
    assert [path.stat().st_mode & 0o777 for path in (folder, *folder.iterdir())] == [0o700, 0o600]


# --- the commands ---


class Shop:
    """A database with one product, and the commands over it."""

    def __init__(self, var, **options):
        ports = {"port": free_port(), "sandbox_port": free_port()}
        self.var = var
        own = {"BACKUP_SECRET": SECRET, "SAFE_MODE": "1", **options}
        self.env = process_environment(var, **ports, **{**EMBEDDED, **own})
        self.run("migrate", "-v0")
        self.slugs(add="first")

    def run(self, *arguments, code=0):
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=self.env, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout, done.stderr

    def slugs(self, add=""):
        if add:
            fields = f"slug='{add}', title='x', price=2, max_cost=1, supplier_product_id='x'"
            self.run("shell", "-v0", "-c", f"from orders.models import Product; Product.objects.create({fields})")
        url = self.env.get("MIGRATE_DATABASE_URL") or self.env["DATABASE_URL"]
        with closing(psycopg.connect(url) if url else sqlite3.connect(self.var / "bitloot.sqlite3")) as database:
            return [slug for (slug,) in database.execute("SELECT slug FROM orders_product ORDER BY slug")]


@pytest.fixture(scope="module")
def one_shop(tmp_path_factory):
    return Shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture
def shop(one_shop):
    """The shop as it was made: one product, no backup."""
    before = dict(one_shop.env)
    yield one_shop
    one_shop.env = before
    shutil.rmtree(one_shop.var / "backups", ignore_errors=True)
    with closing(sqlite3.connect(one_shop.var / "bitloot.sqlite3")) as database, database:
        database.execute("DELETE FROM orders_product WHERE slug != 'first'")


@pytest.mark.chaos
def test_a_backup_brings_the_database_back_and_stops_purchases(shop):
    made = json.loads(shop.run("backup", "--json")[0])
    (file,) = (shop.var / "backups").iterdir()
    assert (file.name, made["removed"], b"first" in file.read_bytes()) == (made["name"], [], False)
    assert shop.slugs(add="second") == ["first", "second"]
    assert "would replace the database" in shop.run("restore", "latest", "--dry-run")[0]
    shop.run("restore", "latest", code=64)
    shop.run("restore", "bitloot-20200101T000000Z.backup", "--yes", code=64)
    assert shop.slugs() == ["first", "second"]
    # 2: no provider runs here that could be asked.
    out, _ = shop.run("restore", "latest", "--yes", code=2)
    assert f"{file.name} is restored; purchases are stopped. Next:" in out
    assert "not in the object store" not in out
    assert shop.slugs() == ["first"]
    assert "safe mode by" in shop.run("safe_mode")[0]
    shop.run("restore", "latest", "--yes", code=2)
    assert shop.slugs() == ["first"]


@pytest.mark.chaos
def test_nothing_is_restored_while_a_process_has_the_database(shop):
    shop.run("backup")
    shop.slugs(add="second")
    with closing(sqlite3.connect(shop.var / "bitloot.sqlite3")) as worker:
        worker.execute("SELECT * FROM orders_product").fetchall()
        _, complaint = shop.run("restore", "latest", "--yes", code=1)
    assert "Nothing was restored. Stop web, worker and beat first" in complaint
    assert shop.slugs() == ["first", "second"]


@pytest.mark.chaos
def test_nothing_is_restored_from_a_damaged_file(shop):
    shop.run("backup")
    (file,) = (shop.var / "backups").iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    assert "It was cut or changed" in shop.run("restore", "latest", "--yes", code=1)[1]
    file.write_bytes(whole)
    shop.env["BACKUP_SECRET"] = SECRET[::-1]
    for how in ("--yes", "--dry-run"):
        assert "BACKUP_SECRET is another one" in shop.run("restore", "latest", how, code=1)[1]
    assert shop.slugs() == ["first"]


@pytest.mark.chaos
def test_only_the_newest_are_kept(shop):
    shop.env["BACKUP_KEEP"] = "2"
    old = [f"bitloot-2026030{day}T000000Z.backup" for day in (1, 2, 3)]
    (shop.var / "backups").mkdir()
    for name in old:
        (shop.var / "backups" / name).touch()
    made = json.loads(shop.run("backup", "--json")[0])
    assert made["removed"] == old[1::-1]
    assert json.loads(shop.run("backup", "--list", "--json")[0])["backups"] == [made["name"], old[2]]


@pytest.mark.chaos
def test_what_is_not_read_back_whole_is_removed(shop):
    """`restore latest` would take it, and the next backup would remove an older one for it."""
    command, env = [sys.executable, "manage.py", "backup"], {**shop.env, "FAILPOINT": "backup.stored:stop"}
    with subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True) as backup:
        os.waitpid(backup.pid, os.WUNTRACED)
        (file,) = (shop.var / "backups").iterdir()
        file.write_bytes(file.read_bytes()[:-1])
        backup.send_signal(signal.SIGCONT)
        complaint = backup.communicate(timeout=60)[1]
    assert (backup.returncode, "gave back other bytes" in complaint) == (1, True)
    assert list((shop.var / "backups").iterdir()) == []


@pytest.mark.chaos
def test_without_a_secret_no_backup_is_made(shop):
    shop.env["BACKUP_SECRET"] = ""
    for arguments in (("backup",), ("backup", "--dry-run")):
        assert "Set BACKUP_SECRET" in shop.run(*arguments, code=1)[1]
    assert not (shop.var / "backups").exists()


@pytest.mark.production
def test_postgresql_comes_back_with_the_rights_of_the_small_role(tmp_path):
    with Postgres() as server:
        role = server.url.replace("postgres@", "shop@")
        shop = Shop(tmp_path, DATABASE_URL=role, MIGRATE_DATABASE_URL=server.url)
        shop.run("grant_rights")
        shop.run("backup")
        assert shop.slugs(add="second") == ["first", "second"]
        shop.run("restore", "latest", "--yes", code=2)
        assert shop.slugs() == ["first"]
        shop.env["MIGRATE_DATABASE_URL"] = ""
        assert "safe mode by" in shop.run("safe_mode")[0]
        assert shop.slugs(add="third") == ["first", "third"]
        shop.env["MIGRATE_DATABASE_URL"] = server.url
        with closing(psycopg.connect(server.url)):
            _, complaint = shop.run("restore", "latest", "--yes", code=1)
        assert "Stop web, worker and beat first: 1 connections to the database are open." in complaint
        shop.env |= EMBEDDED | {"MIGRATE_DATABASE_URL": ""}
        assert "It is a backup of postgresql" in shop.run("restore", "latest", "--yes", code=1)[1]


@pytest.mark.nightly
@pytest.mark.production
def test_a_partitioned_timeline_comes_back(tmp_path):
    with Postgres() as server:
        shop = Shop(tmp_path, DATABASE_URL=server.url.replace("postgres@", "shop@"), MIGRATE_DATABASE_URL=server.url)
        shop.run("grant_rights")
        shop.run("partition_tables")
        parts = json.loads(shop.run("partition_tables", "--json")[0])["partitions"]
        shop.env["MIGRATE_DATABASE_URL"] = ""
        shop.run("backup")  # by the shop's own role, which reads each partition
        shop.env["MIGRATE_DATABASE_URL"] = server.url
        shop.run("partition_tables", "--undo")
        shop.run("restore", "latest", "--yes", code=2)
        assert json.loads(shop.run("partition_tables", "--json")[0])["partitions"] == parts
