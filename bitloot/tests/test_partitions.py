"""The timeline partitioned on a real PostgreSQL: every row and promise stays, writers hardly wait, and it goes back."""

import json
import threading
import time
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import ProgrammingError, connection, transaction
from django.utils import timezone

from bitloot.ops import partitions, rights
from bitloot.ops.doctor.services import database
from bitloot.ops.partitions import TABLE, next_month
from orders.models import Order, OrderEvent
from orders.tests.factories import make_order, make_paid_order

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]
TODAY = date(2026, 11, 29)
SCHEMA = """
SELECT 'column', column_name, data_type, is_nullable, column_default, is_identity
FROM information_schema.columns WHERE table_name = %s
UNION ALL SELECT 'index', indexname, regexp_replace(indexdef, ' ON (ONLY )?', ' ON '), '', '', '' FROM pg_indexes
WHERE tablename = %s
UNION ALL SELECT 'constraint', conname, pg_get_constraintdef(oid), '', '', '' FROM pg_constraint
WHERE conrelid = %s::regclass
UNION ALL SELECT 'right', grantee::regrole::text, privilege_type, '', '', ''
FROM pg_class CROSS JOIN aclexplode(relacl) WHERE pg_class.oid = %s::regclass
"""


@pytest.fixture(autouse=True)
def plain():
    """Give the next test the table as migrations make it."""
    if partitions.is_partitioned():
        partitions.undo()
    yield
    if partitions.is_half_done():
        partitions.withdraw()
    if partitions.is_partitioned():
        partitions.undo()


@pytest.fixture
def role():
    """The application's role, of this database alone: another process of the run has its own."""
    name = f"app_of_{connection.settings_dict['NAME']}"
    rights.grant(name)
    yield name
    with connection.cursor() as cursor:
        cursor.execute(f"DROP OWNED BY {name}")
        cursor.execute(f"DROP ROLE {name}")


def fetch(sql, *params):
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchall()


def schema():
    return {row for row in fetch(SCHEMA, TABLE, TABLE, TABLE, TABLE) if "pkey" not in row[1] or row[0] != "index"}


def timeline():
    return list(OrderEvent.objects.order_by("pk").values())


def place_of(event):
    return fetch(f"SELECT tableoid::regclass::text FROM {TABLE} WHERE id = %s", event.pk)[0][0]  # noqa: S608


def event_at(order, *moment):
    return OrderEvent.objects.create(order=order, kind="order", message="-", at=datetime(*moment, tzinfo=UTC))


def run(*arguments):
    out = StringIO()
    call_command("partition_tables", "--json", *arguments, stdout=out)
    return json.loads(out.getvalue())


def test_every_row_index_constraint_and_right_stays_and_comes_back(role):
    make_paid_order()
    rows, before = timeline(), schema()
    partitions.partition(TODAY)
    assert timeline() == rows
    gone = {row[2] for row in before - schema()}
    assert gone == {"PRIMARY KEY (id)"}, "a partition's key needs the month in it"
    assert [each.name for each in partitions.partitions()] == [
        f"{TABLE}_2027_01", f"{TABLE}_2027_02", f"{TABLE}_2027_03", f"{TABLE}_before", f"{TABLE}_rest"
    ]  # fmt: skip
    more = make_paid_order()
    assert more.events.latest("pk").pk > max(row["id"] for row in rows)
    event_at(more, 2027, 2, 1)
    rows = timeline()

    partitions.undo()
    assert timeline() == rows
    assert schema() == before
    assert make_paid_order().events.latest("pk").pk > max(row["id"] for row in rows)


def test_rows_go_to_their_month_and_late_ones_are_fetched_from_the_rest():
    order = make_order()
    partitions.partition(TODAY)
    moments = [(2026, 12, 31, 23, 59), (2027, 1, 1), (2027, 3, 31, 23), (2027, 4, 1), (2027, 6, 1)]
    events = [event_at(order, *moment) for moment in moments]
    suffixes = ["before", "2027_01", "2027_03", "rest", "rest"]
    assert [place_of(event) for event in events] == [f"{TABLE}_{suffix}" for suffix in suffixes]
    assert partitions.prepare_months(date(2026, 12, 30)) == [f"{TABLE}_2027_04"]
    rows = timeline()
    assert partitions.is_due(date(2027, 4, 2))
    made = [f"{TABLE}_2027_{month:02}" for month in (5, 6, 7)]
    assert partitions.prepare_months(date(2027, 4, 2)) == made
    assert not partitions.is_due(date(2027, 4, 2))
    assert [place_of(event) for event in events[3:]] == [f"{TABLE}_2027_04", f"{TABLE}_2027_06"]
    assert timeline() == rows
    assert partitions.prepare_months(date(2027, 4, 3)) == []


@pytest.mark.parametrize(
    ("today", "begins"),
    [(date(2026, 11, 28), date(2026, 12, 1)), (date(2026, 11, 29), date(2027, 1, 1)),
     (date(2026, 12, 31), date(2027, 2, 1)), (date(2027, 1, 1), date(2027, 2, 1))],
)  # fmt: skip
def test_the_first_month_begins_in_two_days_at_the_earliest(today, begins):
    assert partitions.first_month(today) == begins


def test_writers_go_on_meanwhile():
    order, stop, waits, errors = make_order(), threading.Event(), [], []

    def write():
        try:
            while not stop.is_set():
                started = time.monotonic()
                with transaction.atomic():
                    Order.objects.select_for_update().get(pk=order.pk)
                    event_at(order, 2026, 11, 29)
                waits.append(time.monotonic() - started)
        except Exception as err:  # noqa: BLE001 - shown below
            errors.append(err)
        finally:
            connection.close()

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        partitions.partition(TODAY)
        partitions.prepare_months(date(2027, 4, 2))
        partitions.undo()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert errors == []
    assert OrderEvent.objects.filter(order=order, message="-").count() == len(waits)
    assert max(waits) < 5


@contextmanager
def somebody_writes():
    """Hold the table as a transaction that takes its time does."""
    began, end = threading.Event(), threading.Event()

    def hold():
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"LOCK TABLE {TABLE} IN ROW EXCLUSIVE MODE")
            began.set()
            end.wait(60)
        connection.close()

    thread = threading.Thread(target=hold)
    thread.start()
    began.wait(60)
    try:
        yield
    finally:
        end.set()
        thread.join()


def test_a_table_that_is_never_free_stays_as_it_was(monkeypatch):
    monkeypatch.setattr(partitions, "TRIES", 2)
    before = schema()
    with monkeypatch.context() as patch:
        patch.setattr(partitions, "_build_index", lambda *_: None)  # it would wait for the writer as well
        with somebody_writes(), pytest.raises(CommandError, match="was in use all the time"):
            run()
    assert schema() == before
    assert fetch("SHOW statement_timeout") == [("15s",)]


def test_what_a_killed_run_left_is_named_taken_back_and_done_again():
    partitions._announce_end(date(2027, 1, 1))
    (said,) = [finding.message for finding in database() if "partition_tables" in finding.message]
    assert "was interrupted" in said
    assert partitions.prepare_months(TODAY) == []
    assert not partitions.is_half_done()
    partitions._announce_end(date(2027, 1, 1))
    partitions.partition(TODAY)
    assert partitions.is_partitioned()
    assert not partitions.is_half_done()


@pytest.mark.parametrize(
    ("make", "drop"),
    [("CREATE TABLE follower (event_id bigint REFERENCES orders_orderevent (id))", "DROP TABLE follower"),
     ("CREATE TRIGGER mine BEFORE UPDATE ON orders_orderevent FOR EACH ROW EXECUTE FUNCTION"
      " suppress_redundant_updates_trigger()", "DROP TRIGGER mine ON orders_orderevent")],
    ids=["foreign key", "trigger"],
)  # fmt: skip
def test_what_partitions_would_break_is_refused(make, drop):
    with connection.cursor() as cursor:
        cursor.execute(make)
        try:
            with pytest.raises(CommandError, match="Nothing was changed"):
                run()
        finally:
            cursor.execute(drop)
    assert not partitions.is_partitioned()


def test_the_shops_role_adds_through_the_whole_and_reads_each_part(role):
    order = make_order()
    partitions.partition(TODAY)
    partitions.prepare_months(date(2027, 4, 2))
    for _ in range(2):  # as the table came, and granted anew
        with connection.cursor() as cursor:
            cursor.execute(f"SET ROLE {role}")
            try:
                event_at(order, 2026, 11, 29)
                event_at(order, 2027, 1, 5)
                assert OrderEvent.objects.filter(order=order).count() >= 2
                for each in partitions.partitions():
                    cursor.execute(f"SELECT count(*) FROM {each.name}")
                    for change in (f"INSERT INTO {each.name} SELECT * FROM {TABLE}", f"DELETE FROM {each.name}"):
                        with pytest.raises(ProgrammingError, match="permission denied"):
                            cursor.execute(change)
                with pytest.raises(ProgrammingError, match="permission denied"):
                    cursor.execute(f"DELETE FROM {TABLE}")
                assert partitions.prepare_months(date(2028, 1, 1)) == []
            finally:
                cursor.execute("RESET ROLE")
        rights.grant(role)


def test_the_command_says_what_it_would_do_and_does_it_once():
    assert [run("--dry-run")["to_do"], partitions.is_partitioned()] == [True, False]
    done = run()
    begins = partitions.first_month(timezone.now().date())
    assert {"name": f"{TABLE}_{begins:%Y_%m}", "bound": bound(begins)} in done["partitions"]
    assert [run()["to_do"], run("--dry-run", "--undo")["to_do"], partitions.is_partitioned()] == [False, True, True]
    call_command("migrate", "--check", verbosity=0)
    assert run("--undo")["partitions"] == []
    assert run("--undo")["to_do"] is False


def bound(month):
    return f"FOR VALUES FROM ('{month} 00:00:00+00') TO ('{next_month(month)} 00:00:00+00')"


def test_prune_makes_the_coming_months(monkeypatch):
    partitions.partition(timezone.now().date() - timedelta(days=150))
    assert any("no partition for the next month" in finding.message for finding in database())
    out = StringIO()
    call_command("prune", "--json", stdout=out)
    assert json.loads(out.getvalue())["partitions"]
    assert not any("no partition for the next month" in finding.message for finding in database())


def test_history_that_was_detached_is_missed_by_nothing_but_undo():
    partitions.partition(TODAY)
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {TABLE} DETACH PARTITION {partitions.BEFORE}")
        try:
            assert partitions.prepare_months(date(2027, 4, 2))[-1] == f"{TABLE}_2027_07"
            with pytest.raises(CommandError, match="was detached"):
                run("--undo")
        finally:
            cursor.execute(
                f"ALTER TABLE {TABLE} ATTACH PARTITION {partitions.BEFORE} FOR VALUES FROM (MINVALUE) TO ('2027-01-01')"
            )


def test_prune_says_that_it_could_not_make_the_months(monkeypatch):
    partitions.partition(timezone.now().date() - timedelta(days=150))
    monkeypatch.setattr(partitions, "TRIES", 2)
    with somebody_writes(), pytest.raises(CommandError, match="the coming months have no partition yet"):
        call_command("prune")
