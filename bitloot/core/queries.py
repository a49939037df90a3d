"""Plain statements that run dozens of times for each order.

Django builds the SQL of a query anew each time it runs, which costs three times as much as running it; these are put
together from the columns' names. Values, expressions and rows still go through the fields of the model, so they mean
the same as in a queryset. Wherever it is not hot, and for anything more than these can do: use a queryset.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import chain
from typing import Any, TypeVar

from django.db import DEFAULT_DB_ALIAS, connections, models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper
from django.db.models.expressions import DatabaseDefault
from django.db.models.functions import Now
from django.db.models.sql import UpdateQuery

Row = TypeVar("Row", bound=models.Model)
Other = TypeVar("Other", bound=models.Model)
# Fields whose pre_save only reads the attribute (dates: unless they have auto_now or auto_now_add).
_HARMLESS = (models.Field.pre_save, models.DateField.pre_save, models.DateTimeField.pre_save)
Where = Mapping[str, Any]  # field (or "pk") to value; None is IS NULL
Part = tuple[type[models.Model], tuple[str, ...]]  # a model, and the fields of it that are read: () for all


class NotForThis(TypeError):
    """The model has a field that only `save()` fills; these statements would leave it out."""


def execute(sql: str, params: Sequence[Any]) -> CursorWrapper:
    cursor = connections[DEFAULT_DB_ALIAS].cursor()
    cursor.execute(sql, params)
    return cursor


def select(
    model: type[Row],
    where: Where,
    *,
    only: tuple[str, ...] = (),
    join: tuple[str, ...] = (),
    lock: bool = False,
) -> list[Row]:
    """Return the rows with these values, in no order; with `lock`, locked where the database knows that.

    The lock, FOR NO KEY UPDATE, keeps out who locks or changes the row, but not who writes one that refers to it.

    `join` names foreign keys that are never NULL, whose rows are brought along. `only` names the fields that are read,
    among them the primary key; any other is read when somebody asks for it, as after `QuerySet.only`.
    """
    db = connections[DEFAULT_DB_ALIAS]
    condition, params = _condition(db, model, where)
    end = " FOR NO KEY UPDATE" if lock and db.vendor == "postgresql" else ""
    parts = ((model, only), *((_field(model, name).related_model, ()) for name in join))
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


def select_with(
    model: type[Row], where: Where, other: type[Other], other_where: Where, *, only: tuple[str, ...] = ()
) -> list[tuple[Row, Other | None]]:
    """Return the rows as `select` would, each paired with the one row of another model with those values, or None."""
    db = connections[DEFAULT_DB_ALIAS]
    condition, params = _condition(db, model, where)
    other_condition, more = _condition(db, other, other_where)
    parts = ((model, only), (other, ()))
    tables = f"{_table(model)} LEFT JOIN {_table(other)} ON {other_condition}"
    found = _fetch(parts, f"SELECT {_joined_columns(parts)} FROM {tables} WHERE {condition}", [*more, *params])  # noqa: S608
    return [(row, match if match.pk is not None else None) for row, match in found]


def update(
    model: type[models.Model],
    where: Where,
    values: Mapping[str, Any],
    *,
    if_exists: tuple[type[models.Model], Where] | None = None,
) -> int:
    """Change the rows with these values and return how many; with `if_exists`, only if such another row is there."""
    sql, params = _change(model, where, values, if_exists)
    return int(execute(sql, params).rowcount)


def update_returning(
    model: type[models.Model],
    where: Where,
    values: Mapping[str, Any],
    *,
    names: Sequence[str],
    if_exists: tuple[type[models.Model], Where] | None = None,
) -> tuple[Any, ...] | None:
    """Change the one row as `update` would; return what these fields hold now, or None if there is no such row."""
    sql, params = _change(model, where, values, if_exists)
    found = execute(sql + _returning(model, names), params).fetchall()
    return _converted(model, names, found[0]) if found else None


def _change(
    model: type[models.Model],
    where: Where,
    values: Mapping[str, Any],
    if_exists: tuple[type[models.Model], Where] | None,
) -> tuple[str, list[Any]]:
    db = connections[DEFAULT_DB_ALIAS]
    _attributes(model)  # refuses a model whose values would not be whole
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

    The row then has what the database made as well: serial numbers, defaults, expressions.
    """
    end = f" ON CONFLICT ({_column(type(row), unless_taken)}) DO NOTHING" if unless_taken else ""
    return bool(_insert([row], end))


def insert_if_unique(row: models.Model) -> bool:
    """Save a new row as `insert` would. Return False, with nothing done, if any unique value of it is taken."""
    return bool(_insert([row], " ON CONFLICT DO NOTHING"))


def insert_all(rows: Sequence[models.Model]) -> None:
    """Save new rows of one model as `insert` would, in one statement.

    Raises ValueError unless they all have values for the same fields.
    """
    if rows:
        _insert(rows, "")


def insert_with(row: models.Model, *others: Sequence[models.Model]) -> None:
    """Save a new row as `insert` would, and others that belong to it: each of `others` are rows of one model.

    One statement on PostgreSQL, which also runs what stands in WITH; SQLite gets one for each model. Of the others
    nothing is read back, so whoever needs what the database made of them uses `insert_all`.
    """
    db = connections[DEFAULT_DB_ALIAS]
    statements = [_insertion(db, rows)[:2] for rows in others if rows]
    if db.vendor == "postgresql" and statements:
        listed = ", ".join(f"with_{number} AS ({sql})" for number, (sql, _) in enumerate(statements))
        _insert([row], "", f"WITH {listed} ", [value for _, params in statements for value in params])
    else:
        insert(row)
        for sql, params in statements:
            execute(sql, params)
    for other in chain(*others):
        _mark_saved(other)


def _insert(rows: Sequence[models.Model], end: str, before: str = "", params: Sequence[Any] = ()) -> int:
    db, model = connections[DEFAULT_DB_ALIAS], type(rows[0])
    sql, more, given = _insertion(db, rows)
    made = [name for name in _attributes(model) if _is_made(name, given)] or ["pk"]
    saved = execute(before + sql + end + _returning(model, made), [*params, *more]).fetchall()
    # The database returns the rows in the order of VALUES; Django's bulk_create relies on that as well.
    # Not strict, since ON CONFLICT DO NOTHING brings back no row.
    for row, values in zip(rows, saved, strict=False):
        _mark_saved(row)
        for name, value in zip(made, _converted(model, made, values), strict=True):
            setattr(row, name, value)
    return len(saved)


def _mark_saved(row: models.Model) -> None:
    # As `save()` leaves it: a later `save()` would otherwise insert a row with a default primary key once more. Django
    # documents Model._state, and has no method that marks an instance as saved.
    row._state.adding, row._state.db = False, DEFAULT_DB_ALIAS


def _insertion(db: BaseDatabaseWrapper, rows: Sequence[models.Model]) -> tuple[str, list[Any], list[dict[str, Any]]]:
    """Return the statement that inserts the rows, its parameters, and the values of each row."""
    model = type(rows[0])
    given, tuples, params = [_given(row) for row in rows], [], []
    if any(type(row) is not model for row in rows) or any(values.keys() != given[0].keys() for values in given):
        raise ValueError(f"{model._meta.label}: these rows have values for different fields")
    for values in given:
        pieces, more = _values(db, model, values)
        tuples.append(f"({', '.join(pieces)})")
        params += more
    listed = ", ".join(_column(model, name) for name in given[0])
    return f"INSERT INTO {_table(model)} ({listed}) VALUES {', '.join(tuples)}", params, given  # noqa: S608


def _given(row: models.Model) -> dict[str, Any]:
    # Not getattr, which would read a deferred column from the database.
    held, model = row.__dict__, type(row)
    given = {name: value for name in _attributes(model) if not isinstance(value := held[name], DatabaseDefault)}
    if row.pk is None:
        del given[_field(model, "pk").attname]
    return given


def _is_made(name: str, given: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether only the database knows the value: of a default, a serial number, an expression."""
    return any(name not in values or hasattr(values[name], "resolve_expression") for values in given)


def _returning(model: type[models.Model], names: Sequence[str]) -> str:
    return " RETURNING " + ", ".join(_column(model, name) for name in names)


def fetch(model: type[Row], sql: str, params: Sequence[Any]) -> list[Row]:
    """Return what a statement that gives back `columns(model)` brings."""
    return [row for (row,) in _fetch(((model, ()),), sql, params)]


def _fetch(parts: tuple[Part, ...], sql: str, params: Sequence[Any]) -> list[list[Any]]:
    db = connections[DEFAULT_DB_ALIAS]
    rows: Iterable[Sequence[Any]] = execute(sql, params).fetchall()
    cuts = _cuts(parts, db.vendor)
    return [
        [part.from_db(db.alias, names, _apply(db, steps, row[cut])) for part, names, cut, steps in cuts] for row in rows
    ]


def _converted(model: type[models.Model], names: Sequence[str], values: Sequence[Any]) -> tuple[Any, ...]:
    db = connections[DEFAULT_DB_ALIAS]
    return tuple(_apply(db, _conversions(model, tuple(names), db.vendor), values))


def _apply(db: BaseDatabaseWrapper, steps: Sequence[tuple[int, Any, Any]], values: Sequence[Any]) -> Sequence[Any]:
    if not steps:
        return values
    converted = list(values)
    for place, convert, expression in steps:
        converted[place] = convert(converted[place], expression, db)
    return converted


@cache
def _conversions(model: type[models.Model], names: tuple[str, ...], vendor: str) -> list[tuple[int, Any, Any]]:
    """Return what turns the driver's values into the fields': which value, how, and of which expression."""
    db, steps = connections[DEFAULT_DB_ALIAS], []
    for place, name in enumerate(names):
        expression = _field(model, name).get_col(model._meta.db_table)
        for convert in [*db.ops.get_db_converters(expression), *expression.get_db_converters(db)]:
            steps.append((place, convert, expression))
    return steps


@cache
def columns(model: type[models.Model]) -> str:
    """Return the columns of whole rows, as `fetch` expects them."""
    return ", ".join(_column(model, name) for name in _attributes(model))


@cache
def _attributes(model: type[models.Model], only: tuple[str, ...] = ()) -> list[str]:
    """Return the attributes of the columns. Raises NotForThis for a model that needs `save()`."""
    fields = concrete_fields(model)
    for field in fields:
        # Loudly, because a forgotten auto_now would only show in wrong times, months later.
        if (
            type(field).pre_save not in _HARMLESS
            or getattr(field, "auto_now", False)
            or getattr(field, "auto_now_add", False)
        ):
            raise NotForThis(f"{field} is filled by save(): use a queryset, or db_default=Now()")
    return [field.attname for field in fields if not only or field.name in only]


def concrete_fields(model: type[models.Model]) -> list[Any]:
    """Return the fields that have a column in the model's own table, in the columns' order."""
    return [field for field in model._meta.get_fields() if field.concrete and not field.many_to_many]


@cache
def _cuts(parts: tuple[Part, ...], vendor: str) -> list[tuple[Any, list[str], slice, Any]]:
    """Return for each model of a joined row its attributes, where they stand, and how their values are converted."""
    cuts, end = [], 0
    for part, only in parts:
        names = _attributes(part, only)
        cuts.append((part, names, slice(end, end + len(names)), _conversions(part, tuple(names), vendor)))
        end += len(names)
    return cuts


@cache
def _joined_columns(parts: tuple[Part, ...]) -> str:
    names = ((part, name) for part, only in parts for name in _attributes(part, only))
    return ", ".join(f"{_table(part)}.{_column(part, name)}" for part, name in names)


@cache
def _joined_tables(model: type[models.Model], join: tuple[str, ...]) -> str:
    sql = _table(model)
    for name in join:
        other = _field(model, name).related_model
        theirs, ours = f"{_table(other)}.{_column(other, 'pk')}", f"{_table(model)}.{_column(model, name)}"
        sql += f" JOIN {_table(other)} ON {theirs} = {ours}"
    return sql


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
        # Exactly Now: `Later` is one as well, with other SQL.
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
