"""One batch of orders, stored many times: each copy a while earlier than the one before, under names of its own.

PostgreSQL makes a copy itself, one INSERT … SELECT per table from a temporary table; SQLite gets the rows from here.
Both find the same ids, so a copy that is there is recognised by its first order.
"""

import json
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from hashlib import md5, sha256
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection
from django.db.models import Model, OuterRef, Subquery

from bitloot.core.queries import concrete_fields
from bitloot.management.seeding.stories import MODELS
from fulfillment.models import Reservation
from orders.models import Alert, Email, Order
from payments.models import Payment, Refund, RefundAddress
from storage.models import Key, KeyDeliveryLog
from webhooks.models import WebhookLog

APART = 100_000  # between the provider's numbers of one copy and of the next
CUSTOMERS = 400  # copies until a customer comes again


@dataclass(frozen=True)
class Copy:
    number: int
    earlier: timedelta


@dataclass(frozen=True)
class Rule:
    """What a column becomes in a copy: in SQL, where `{0}` is the column, and here."""

    sql: str
    make: Callable[[Any, Copy], Any]


def copied_id(value: Any, copy: Copy) -> uuid.UUID:
    return uuid.UUID(md5(f"{value}{copy.number}".encode(), usedforsecurity=False).hexdigest())


def _named(value: str, copy: Copy) -> str:
    """Numbers stay numbers, any other name stays as long as it was."""
    if value.isdigit():
        return str(int(value) + copy.number * APART)
    return sha256(f"{value}{copy.number}".encode()).hexdigest()[: len(value)]


def _customer(value: str, copy: Copy) -> str:
    name, _, place = value.partition("@")
    return f"{name}.{copy.number % CUSTOMERS}@{place}"


def _body(value: bytes, copy: Copy) -> bytes:
    """Have the name in a body, with which it begins, follow the row's."""
    name = _FIRST_NAME.search(value.decode())
    return value if name is None else value.replace(name[1].encode(), _named(name[1], copy).encode())


_FIRST_NAME = re.compile('"payment_id": "([^"]*)"')
_SQL_NAME = (
    "CASE WHEN {0} = '' THEN '' WHEN {0} ~ '^[0-9]+$'"
    f" THEN ({{0}}::bigint + %(number)s::int * {APART}::bigint)::text"
    " ELSE left(encode(sha256(convert_to({0} || %(number)s::int, 'UTF8')), 'hex'), length({0})) END"
)
_SQL_BODY = f"convert_to(replace(convert_from(body, 'UTF8'), external_id, {_SQL_NAME.format('external_id')}), 'UTF8')"
SAME = Rule("{0}", lambda value, copy: value)
ID = Rule("md5({0}::text || %(number)s::int)::uuid", copied_id)
ID_AS_TEXT = Rule("(md5({0} || %(number)s::int)::uuid)::text", lambda value, copy: str(copied_id(value, copy)))
MOMENT = Rule("{0} - %(earlier)s::interval", lambda value, copy: value - copy.earlier)
NAME = Rule(_SQL_NAME, lambda value, copy: _named(value, copy) if value else value)
CUSTOMER = Rule(f"replace({{0}}, '@', '.' || mod(%(number)s::int, {CUSTOMERS}) || '@')", _customer)
BODY = Rule(_SQL_BODY, _body)
DIGEST = Rule(f"sha256({_SQL_BODY})", lambda value, copy: value)  # here it is made of the body, see `_made`

_BY_TYPE = {"UUIDField": ID, "DateTimeField": MOMENT}
_OWN: Mapping[type[Model], Mapping[str, Rule]] = {
    Order: {"email": CUSTOMER, "placed_with": SAME},
    Payment: dict.fromkeys(("external_id", "purchase_id", "pay_address", "payin_hash"), NAME),
    Reservation: {"external_id": ID_AS_TEXT, "supplier_order_id": NAME},
    Key: dict.fromkeys(("supplier_key_id", "fingerprint", "object_name", "ciphertext_sha256"), NAME),
    KeyDeliveryLog: {"customer_email": CUSTOMER, "object_key": NAME},
    Refund: {"transaction_id": NAME},
    RefundAddress: {"address": NAME},
    Alert: {"about_pk": ID_AS_TEXT},
    Email: {"to": CUSTOMER},
    WebhookLog: {"external_id": NAME, "body": BODY, "body_sha256": DIGEST},
}
Rows = Mapping[type[Model], Sequence[Any]]


class Copier:
    """Stores copies of these rows."""

    def __init__(self, rows: Rows) -> None:
        self._rows = {model: rows[model] for model in MODELS if rows.get(model)}
        self._by_itself = connection.vendor == "postgresql"
        if self._by_itself:
            for model, of_model in self._rows.items():
                _hand_over(model, of_model)

    def is_there(self, copy: Copy) -> bool:
        return Order.objects.filter(pk=copied_id(self._rows[Order][0].pk, copy)).exists()

    def store(self, copy: Copy) -> None:
        """Store one copy; the caller has a transaction around it."""
        for model, rows in self._rows.items():
            if self._by_itself:
                _execute(_insert(model, rows[0]), {"number": copy.number, "earlier": copy.earlier})
            else:
                model._default_manager.bulk_create([_made(row, copy) for row in rows], batch_size=500)
        # Refunds name the address that was paid, whose number only the database knows.
        refunds = Refund.objects.filter(pk__in=[copied_id(row.pk, copy) for row in self._rows.get(Refund, ())])
        paid = RefundAddress.objects.filter(refund=OuterRef("pk")).values("pk")[:1]
        refunds.update(destination=Subquery(paid))


def _hand_over(model: type[Model], rows: Sequence[Any]) -> None:
    """Put the rows into a temporary table of this connection."""
    table, names = model._meta.db_table, _columns(model, rows[0])
    _execute(f"DROP TABLE IF EXISTS pg_temp.seeded_{table}")
    _execute(f"CREATE TEMP TABLE seeded_{table} AS SELECT {names} FROM {table} WITH NO DATA")  # noqa: S608
    told = json.dumps([_plain(row) for row in rows], cls=DjangoJSONEncoder)
    source = f"json_populate_recordset(NULL::{table}, %(told)s::json)"
    _execute(f"INSERT INTO seeded_{table} SELECT {names} FROM {source}", {"told": told})  # noqa: S608


def _insert(model: type[Model], row: Any) -> str:
    table = model._meta.db_table
    values = ", ".join(_rule(model, field).sql.format(f'"{field.column}"') for field in _fields(model, row))
    return f"INSERT INTO {table} ({_columns(model, row)}) SELECT {values} FROM seeded_{table}"  # noqa: S608


def _made(row: Any, copy: Copy) -> Any:
    model, values = type(row), dict[str, Any]()
    for field in _fields(model, row):
        value = getattr(row, field.attname)
        values[field.attname] = None if value is None else _rule(model, field).make(value, copy)
    if model is WebhookLog:
        values["body_sha256"] = sha256(values["body"]).digest()
    return model(**values)


def _fields(model: type[Model], row: Any) -> list[Any]:
    """Return the fields that the row has a value for: not those that the database fills."""
    fields: list[Any] = [field for field in concrete_fields(model) if field.get_internal_type() != "BigAutoField"]
    return [field for field in fields if not hasattr(getattr(row, field.attname), "resolve_expression")]


def _columns(model: type[Model], row: Any) -> str:
    return ", ".join(f'"{field.column}"' for field in _fields(model, row))


def _rule(model: type[Model], field: Any) -> Rule:
    if field.name in _OWN.get(model, {}):
        return _OWN[model][field.name]
    if field.is_relation and field.related_model not in MODELS:
        return SAME
    kept = field.target_field if field.is_relation else field
    return _BY_TYPE.get(kept.get_internal_type(), SAME)


def _plain(row: Any) -> dict[str, Any]:
    values = {field.column: getattr(row, field.attname) for field in _fields(type(row), row)}
    return {name: f"\\x{value.hex()}" if isinstance(value, bytes) else value for name, value in values.items()}


def _execute(statement: str, values: Mapping[str, Any] | None = None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
