"""The timeline in PostgreSQL's partitions by month: made once by `partition_tables`, continued by `prune`.

The table as it was becomes the first partition, so no row is copied; months begin with the next one. docs/capacity.md
says why the log of webhooks stays as it is.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from typing import Any

from django.db import OperationalError, connection, transaction
from psycopg import sql

from orders.models import Order, OrderEvent

TABLE = OrderEvent._meta.db_table
BEFORE, REST = f"{TABLE}_before", f"{TABLE}_rest"
OLD_ENDS = f"{TABLE}_old_ends"
ONE_KEY, BY_MONTH = f"{TABLE}_one_key", f"{TABLE}_by_month"
MONTHS_AHEAD = 3
# The month that begins next has to be this far away, so that nothing runs into its beginning.
NOTICE = timedelta(days=2)
# Shorter than PostgreSQL's deadlock_timeout: what holds a lock that is wanted here is never ended for it.
LOCK_WAIT = "500ms"
TRIES = 40  # with that wait and the pause after it, 40 seconds


class CannotPartition(Exception):
    """The table is not as it is expected to be, or is never free; nothing was changed."""


@dataclass(frozen=True)
class Partition:
    name: str
    bound: str


def applies() -> bool:
    return connection.vendor == "postgresql"


def is_partitioned() -> bool:
    return applies() and bool(_one("SELECT relkind = 'p' FROM pg_class WHERE oid = to_regclass(%s)", TABLE))


def is_half_done() -> bool:
    """Return whether `partition` was killed, and has left behind that no row may be of the next month."""
    return applies() and bool(_one("SELECT 1 FROM pg_constraint WHERE conname = %s", OLD_ENDS))


def partitions() -> list[Partition]:
    rows = _all(
        "SELECT child.relname, pg_get_expr(child.relpartbound, child.oid) FROM pg_inherits"
        " JOIN pg_class child ON child.oid = inhrelid WHERE inhparent = to_regclass(%s) ORDER BY child.relname",
        TABLE,
    )
    return [Partition(*row) for row in rows]


def owns() -> bool:
    """Return whether this process may change the table, and not only its rows."""
    return bool(_one("SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = to_regclass(%s)", TABLE))


def first_month(today: date) -> date:
    """Return where the old table ends."""
    return next_month(today + NOTICE)


def next_month(day: date) -> date:
    return (day.replace(day=1) + timedelta(days=31)).replace(day=1)


# --- making them ---


def partition(today: date) -> None:
    """Turn the table into one partitioned by month. Raises CannotPartition, with the table as it was.

    Writers wait for the last step only, which moves no row. Killed half-way, it may be run again.
    """
    _require_ours()
    begins = first_month(today)
    with _patient():
        _build_index(TABLE, BY_MONTH, "id, at")
        try:
            # Checked now, beside running writers, so that it is not when everybody waits.
            _when_free(partial(_announce_end, begins))
            _run("ALTER TABLE {table} VALIDATE CONSTRAINT {ends}", ends=OLD_ENDS)
            _when_free(partial(_swap, begins))
        finally:
            if is_half_done():
                _when_free(withdraw)


def withdraw() -> None:
    """Take back what a killed `partition` has left: with it the timeline would refuse the rows of coming months."""
    _run("ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {ends}", ends=OLD_ENDS)


def _announce_end(begins: date) -> None:
    withdraw()
    _run("ALTER TABLE {table} ADD CONSTRAINT {ends} CHECK (at < {begins}) NOT VALID", ends=OLD_ENDS, begins=begins)


def _require_ours() -> None:
    if _one("SELECT count(*) FROM pg_constraint WHERE confrelid = to_regclass(%s)", TABLE):
        raise CannotPartition(f"another table refers to {TABLE}, by an id that would not be unique alone any more")
    if _one("SELECT count(*) FROM pg_trigger WHERE tgrelid = to_regclass(%s) AND NOT tgisinternal", TABLE):
        raise CannotPartition(f"{TABLE} has a trigger of its own, which would be left behind")


def _swap(begins: date) -> None:
    owner = _one("SELECT relowner::regrole::text FROM pg_class WHERE oid = to_regclass(%s)", TABLE)
    key = _key_of(TABLE)
    indexes = _all(
        "SELECT relname, pg_get_indexdef(indexrelid) FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid"
        " WHERE indrelid = to_regclass(%s) AND NOT indisprimary AND indexrelid <> to_regclass(%s)",
        TABLE, BY_MONTH,
    )  # fmt: skip
    constraints = _all(
        "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE conrelid = to_regclass(%s) AND contype IN ('c', 'f') AND conname <> %s",
        TABLE, OLD_ENDS,
    )  # fmt: skip
    # Asked before: the sequence goes with the column's identity.
    continues = _next_id()
    _run("ALTER TABLE {table} ALTER COLUMN id DROP IDENTITY")
    # The key of a partitioned table has to hold `at`. This index is built, so attaching the table builds none.
    _run("ALTER TABLE {table} DROP CONSTRAINT {key}", key=key)
    _run("ALTER TABLE {table} ADD CONSTRAINT {by_month} PRIMARY KEY USING INDEX {by_month}", by_month=BY_MONTH)
    # Out of the way: the new table's indexes get the names that Django knows.
    for name, _ in indexes:
        _run("ALTER INDEX {name} RENAME TO {old}", name=name, old=f"{name}_before")
    _run("ALTER TABLE {table} RENAME TO {before}")
    _run("CREATE TABLE {table} (LIKE {before} INCLUDING DEFAULTS INCLUDING STORAGE) PARTITION BY RANGE (at)")
    _run("ALTER TABLE {table} OWNER TO {owner}", owner=owner)
    _add_identity(continues)
    _run("ALTER TABLE {table} ADD CONSTRAINT {key} PRIMARY KEY (id, at)", key=key)
    for name, definition in constraints:
        _run("ALTER TABLE {table} ADD CONSTRAINT {name} {definition}", name=name, definition=sql.SQL(definition))
    for _, definition in indexes:
        _run("{definition}", definition=sql.SQL(definition))
    _give_rights(BEFORE, TABLE)
    # The constraint that was checked before proves the bound: PostgreSQL reads no row for it.
    _run("ALTER TABLE {table} ATTACH PARTITION {before} FOR VALUES FROM (MINVALUE) TO ({begins})", begins=begins)
    _run("ALTER TABLE {before} DROP CONSTRAINT {ends}", ends=OLD_ENDS)
    _run("CREATE TABLE {rest} PARTITION OF {table} DEFAULT")
    month = begins
    for _ in range(MONTHS_AHEAD):
        _make_month(month)
        month = next_month(month)
    _let_read()


def prepare_months(today: date) -> list[str]:
    """Make the partitions of the coming months; return their names. Nothing where there are none to continue."""
    if not applies() or not owns():
        return []
    if is_half_done():
        withdraw()
    if not is_partitioned():
        return []
    there = {each.name for each in partitions()}
    missing = [month for month in _coming(today) if _name_of(month) not in there]
    for month in missing:
        with _patient():
            _when_free(partial(_add_month, month))
    return [_name_of(month) for month in missing]


def is_due(today: date) -> bool:
    """Return whether the next month has no partition: its rows would go to the one for the rest."""
    return is_partitioned() and _name_of(_coming(today)[1]) not in {each.name for each in partitions()}


def _coming(today: date) -> list[date]:
    """Return this month and the coming ones, from the first that the old table does not hold."""
    months = [today.replace(day=1)]
    for each in partitions():
        if each.name == BEFORE:  # …TO ('2027-01-01 00:00:00+00')
            months = [max(*months, date.fromisoformat(each.bound.partition("TO ('")[2][:10]))]
    while len(months) <= MONTHS_AHEAD:
        months.append(next_month(months[-1]))
    return months


def _add_month(month: date) -> None:
    _make_month(month)
    _let_read()


def _make_month(month: date) -> None:
    """Attach a table instead of making it in its place: readers of the others do not wait."""
    name, ends = _name_of(month), next_month(month)
    _run("CREATE TABLE {name} (LIKE {table} INCLUDING DEFAULTS INCLUDING STORAGE)", name=name)
    # What came while nobody had made the month; with such rows elsewhere, the partition would be refused.
    _run(
        "WITH late AS (DELETE FROM {rest} WHERE at >= {month} AND at < {ends} RETURNING *)"
        " INSERT INTO {name} SELECT * FROM late",
        name=name, month=month, ends=ends,
    )  # fmt: skip
    _run(
        "ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ({month}) TO ({ends})",
        name=name, month=month, ends=ends,
    )  # fmt: skip


def _name_of(month: date) -> str:
    return f"{TABLE}_{month:%Y_%m}"


# --- taking them back ---


def undo() -> None:
    """Make it one plain table again. Writers wait while the rows of the months are copied into it.

    Raises CannotPartition.
    """
    if BEFORE not in {each.name for each in partitions()}:
        raise CannotPartition(f"{BEFORE} was detached, and the others have to be joined to it; attach it first")
    with _patient():
        _build_index(BEFORE, ONE_KEY, "id")
        _when_free(_join)


def _join() -> None:
    continues, key = _next_id(), _key_of(TABLE)
    names = _all(
        "SELECT child.relname, parent.relname FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid"
        " JOIN pg_class parent ON parent.oid = inhparent JOIN pg_index ON indexrelid = child.oid"
        " WHERE indrelid = to_regclass(%s) AND NOT indisprimary",
        BEFORE,
    )
    _run("ALTER TABLE {table} DETACH PARTITION {before}")
    _run("INSERT INTO {before} SELECT * FROM {table}")
    # Before the table goes: its rights go with it.
    _give_rights(TABLE, BEFORE)
    _run("DROP TABLE {table}")
    _run("ALTER TABLE {before} RENAME TO {table}")
    for child, parent in names:
        _run("ALTER INDEX {child} RENAME TO {parent}", child=child, parent=parent)
    _run("ALTER TABLE {table} DROP CONSTRAINT {by_month}", by_month=BY_MONTH)
    _run("ALTER INDEX {one} RENAME TO {key}", one=ONE_KEY, key=key)
    _run("ALTER TABLE {table} ADD CONSTRAINT {key} PRIMARY KEY USING INDEX {key}", key=key)
    _add_identity(continues)
    _let_read()


# --- statements ---


@contextmanager
def _patient() -> Iterator[None]:
    """Let statements of this connection take their time, and wait for locks only briefly."""
    limits = {"statement_timeout": "0", "lock_timeout": LOCK_WAIT}
    before = {name: _one("SELECT current_setting(%s)", name) for name in limits}
    _set(limits)
    try:
        yield
    finally:
        _set(before)


def _set(limits: dict[str, Any]) -> None:
    for name, value in limits.items():
        _one("SELECT set_config(%s, %s, false)", name, value)


def _when_free(change: Callable[[], object]) -> None:
    """Make the change in one transaction once both tables are free. Raises CannotPartition."""
    for _ in range(TRIES):
        try:
            with transaction.atomic():
                # A table with checks that wait for the commit could not be changed.
                _run("SET CONSTRAINTS ALL IMMEDIATE")
                # In the order in which the shop takes them, and before anything is done: attaching the old table
                # replaces its foreign key, and would wait for orders with the timeline locked already.
                _run("LOCK TABLE {orders} IN ACCESS EXCLUSIVE MODE", orders=Order._meta.db_table)
                _run("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
                change()
            return
        except OperationalError as err:
            if getattr(err.__cause__, "sqlstate", "") != "55P03":  # lock_not_available
                raise
            time.sleep(0.5)
    raise CannotPartition(f"{TABLE} was in use all the time; try again when less is going on")


def _build_index(table: str, name: str, columns: str) -> None:
    valid = _one("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)", name)
    if valid:
        return
    _run("DROP INDEX IF EXISTS {name}", name=name)  # a killed build leaves one that nobody may use
    _set({"lock_timeout": "0"})  # it waits for transactions that were there before it, and blocks nobody
    _run(
        "CREATE UNIQUE INDEX CONCURRENTLY {name} ON {on} ({columns})",
        name=name, on=table, columns=sql.SQL(columns),
    )  # fmt: skip
    _set({"lock_timeout": LOCK_WAIT})


def _key_of(table: str) -> str:
    return str(_one("SELECT conname FROM pg_constraint WHERE conrelid = to_regclass(%s) AND contype = 'p'", table))


def _next_id() -> int:
    return int(_one("SELECT nextval(pg_get_serial_sequence(%s, 'id'))", TABLE))


def _add_identity(start: int) -> None:
    _run(
        "ALTER TABLE {table} ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY"
        " (SEQUENCE NAME {sequence} START WITH {start})",
        sequence=f"{TABLE}_id_seq", start=start,
    )  # fmt: skip


def _give_rights(source: str, target: str) -> None:
    """Let everybody do with the target what they may do with the source."""
    for role, action in _rights_on(source):
        _run("GRANT {action} ON {target} TO {role}", target=target, role=role, action=sql.SQL(action))


def _let_read() -> None:
    """Leave the partitions to those who go through the table; reading them is for backups, which go one by one."""
    given = _rights_on(TABLE)
    readers = {role for role, action in given if action == "SELECT"}
    for each in partitions():
        for role in {role for role, _ in _rights_on(each.name)}:
            _run("REVOKE ALL ON {name} FROM {role}", name=each.name, role=role)
        for role in readers:
            _run("GRANT SELECT ON {name} TO {role}", name=each.name, role=role)
    for role in readers:
        _run("GRANT USAGE, SELECT ON SEQUENCE {sequence} TO {role}", sequence=f"{TABLE}_id_seq", role=role)


def _rights_on(table: str) -> list[Any]:
    return _all(
        "SELECT rolname, privilege_type FROM pg_class CROSS JOIN aclexplode(relacl) JOIN pg_roles role"
        " ON role.oid = grantee WHERE pg_class.oid = to_regclass(%s) AND grantee <> relowner",
        table,
    )


def _run(text: str, **parts: Any) -> None:
    names = {"table": TABLE, "before": BEFORE, "rest": REST} | parts
    formatted = {name: _part(value) for name, value in names.items()}
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL(text).format(**formatted))


def _part(value: Any) -> sql.Composable:
    if isinstance(value, sql.Composable):
        return value
    if isinstance(value, date):
        return sql.Literal(f"{value.isoformat()} 00:00:00+00")
    return sql.Identifier(value) if isinstance(value, str) else sql.Literal(value)


def _one(text: str, *params: Any) -> Any:
    found = _all(text, *params)
    return found[0][0] if found else None


def _all(text: str, *params: Any) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(text, params)
        return cursor.fetchall()
