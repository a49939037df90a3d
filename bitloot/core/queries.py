"""Plain statements that run dozens of times for each order.

Django builds the SQL of a query anew each time it runs, which costs three times as much as running it; these are put
together from the columns' names. Values, expressions and rows still go through the fields of the model, so they mean
the same as in a queryset. Wherever it is not hot, and for anything more than these can do: use a queryset.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar, cast

from django.db import DEFAULT_DB_ALIAS, connections, models, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper
from django.db.models.expressions import DatabaseDefault
from django.db.models.functions import Now
from django.db.models.sql import UpdateQuery

Row = TypeVar("Row", bound=models.Model)
Where = Mapping[str, Any]  # field (or "pk") to value; None is IS NULL
_later = threading.local()


def execute(sql: str, params: Sequence[Any]) -> CursorWrapper:
    """Run one statement; read what the cursor has before the next one, for which the connection uses it again.

    A cursor made for each statement would cost a third of what running it does.
    """
    db: Any = connections[DEFAULT_DB_ALIAS]
    db.close_if_health_check_failed()
    cursor: Any = db.__dict__.get("kept_cursor")
    if cursor is None or db.connection is None or cursor.connection is not db.connection or db.queries_logged:
        cursor = db.kept_cursor = db.cursor()
    cursor.execute(sql, params)
    return cast("CursorWrapper", cursor)


def select(model: type[Row], where: Where, *, join: tuple[str, ...] = (), lock: bool = False) -> list[Row]:
    """Return the rows with these values, in no order; with `lock`, locked where the database knows that.

    The lock, FOR NO KEY UPDATE, keeps out who locks or changes the row, but not who writes one that refers to it.

    `join` names foreign keys that are never NULL, whose rows are brought along.
    """
    db = connections[DEFAULT_DB_ALIAS]
    condition, params = _condition(db, model, where)
    end = " FOR NO KEY UPDATE" if lock and db.features.has_select_for_update else ""
    parts = (model, *(_field(model, name).related_model for name in join))
    sql = f"SELECT {_joined_columns(parts)} FROM {_joined_tables(model, join)} WHERE {condition}{end}"  # noqa: S608
    found = []
    for row, *related in _fetch(parts, sql, params):
        for name, other in zip(join, related, strict=True):
            setattr(row, name, other)
        found.append(row)
    return found


def get(model: type[Row], pk: Any, *, join: tuple[str, ...] = (), lock: bool = False) -> Row:
    """Return one row as `select` would. Raises the model's DoesNotExist."""
    found = select(model, {"pk": pk}, join=join, lock=lock)
    if not found:
        raise model.DoesNotExist(f"{model._meta.label} {pk} does not exist")  # type: ignore[attr-defined]
    return found[0]


def update(
    model: type[models.Model],
    where: Where,
    values: Mapping[str, Any],
    *,
    if_exists: tuple[type[models.Model], Where] | None = None,
) -> int:
    """Change the rows with these values and return how many; with `if_exists`, only if such another row is there."""
    sql, params = _updating(model, where, values, if_exists)
    return int(execute(sql, params).rowcount)


def update_returning(
    model: type[models.Model],
    where: Where,
    values: Mapping[str, Any],
    *,
    returning: Sequence[str],
    if_exists: tuple[type[models.Model], Where] | None = None,
) -> list[dict[str, Any]]:
    """Change rows as `update` would; return the named fields of each as the database holds them now."""
    sql, params = _updating(model, where, values, if_exists)
    names = tuple(returning)
    columns = ", ".join(_column(model, name) for name in names)
    db = connections[DEFAULT_DB_ALIAS]
    rows: Iterable[Sequence[Any]] = execute(f"{sql} RETURNING {columns}", params).fetchall()
    compiler = UpdateQuery(model).get_compiler(connection=db)
    converters = compiler.get_converters([_field(model, name).get_col(model._meta.db_table) for name in names])
    if converters:
        rows = compiler.apply_converters(rows, converters)
    return [dict(zip(names, row, strict=True)) for row in rows]


def _updating(
    model: type[models.Model],
    where: Where,
    values: Mapping[str, Any],
    if_exists: tuple[type[models.Model], Where] | None,
) -> tuple[str, list[Any]]:
    db = connections[DEFAULT_DB_ALIAS]
    pieces, params = _values(db, model, values)
    assignments = ", ".join(f"{_column(model, name)} = {sql}" for name, sql in zip(values, pieces, strict=True))
    condition, more = _condition(db, model, where)
    params += more
    if if_exists is not None:
        other, more = _condition(db, *if_exists)
        condition += f" AND EXISTS (SELECT 1 FROM {_table(if_exists[0])} WHERE {other})"  # noqa: S608
        params += more
    return f"UPDATE {_table(model)} SET {assignments} WHERE {condition}", params  # noqa: S608


def insert(row: models.Model, *, unless_taken: str = "") -> bool:
    """Save a new row. Return False, with nothing done, if another row has its value of the field `unless_taken`.

    What the database makes, such as a serial number, is not known afterwards; a default is read when it is asked for.
    """
    end = f" ON CONFLICT ({_column(type(row), unless_taken)}) DO NOTHING" if unless_taken else ""
    return bool(_insert([row], end))


def insert_all(rows: Sequence[models.Model]) -> None:
    """Save new rows as `insert` would, in one statement for all models where the database can do that.

    Raises ValueError unless all rows of a model have values for the same fields.
    """
    groups = [[row for row in rows if type(row) is model] for model in dict.fromkeys(map(type, rows))]
    if len(groups) > 1 and connections[DEFAULT_DB_ALIAS].vendor == "postgresql":
        _insert_at_once(groups)
        return
    for group in groups:
        _insert(group, "")


@contextmanager
def together() -> Iterator[None]:
    """Run the block in a transaction, and write at its end what it left to `insert_later`.

    What a block within it left behind is dropped if that ends with an error; a mere savepoint does not take it back.
    """
    outer: list[models.Model] | None = getattr(_later, "rows", None)
    rows: list[models.Model] = []
    with transaction.atomic():
        _later.rows = rows
        try:
            yield
        finally:
            _later.rows = outer
        if outer is not None:
            outer.extend(rows)
            return
        insert_all(rows)


def insert_later(*rows: models.Model) -> None:
    """Save new rows that nobody reads before the end of `together`; outside of one, save them now."""
    waiting: list[models.Model] | None = getattr(_later, "rows", None)
    if waiting is None:
        insert_all(rows)
    else:
        waiting.extend(rows)


def _insert(rows: Sequence[models.Model], end: str) -> int:
    sql, params = _insertion(rows)
    saved = int(execute(sql + end, params).rowcount)
    if saved:
        _mark_saved(rows)
    return saved


def _insert_at_once(groups: Sequence[Sequence[models.Model]]) -> None:
    *others, last = (_insertion(rows) for rows in groups)
    parts = ", ".join(f"part{number} AS ({sql})" for number, (sql, _) in enumerate(others))
    execute(f"WITH {parts} {last[0]}", [value for _, params in (*others, last) for value in params])
    for rows in groups:
        _mark_saved(rows)


def _insertion(rows: Sequence[models.Model]) -> tuple[str, list[Any]]:
    db, model = connections[DEFAULT_DB_ALIAS], type(rows[0])
    given, tuples, params = [_given(row) for row in rows], [], []
    if any(values.keys() != given[0].keys() for values in given):
        raise ValueError(f"{model._meta.label}: these rows have values for different fields")
    for values in given:
        pieces, more = _values(db, model, values)
        tuples.append(f"({', '.join(pieces)})")
        params += more
    listed = ", ".join(_column(model, name) for name in given[0])
    return f"INSERT INTO {_table(model)} ({listed}) VALUES {', '.join(tuples)}", params  # noqa: S608


def _mark_saved(rows: Sequence[models.Model]) -> None:
    for row in rows:
        row._state.adding, row._state.db = False, DEFAULT_DB_ALIAS
        for name in [name for name, value in row.__dict__.items() if isinstance(value, DatabaseDefault)]:
            del row.__dict__[name]


def _given(row: models.Model) -> dict[str, Any]:
    made, model = row.__dict__, type(row)
    given = {name: value for name in _attributes(model) if not isinstance(value := made[name], DatabaseDefault)}
    if row.pk is None:
        del given[_field(model, "pk").attname]
    return given


def fetch(model: type[Row], sql: str, params: Sequence[Any]) -> list[Row]:
    """Return what a statement that gives back `columns(model)` brings."""
    return [row for (row,) in _fetch((model,), sql, params)]


def _fetch(parts: tuple[type[Any], ...], sql: str, params: Sequence[Any]) -> list[list[Any]]:
    db = connections[DEFAULT_DB_ALIAS]
    rows: Iterable[Sequence[Any]] = execute(sql, params).fetchall()
    if rows and (converters := _converters(parts, db.vendor)):
        rows = UpdateQuery(parts[0]).get_compiler(connection=db).apply_converters(rows, converters)
    cuts = _cuts(parts)
    return [[part.from_db(db.alias, names, row[cut]) for part, names, cut in cuts] for row in rows]


@cache
def columns(model: type[models.Model]) -> str:
    """Return the columns of whole rows, as `fetch` expects them."""
    return ", ".join(_column(model, name) for name in _attributes(model))


@cache
def _attributes(model: type[models.Model]) -> list[str]:
    return [field.attname for field in model._meta.concrete_fields]


@cache
def _cuts(parts: tuple[type[models.Model], ...]) -> list[tuple[Any, list[str], slice]]:
    """Return for each model of a joined row the names of its attributes, and where they stand."""
    cuts, end = [], 0
    for part in parts:
        names = _attributes(part)
        cuts.append((part, names, slice(end, end + len(names))))
        end += len(names)
    return cuts


@cache
def _joined_columns(parts: tuple[type[models.Model], ...]) -> str:
    return ", ".join(f"{_table(part)}.{_column(part, name)}" for part in parts for name in _attributes(part))


@cache
def _joined_tables(model: type[models.Model], join: tuple[str, ...]) -> str:
    sql = _table(model)
    for name in join:
        other = _field(model, name).related_model
        theirs, ours = f"{_table(other)}.{_column(other, 'pk')}", f"{_table(model)}.{_column(model, name)}"
        sql += f" JOIN {_table(other)} ON {theirs} = {ours}"
    return sql


@cache
def _converters(parts: tuple[type[models.Model], ...], vendor: str) -> dict[int, Any]:
    compiler = UpdateQuery(parts[0]).get_compiler(using=DEFAULT_DB_ALIAS)
    read = [field.get_col(part._meta.db_table) for part in parts for field in part._meta.concrete_fields]
    return dict(compiler.get_converters(read))


@cache
def _field(model: type[models.Model], name: str) -> Any:
    return model._meta.pk if name == "pk" else model._meta.get_field(name)


@cache
def _column(model: type[models.Model], name: str) -> str:
    return connections[DEFAULT_DB_ALIAS].ops.quote_name(_field(model, name).column)


@cache
def _table(model: type[models.Model]) -> str:
    return connections[DEFAULT_DB_ALIAS].ops.quote_name(model._meta.db_table)


def _condition(db: BaseDatabaseWrapper, model: type[models.Model], where: Where) -> tuple[str, list[Any]]:
    pieces, params = [], []
    for name, value in where.items():
        if value is None:
            pieces.append(f"{_table(model)}.{_column(model, name)} IS NULL")
        else:
            pieces.append(f"{_table(model)}.{_column(model, name)} = %s")
            params.append(_field(model, name).get_db_prep_value(value, db))
    return " AND ".join(pieces), params


def _values(
    db: BaseDatabaseWrapper, model: type[models.Model], values: Mapping[str, Any]
) -> tuple[list[str], list[Any]]:
    """Return for each value the SQL that stands for it, and the parameters of all."""
    pieces: list[str] = []
    params: list[Any] = []
    for name, value in values.items():
        if type(value) is Now:
            pieces.append(_now(model, db.vendor))
        elif hasattr(value, "resolve_expression"):
            sql, more = _compiled(model, value)
            pieces.append(sql)
            params += more
        else:
            pieces.append("%s")
            params.append(_field(model, name).get_db_prep_save(value, db))
    return pieces, params


@cache
def _now(model: type[models.Model], vendor: str) -> str:
    return _compiled(model, Now())[0]


def _compiled(model: type[models.Model], expression: Any) -> tuple[str, Sequence[Any]]:
    compiler = UpdateQuery(model).get_compiler(using=DEFAULT_DB_ALIAS)
    return compiler.compile(expression.resolve_expression(compiler.query, for_save=True))
