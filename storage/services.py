"""A key's life: sealed into our database, copied to the object store, revealed, destroyed."""

import base64
import hashlib
import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, IntegrityError, connections, transaction
from django.db.models import Count, QuerySet
from django.db.models.functions import Coalesce, Length, Now
from django.utils.translation import gettext_noop
from prometheus_client import Counter

from bitloot.core import logs, queries, wakeup
from bitloot.core.clock import delay
from bitloot.core.faults import failpoint
from bitloot.core.sentences import Sentence
from orders.alerts import OBJECT_STORE, close_alert, raise_alert
from orders.choices import AlertKind
from orders.exceptions import InvalidTransition
from orders.models import Email, Order, OrderEvent, OrderItem
from orders.services import queue_email
from storage.exceptions import KeyBelongsElsewhere, KeyShredded, KeyUnreadable, OpenedTooOften
from storage.links import SignedUrl, sign_own_url, sign_r2_url
from storage.models import Key, KeyAccess, KeyDeliveryLog
from storage.objects import (
    MAX_OBJECT_BYTES,
    ObjectConflict,
    ObjectMissing,
    ObjectUnavailable,
    key_store,
    new_object_name,
)
from storage.sealing import (
    ALGORITHM,
    TAG_BYTES,
    WRAPPED_BYTES,
    MasterKeyMissing,
    MasterKeys,
    SealBroken,
    WrappedKey,
    open_sealed,
    seal,
)

logger = logging.getLogger(__name__)
# What a data key is unwrapped with; the ciphertext stays where it is.
_WRAPPING = ("item__order_id", "environment", "content_type", "format_version", "wrapped_data_key", "master_key_id")
keys_opened = Counter("bitloot_keys_opened", "Keys handed out to be opened, each time")

MAX_KEY_BYTES = MAX_OBJECT_BYTES - TAG_BYTES
ALERT_AFTER_ATTEMPTS = 5
REST_AFTER_CRASHES = 3600
RETENTION_BATCH = 500
OPENINGS_PER_HOUR = 20


@dataclass(frozen=True)
class KeyMaterial:
    """What a browser needs to open one key; all of it base64url without padding."""

    key: Key
    data_key: str = field(repr=False)
    nonce: str
    aad: str
    algorithm: str = ALGORITHM


@dataclass(frozen=True)
class Opener:
    """Who opens keys, as far as we know: what KeyAccess keeps."""

    token: str
    generation: int
    network: str
    agent: str = ""


def store_key(
    *,
    item: OrderItem,
    supplier_key_id: str,
    plaintext: bytes,
    content_type: str,
    claim: UUID | None = None,
    replaces: UUID | None = None,
) -> Key:
    """Seal one licence key of `item`; the same supplier's key again returns the row that is there.

    A new key is uploaded by the storage queue; or, with `claim`, born claimed by the caller under this token, who
    calls `upload` after the commit. `replaces` is the key in whose place it is given.

    The caller holds the order's lock: two items of one order would otherwise wait for each other. Raises
    KeyBelongsElsewhere if another item, or another unit of this one, has the same key; once the caller's transaction
    is undone, the caller reports that with `report_sold_twice`.
    """
    if not 0 < len(plaintext) <= MAX_KEY_BYTES:
        raise ValueError(f"a key has 1 to {MAX_KEY_BYTES} bytes, not {len(plaintext)}")
    key = _sealed_row(item, supplier_key_id, plaintext, content_type)
    key.replaces_id = replaces
    if claim is not None:
        for name, value in Key.claim_fields(claim).items():
            setattr(key, name, value)
    failpoint("key.sealed")
    fingerprints = MasterKeys.from_settings().fingerprints(plaintext)
    key.fingerprint = fingerprints[0]
    if not _known_under_older_secrets(fingerprints[1:]) and _insert(key, item):
        return key
    return _known(item, supplier_key_id, fingerprints)


def _known_under_older_secrets(fingerprints: list[str]) -> bool:
    # The unique constraint sees those of the primary secret only. An older secret stays in the fallbacks for a while,
    # and until then what was sold under it is recognised here.
    return any(queries.select(Key, {"fingerprint": fingerprint}) for fingerprint in fingerprints)


def _known(item: OrderItem, supplier_key_id: str, fingerprints: list[str]) -> Key:
    """Return the row of this very key. Raises KeyBelongsElsewhere for any other row that has its id or its code."""
    names = [{"supplier_key_id": supplier_key_id}, *({"fingerprint": known} for known in fingerprints)]
    key = next((found for name in names for found in queries.select(Key, name)), None)
    if key is None:
        raise IntegrityError("another key has a value of this one that is neither its id nor its code")
    if key.item_id != item.pk or key.supplier_key_id != supplier_key_id:
        raise KeyBelongsElsewhere(f"{key} belongs to order item {key.item_id}", key=key, item=item)
    key.item = item
    return key


def report_sold_twice(err: KeyBelongsElsewhere) -> None:
    """Tell staff that a key was to be given a second time. Called after the transaction that tried it was undone."""
    if err.key is None or err.item is None:
        return
    raise_alert(
        AlertKind.KEY_SOLD_TWICE,
        err.key,
        f"One key came for two units: order item {err.key.item_id} has it, a unit of {err.item.pk} was refused it. Ask"
        " the supplier for another key, or type one by hand.",
        order=err.item.order,
    )


def _sealed_row(item: OrderItem, supplier_key_id: str, plaintext: bytes, content_type: str) -> Key:
    key = Key(
        item=item,
        supplier_key_id=supplier_key_id,
        content_type=content_type,
        object_name=new_object_name(),
        environment=settings.KEY_ENVIRONMENT,
    )
    sealed = seal(plaintext, key.binding, keys=MasterKeys.from_settings())
    key.ciphertext, key.nonce = sealed.ciphertext, sealed.nonce
    key.ciphertext_sha256 = hashlib.sha256(sealed.ciphertext).hexdigest()
    key.wrapped_data_key, key.master_key_id = sealed.data_key.wrapped, sealed.data_key.master_key_id
    return key


def _insert(key: Key, item: OrderItem) -> bool:
    # No savepoint: nothing in here is caught, so it stands or falls with the caller's transaction.
    with transaction.atomic(savepoint=False):
        if not queries.insert_if_unique(key):
            return False
        message = gettext_noop("The key arrived and was sealed.")
        event = OrderEvent(order_id=item.order_id, kind="key", to_status=key.status, message=message)
        delivery = KeyDeliveryLog(
            key_id=key.pk,
            order_id=item.order_id,
            customer_email=item.order.email,
            object_key=key.object_name,
            expires_at=Now() + timedelta(days=settings.KEY_RETENTION_DAYS),
        )
        queries.insert(event)
        queries.insert(delivery)
        failpoint("key.inserted")
        # A key that is born claimed is uploaded by its caller, right after the commit.
        if key.claim_token is None:
            wakeup.notify("storage")
    return True


def handle(key: Key) -> None:
    """Do what a claimed row waits for: the upload of a new key, the removal of a shredded one."""
    if key.status == Key.Status.RECEIVED:
        key.item = queries.get(OrderItem, key.item_id)
        logs.note(order=key.item.order_id)
        upload(key)
    elif key.status == Key.Status.SHREDDED:
        _remove_object(key)
    else:
        key.release(None)


def upload(key: Key) -> None:
    """Copy a claimed key to the object store; it is served from our database until it was read back and opened."""
    failed_before = key.attempts > 0
    try:
        _copy_and_open(key)
    except (ObjectUnavailable, ObjectMissing) as err:
        # A store that is away is every key's trouble; bytes that are wrong are this one's alone.
        _wait_for_store(key, err)
    except (ObjectConflict, SealBroken, MasterKeyMissing) as err:
        _distrust(key, err)
    else:
        _mark_stored(key)
        if failed_before:
            close_alert(AlertKind.OBJECT_STORE, OBJECT_STORE)


def _copy_and_open(key: Key) -> None:
    ciphertext, store = bytes(key.ciphertext or b""), key_store()
    store.put(key.object_name, ciphertext)
    failpoint("object.written")
    # Read back and opened before our copy is dropped: a bucket that loses or changes bytes must not cost a key.
    copy = store.get(key.object_name)
    if copy != ciphertext:
        raise SealBroken("the copy in the object store is not what was written")
    open_sealed(key.sealed(copy), key.binding, keys=MasterKeys.from_settings())
    failpoint("object.opened")


def _mark_stored(key: Key) -> None:
    # A copy in our own files is not a reason to drop ours: web and worker may have different disks.
    dropped = {"ciphertext": None} if key_store().signs_urls else {}
    fields = {**Key.release_fields(None), **dropped, "attempts": 0, "error": "", "stored_at": Now()}
    try:
        message = gettext_noop("The sealed key was copied to the object store, read back and opened once.")
        key.move(Key.Status.STORED, message=message, claim=key.claim_token, **fields)
        failpoint("key.stored")
    except InvalidTransition:
        # Shredded while it was being copied: look again at once, and remove the copy.
        key.release(timedelta(0))


def _wait_for_store(key: Key, err: Exception) -> None:
    logger.warning("%s: %s", key, err)
    key.retry(error=str(err)[:300])
    if key.attempts + 1 >= ALERT_AFTER_ATTEMPTS:
        raise_alert(
            AlertKind.OBJECT_STORE,
            OBJECT_STORE,
            f"Sealed keys cannot be copied to the object store ({err}). Customers get theirs from our database"
            " meanwhile. Check R2 and its credentials; uploads resume automatically.",
        )


def _distrust(key: Key, err: Exception) -> None:
    logger.error("%s failed its check: %s", key, err)
    key.retry(error=str(err)[:300])
    _alert_integrity(
        key,
        f"{err}. The sealed key stays in our database. If the object {key.object_name} was changed, delete it and it"
        " is written again; if a master key is missing, add it to KEY_ENCRYPTION_SECRET_FALLBACKS.",
    )


def _alert_integrity(key: Key, message: str) -> None:
    raise_alert(AlertKind.KEY_INTEGRITY, key, f"{key}: {message}", order=key.item.order)


def give_up(key: Key) -> None:
    """Let a row that crashed its workers rest for an hour, and tell staff; its key is served from our database."""
    key.release(delay(REST_AFTER_CRASHES), error="The worker crashed on this key several times.")
    _alert_integrity(key, "copying it crashed the worker several times. It is tried again every hour; read the log.")


def ready_keys(order: Order) -> list[Key]:
    """Return the keys that can be opened, oldest first.

    Raises KeyShredded if there were keys and none can be opened now.
    """
    mine = Key.objects.filter(item__order=order).select_related("item__order", "item__product", "delivery")
    # By the time as well as by the status: a retention has ended when it ends, not when the sweep comes.
    ready = list(mine.filter(delivery__status__in=KeyDeliveryLog.OPENABLE, delivery__expires_at__gt=Now()))
    if not ready and mine.exists():
        raise KeyShredded(f"every key of {order} is gone")
    return ready


def download_url(key: Key) -> SignedUrl:
    """Return a link to the ciphertext that lives for SIGNED_URL_TTL_SECONDS: R2's own once R2 holds the only copy."""
    if key.status == Key.Status.SHREDDED:
        raise KeyShredded(f"{key} was destroyed")
    in_r2 = sign_r2_url(key_store(), key.object_name) if key.ciphertext is None else None
    return in_r2 or sign_own_url(key.object_name)


def fallback_url(key: Key) -> SignedUrl:
    """Return our own server's link to the ciphertext, for a browser that cannot reach R2."""
    return sign_own_url(key.object_name)


def read_ciphertext(name: str) -> bytes:
    """Return what a link of ours leads to. Raises ObjectMissing, or KeyUnreadable (with an alert)."""
    key = Key.objects.exclude(status=Key.Status.SHREDDED).filter(object_name=name).select_related("item__order").first()
    if key is None:
        raise ObjectMissing("there is no such key")
    try:
        # A link made before the upload outlives our copy, hence the look into the store.
        ciphertext = bytes(key.ciphertext) if key.ciphertext is not None else key_store().get(name)
    except ObjectUnavailable as err:
        raise KeyUnreadable(f"{key}: {err}") from err
    except ObjectMissing as err:
        _alert_integrity(key, "its object is gone from the store. Ask the supplier for the key once more.")
        raise KeyUnreadable(f"{key} is lost") from err
    # A browser would refuse it too (GCM); checked here, staff hear of it.
    if hashlib.sha256(ciphertext).hexdigest() != key.ciphertext_sha256:
        _alert_integrity(key, "its object was changed. Restore it, or ask the supplier for the key once more.")
        raise KeyUnreadable(f"{key} was changed")
    return ciphertext


def reveal(*, order: Order, keys: list[Key], by: Opener) -> list[KeyMaterial]:
    """Hand out the data keys and record who opened them; may be repeated until the retention ends.

    Raises KeyShredded, KeyBelongsElsewhere or OpenedTooOften, and KeyUnreadable (with an alert); then nothing is
    recorded.
    """
    try:
        opened = _reveal(order, keys, by)
        keys_opened.inc(len(opened))
        return opened
    except (SealBroken, MasterKeyMissing) as err:
        # Out here, where the transaction is undone: inside, the alert would go with it.
        logger.error("%s: a key cannot be opened: %s", order, err)
        message = f"A key of this order cannot be opened: {err}. Check KEY_ENCRYPTION_SECRET and its fallbacks."
        raise_alert(AlertKind.KEY_INTEGRITY, order, message, order=order)
        raise KeyUnreadable(str(err)) from err


def _reveal(order: Order, keys: list[Key], by: Opener) -> list[KeyMaterial]:
    items = {key.pk: key.item for key in keys}
    master_keys = MasterKeys.from_settings()
    with transaction.atomic():
        # The order first, as everywhere: whoever erases its customer holds it, and then changes the rows below.
        order = order.lock()
        # Locked, so that a key is either revealed or shredded first, and in the order that shredding takes.
        mine = Key.objects.filter(pk__in=items, item__order=order).order_by("pk")
        found = {key.pk: key for key in mine.select_for_update(of=("self",))}
        if len(found) != len(items):
            raise KeyBelongsElsewhere(f"{order} does not have all of these keys")
        for pk, key in found.items():
            key.item = items[pk]  # it never changes, so it is not read again
        # By the deliveries, not the accesses: those are forgotten after a while.
        is_first = not KeyDeliveryLog.objects.filter(order=order, times_accessed__gt=0).exists()
        _count_access(found.values())
        _record_access(order, list(found), by, is_first=is_first)
        return [_material(found[key.pk], master_keys) for key in keys]


def _count_access(keys: Collection[Key]) -> None:
    if KeyDeliveryLog.objects.filter(key__in=keys).count_access() != len(keys):
        raise KeyShredded("a key was destroyed, or its retention has ended")
    # Under their locks, so no other request marks them meanwhile.
    if unseen := [key.pk for key in keys if key.viewed_at is None]:
        Key.objects.filter(pk__in=unseen).update(viewed_at=Now())


def _record_access(order: Order, keys: Sequence[UUID], by: Opener, *, is_first: bool) -> None:
    # Under the keys' locks, so that parallel requests cannot pass the limit together.
    in_an_hour = KeyAccess.objects.filter(key__in=keys, at__gt=Now() - timedelta(hours=1)).order_by()
    often = in_an_hour.values("key").annotate(times=Count("pk")).filter(times__gte=OPENINGS_PER_HOUR)
    if settings.THROTTLE_SCALE and often.exists():
        raise OpenedTooOften
    queries.insert_all([KeyAccess(order=order, key_id=key, **asdict(by)) for key in keys])
    # Two keys opened at the same moment for the first time may owe two mails, which is harmless.
    if is_first and settings.KEY_OPENED_MAIL:
        queue_email(order, Email.Kind.KEY_OPENED)


def _material(key: Key, master_keys: MasterKeys) -> KeyMaterial:
    return KeyMaterial(
        key=key,
        data_key=_base64url(master_keys.unwrap(key.wrapped, key.binding)),
        nonce=_base64url(bytes(key.nonce)),
        aad=_base64url(key.binding.aad),
    )


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def shred(key: Key, *, reason: str, actor: str = "") -> bool:
    """Destroy a key for good. Return False if it was destroyed before.

    The data key goes first, so no copy of the object opens from then on; the object itself is removed by the queue.
    """
    return _shred(
        key, KeyDeliveryLog.Status.DELETED, Sentence("The key was destroyed: %(reason)s", reason=reason), actor=actor
    )


def expired_deliveries(*, unviewed: bool) -> QuerySet[KeyDeliveryLog]:
    """The keys that are still there although their retention has ended; with `unviewed` those never opened as well."""
    due = KeyDeliveryLog.objects.filter(status__in=KeyDeliveryLog.OPENABLE, expires_at__lte=Now())
    return due if unviewed else due.filter(key__viewed_at__isnull=False)


def expire_deliveries(*, unviewed: bool = True) -> int:
    """Shred the first of the keys whose retention has ended; return how many, 0 if none is left."""
    due = expired_deliveries(unviewed=unviewed).order_by("expires_at")
    batch = due.select_related("key__item__order")[:RETENTION_BATCH]
    message = gettext_noop("The key was destroyed: its retention has ended.")
    # Two sweeps at once are harmless: the second one's move of each key is a repeat, and returns False.
    return sum(_shred(delivery.key, KeyDeliveryLog.Status.EXPIRED, message) for delivery in batch)


def _shred(key: Key, outcome: str, message: str, *, actor: str = "") -> bool:
    with transaction.atomic():
        changed = key.move(
            Key.Status.SHREDDED,
            message=message,
            actor=actor,
            wrapped_data_key=None,
            ciphertext=None,
            shredded_at=Now(),
            # An upload that is under way may still write the object: remove it after that.
            next_attempt_at=Coalesce("claimed_until", Now()),
            attempts=0,
        )
        if changed:
            KeyDeliveryLog.objects.filter(key=key).end(outcome)
            wakeup.notify("storage")
    return changed


def _remove_object(key: Key) -> None:
    try:
        key_store().delete(key.object_name)
    except ObjectUnavailable as err:
        _wait_for_store(key, err)
    else:
        key.release(None, error="")


def rewrap_keys(*, batch: int = 500, step: Callable[[int], object] = bool) -> int:
    """Wrap every data key under the primary master key, bound to its place; return how many were changed.

    Keys open all the while. May be interrupted and run again; a key that cannot be unwrapped is left, with an alert.
    `step` is called after each batch with the number of its rows.
    """
    master_keys = MasterKeys.from_settings()
    done, after = 0, UUID(int=0)
    due = _to_rewrap(master_keys).only(*_WRAPPING).order_by("pk")
    # By pk, not by offset: rows leave the selection as they are wrapped, and one that cannot be is not met again.
    while rows := list(due.filter(pk__gt=after)[:batch]):
        done += _rewrap(rows, master_keys)
        after = rows[-1].pk
        step(len(rows))
    return done


def closed_keys(*, step: Callable[[int], object] = bool) -> list[UUID]:
    """Return the keys that are not shredded and whose data key cannot be unwrapped: a look at every one."""
    master_keys = MasterKeys.from_settings()
    closed: list[UUID] = []
    live = Key.objects.exclude(status=Key.Status.SHREDDED).only(*_WRAPPING).select_related("item")
    for key in live.iterator(chunk_size=500):
        try:
            master_keys.unwrap(key.wrapped, key.binding)
        except (SealBroken, MasterKeyMissing):
            closed.append(key.pk)
        step(1)
    return closed


def keys_under_other_masters() -> dict[str, int]:
    """Return how many keys are still wrapped under each older master key, or in the format that binds no place."""
    counted = _to_rewrap(MasterKeys.from_settings()).values("master_key_id").annotate(keys=Count("pk"))
    return dict(counted.order_by("master_key_id").values_list("master_key_id", "keys"))


def unknown_master_keys() -> list[str]:
    """Return the ids of master keys that some key needs and this process does not have."""
    foreign = Key.objects.exclude(status=Key.Status.SHREDDED).exclude(master_key_id__in=MasterKeys.from_settings().ids)
    return list(foreign.order_by("master_key_id").values_list("master_key_id", flat=True).distinct())


def missing_objects() -> list[UUID]:
    """Return the keys whose only copy should be in the object store and is not there. Raises ObjectUnavailable."""
    only_there = Key.objects.filter(status=Key.Status.STORED, ciphertext=None)
    expected = list(only_there.order_by("stored_at").values_list("pk", "object_name"))
    # After the rows: a key that is uploaded while the bucket is listed would look lost.
    there = set(key_store().names())
    absent = [pk for pk, name in expected if name not in there]
    # What was shredded meanwhile had its object removed.
    still_there = set(only_there.values_list("pk", flat=True)) if absent else set()
    return [pk for pk in absent if pk in still_there]


def _to_rewrap(master_keys: MasterKeys) -> QuerySet[Key]:
    live = Key.objects.exclude(status=Key.Status.SHREDDED).select_related("item")
    unbound = live.alias(wrapped_bytes=Length("wrapped_data_key"))
    return unbound.exclude(master_key_id=master_keys.primary.id, wrapped_bytes=1 + WRAPPED_BYTES)


def _rewrap(keys: Sequence[Key], master_keys: MasterKeys) -> int:
    fresh = [(key, wrapped) for key in keys if (wrapped := _wrapped_anew(key, master_keys)) is not None]
    db: Any = connections[DEFAULT_DB_ALIAS]
    meta: Any = Key._meta
    columns = ("wrapped_data_key", "master_key_id", "id", "wrapped_data_key")
    values = [(new.wrapped, new.master_key_id, key.pk, key.wrapped.wrapped) for key, new in fresh]
    with transaction.atomic(), db.cursor() as cursor:  # one wait for the disk instead of one for each key
        # Only what was read is replaced: a key shredded or re-wrapped by somebody else meanwhile stays as it is.
        cursor.executemany(
            f"UPDATE {meta.db_table} SET wrapped_data_key = %s, master_key_id = %s"  # noqa: S608
            " WHERE id = %s AND wrapped_data_key = %s",
            [
                [meta.get_field(name).get_db_prep_value(value, db) for name, value in zip(columns, row, strict=True)]
                for row in values
            ],
        )
        changed = max(cursor.rowcount, 0)  # -1: there was nothing to do
        failpoint("keys.rewrapped")
    return changed


def _wrapped_anew(key: Key, master_keys: MasterKeys) -> WrappedKey | None:
    place = key.binding  # computed once: making its bytes costs more than wrapping
    try:
        return master_keys.wrap(master_keys.unwrap(key.wrapped, place), place)
    except (SealBroken, MasterKeyMissing) as err:
        logger.error("%s cannot be re-wrapped: %s", key, err)
        _alert_integrity(key, f"it cannot be re-wrapped: {err}. Keep the old secret in the fallbacks until it can.")
        return None
