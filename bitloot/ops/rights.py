"""What the application's role may do in PostgreSQL: it owns nothing, and what is evidence it can only add to.

`migrate` and `grant_rights` run as the owner of the tables, and so does what changes the evidence on purpose: `prune`,
`erase_customer`, restoring a backup. On SQLite there are no roles.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.db import connection, models, transaction
from psycopg import sql

from bitloot.core.queries import concrete_fields

ADD_ONLY = frozenset({
    "orders.orderevent", "orders.orderitem", "payments.refundaddress", "fulfillment.suppliercall",
    "fulfillment.foreignpurchase", "fulfillment.pricechange", "storage.keyaccess", "accounting.acknowledgement",
    "admin.logentry", "staff.staffevent", "webhooks.webhookattempt", "evidence.pageversion",
})  # fmt: skip
# The columns that stay as they were inserted; the others change with the row's story.
FIXED: dict[str, frozenset[str]] = {
    "webhooks.webhooklog": frozenset({
        "id", "provider", "body", "body_sha256", "headers", "external_id", "event_type", "request_id",
        "received_at",
    }),
    "webhooks.replay": frozenset({"id", "log", "run", "actor", "at"}),
    "webhooks.replayrun": frozenset({"id", "is_dry", "wanted", "digest", "actor", "total", "ends_with", "created_at"}),
    "fulfillment.reservationattempt": frozenset({"id", "reservation", "number", "price", "permitted_at"}),
    "storage.key": frozenset({
        "id", "item", "supplier_key_id", "fingerprint", "replaces", "content_type", "object_name", "ciphertext_sha256",
        "nonce", "environment", "format_version", "request_id", "received_at",
    }),
    "partners.apikey": frozenset({"id", "prefix", "scopes", "created_at"}),
    "partners.endpoint": frozenset({"id", "api_key", "created_at"}),
    "partners.outgoingwebhook": frozenset({"id", "endpoint", "order", "event", "body", "created_at"}),
    "storage.keydeliverylog": frozenset({"id", "key", "order", "customer_email", "object_key", "created_at"}),
}  # fmt: skip
# Django's own tables that a running shop only reads.
READ_ONLY = frozenset({"contenttypes.contenttype", "auth.permission"})
# What the shop itself deletes: what has ended, and what staff take from each other.
DELETES = frozenset(
    {"orders.idempotencyrecord", "orders.accesscode", "core.allowance", "core.workerseen", "fulfillment.pricerule"}
)
OTHERS_DELETE = frozenset({
    "auth", "sessions", "knox", "otp_totp", "otp_static", "flatpages", "sites",
})  # fmt: skip


@dataclass(frozen=True)
class Right:
    """What may be done to one table; `columns` are those that UPDATE is for, none for all."""

    table: str
    actions: tuple[str, ...]
    columns: tuple[str, ...] = ()


class NotASmallRole(Exception):
    """The role has more rights than it is given here, so that nothing would be gained."""


def rights() -> Iterator[Right]:
    for model in apps.get_models(include_auto_created=True):
        if model._meta.managed and not model._meta.proxy:
            yield _right(model)
    yield Right("django_migrations", ("SELECT",))


def _right(model: type[models.Model]) -> Right:
    label, table = model._meta.label_lower, model._meta.db_table
    if label in READ_ONLY:
        return Right(table, ("SELECT",))
    if label in ADD_ONLY:
        return Right(table, ("SELECT", "INSERT"))
    if label in FIXED:
        fixed = FIXED[label]
        changing = tuple(str(field.column) for field in concrete_fields(model) if field.name not in fixed)
        return Right(table, ("SELECT", "INSERT", "UPDATE"), changing)
    if label in DELETES or model._meta.app_label in OTHERS_DELETE:
        return Right(table, ("SELECT", "INSERT", "UPDATE", "DELETE"))
    return Right(table, ("SELECT", "INSERT", "UPDATE"))


def grant(role: str, *, password: str = "") -> None:
    """Give the role these rights and take every other one from it; it is made if there is none.

    Runs as the owner. Raises NotASmallRole.
    """
    # In one transaction, so that a running shop misses no right between REVOKE and GRANT.
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT rolsuper FROM pg_roles WHERE rolname = %s", [role])
        found = cursor.fetchone()
        if found is None:
            cursor.execute(_sql("CREATE ROLE {role} LOGIN", role=role))
        elif found[0]:
            raise NotASmallRole(f"{role} is a superuser of PostgreSQL, who may do everything")
        if password:
            cursor.execute(_sql("ALTER ROLE {role} PASSWORD {verifier}", role=role, verifier=_verifier(role, password)))
        _refuse_owner(cursor, role)
        for statement in _statements(role):
            cursor.execute(statement)


def is_given(action: str, model: type[models.Model]) -> bool:
    """Return whether this process may do this to the model's table."""
    if connection.vendor != "postgresql":
        return True
    with connection.cursor() as cursor:
        cursor.execute("SELECT has_table_privilege(%s, %s)", [model._meta.db_table, action])
        return bool(cursor.fetchone()[0])


def _verifier(role: str, password: str) -> str:
    """Return what PostgreSQL stores of a password: the password itself could end in its log."""
    with connection.cursor() as cursor:
        server: Any = cursor.connection.pgconn
    return str(server.encrypt_password(password.encode(), role.encode()).decode())


def _refuse_owner(cursor: Any, role: str) -> None:
    cursor.execute("SELECT count(*) FROM pg_tables WHERE tableowner = %s AND schemaname = 'public'", [role])
    if cursor.fetchone()[0]:
        raise NotASmallRole(f"{role} owns tables, and an owner may do everything with them")
    cursor.execute("SELECT pg_has_role(%s, current_user, 'MEMBER')", [role])
    if cursor.fetchone()[0]:
        raise NotASmallRole(f"{role} may become the owner of the tables")


def _statements(role: str) -> Iterator[sql.Composed]:
    # Before PostgreSQL 15 everybody may make tables in the schema.
    yield _sql("REVOKE CREATE ON SCHEMA public FROM PUBLIC", role=role)
    yield _sql("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {role}", role=role)
    yield _sql("GRANT USAGE ON SCHEMA public TO {role}", role=role)
    # SELECT as well: a backup by pg_dump reads them.
    yield _sql("GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {role}", role=role)
    for right in rights():
        yield _sql("GRANT {actions} ON {table} TO {role}", role=role, actions=_actions(right), table=right.table)
    for table in _partitions():
        yield _sql("GRANT SELECT ON {table} TO {role}", role=role, table=table)


def _partitions() -> list[str]:
    """Return the parts of partitioned tables: rows come and go through the whole, and a backup reads each part."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname FROM pg_class"
            " WHERE relispartition AND relkind = 'r' AND relnamespace = 'public'::regnamespace"
        )
        return [name for (name,) in cursor.fetchall()]


def _actions(right: Right) -> sql.Composable:
    columns = sql.SQL(", ").join(map(sql.Identifier, right.columns))
    for_columns = sql.SQL(" ({})").format(columns) if right.columns else sql.SQL("")
    words = [sql.SQL(action) + (for_columns if action == "UPDATE" else sql.SQL("")) for action in right.actions]
    return sql.SQL(", ").join(words)


def _sql(text: str, *, role: str, table: str = "", verifier: str = "", actions: sql.Composable | None = None) -> Any:
    return sql.SQL(text).format(
        role=sql.Identifier(role),
        table=sql.Identifier(table),
        verifier=sql.Literal(verifier),
        actions=actions or sql.SQL(""),
    )
