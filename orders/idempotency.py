"""Idempotency-Key: the first request with a key decides, and a repeat gets the row that it made."""

import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from django.db import IntegrityError, transaction
from django.db.models import Model, QuerySet
from django.db.models.functions import Now

from bitloot.core import queries
from bitloot.core.signing import keyed_digest
from orders.exceptions import KeyReused, StillRunning
from orders.models import IdempotencyRecord

KEPT_FOR = timedelta(hours=72)
ABANDONED_AFTER = timedelta(seconds=90)
_SALT = "bitloot.orders.idempotency"
_KEY = re.compile(r"[\x21-\x7e]{16,255}")


class BadKey(Exception):
    """The header is not 16 to 255 visible ASCII characters."""


ONCE_PROBLEMS = (BadKey, KeyReused, StillRunning)


@dataclass(frozen=True)
class Once:
    object_id: uuid.UUID
    replayed: bool


def once(*, route: str, key: str | None, body: bytes, make: Callable[[uuid.UUID], object]) -> Once:
    """Run `make` with a fresh id and remember that under `key`; a repeat returns the first id without running it.

    `make` runs in one transaction, with the record if there is a key. Raises BadKey, KeyReused or StillRunning.
    """
    # The id is known before the row that it names, so the record is written once and not changed afterwards.
    object_id = uuid.uuid4()
    if key is None:
        with transaction.atomic():
            make(object_id)
        return Once(object_id, replayed=False)
    key, digest = _at_rest(route, key, body)
    try:
        with transaction.atomic():
            # The record first: a second request with this key waits at the unique constraint for the first to commit,
            # and then gets its row instead of making another.
            queries.insert(IdempotencyRecord(route=route, key=key, body_sha256=digest, object_id=object_id))
            make(object_id)
    except IntegrityError:
        first = _first(route, key, digest)
        if first is None:  # another constraint broke: this is no repeat
            raise
        return Once(first, replayed=True)
    return Once(object_id, replayed=False)


def once_outside(
    *, route: str, key: str | None, body: bytes, make: Callable[[], uuid.UUID], came_to_nothing: QuerySet[Model]
) -> Once:
    """Like `once`, for a `make` that calls a provider and so cannot run in a transaction.

    While it runs a repeat gets StillRunning. If it raises, the key is free again; if its process dies, after 90 s; and
    if the row that it made is found to have come to nothing after all, at the next request.
    """
    if key is None:
        return Once(make(), replayed=False)
    key, digest = _at_rest(route, key, body)
    mine = IdempotencyRecord.objects.filter(route=route, key=key)
    # A process that died in `make` left its record behind, and would otherwise keep the key for 72 hours.
    mine.filter(object_id=None, created_at__lt=Now() - ABANDONED_AFTER).delete()
    mine.filter(object_id__in=came_to_nothing.values("pk")).delete()
    try:
        with transaction.atomic():
            IdempotencyRecord.objects.create(route=route, key=key, body_sha256=digest)
    except IntegrityError as err:
        first = _first(route, key, digest)
        if first is None:  # it failed at this very moment, and its key is free: the client asks again
            raise StillRunning from err
        return Once(first, replayed=True)
    try:
        object_id = make()
    except BaseException:  # also when the process is told to stop: the key must not stay taken
        mine.delete()
        raise
    mine.update(object_id=object_id)
    return Once(object_id, replayed=False)


def reap() -> int:
    """Forget keys after 72 hours; then the same key may be used for something new."""
    deleted, _ = IdempotencyRecord.objects.filter(created_at__lt=Now() - KEPT_FOR).delete()
    return deleted


def _at_rest(route: str, key: str, body: bytes) -> tuple[str, str]:
    """Return the digests that stand for key and body: anyone who reads the database still cannot repeat the request.

    A change of ORDER_TOKEN_SECRET forgets the keys of the last days; a repeat then makes another unpaid order.
    """
    if not _KEY.fullmatch(key):
        raise BadKey
    texts = (f"{route}:{key}", f"{route}:{key}:{body.decode(errors='replace')}")
    return keyed_digest(_SALT, texts[0]), keyed_digest(_SALT, texts[1])


def _first(route: str, key: str, digest: str) -> uuid.UUID | None:
    record = IdempotencyRecord.objects.filter(route=route, key=key).first()
    if record is None:
        return None
    if record.body_sha256 != digest:
        raise KeyReused
    if record.object_id is None:
        raise StillRunning
    return record.object_id
