"""What staff do with keys by hand: deliver typed codes, replace a key that was delivered, shred one."""

import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from django import forms
from django.conf import settings
from django.db import transaction
from django.db.models import Count, F, Q
from django.db.models.functions import Now

from bitloot.core import queries, wakeup
from bitloot.core.decisions import Decision, ReasonForm, Secret, SecretField, demand
from fulfillment import kinguin
from fulfillment.exceptions import CodeKnown, CodesRefused, NotDeliverable, PermitOpen
from fulfillment.kinguin.keys import MAX_TEXT_BYTES, read_text
from fulfillment.models import Reservation
from fulfillment.steps.buying import BUYABLE, REPLACEABLE
from fulfillment.steps.collecting import finish, finish_order
from fulfillment.steps.holding import NOT_WANTED
from orders.alerts import close_alert
from orders.approvals import is_large
from orders.choices import AlertKind
from orders.models import Order, OrderItem
from storage.exceptions import KeyBelongsElsewhere
from storage.models import Key
from storage.services import shred, store_key

Status = Reservation.Status
# The supplier may still deliver, or a purchase may still arrive there.
MAY_STILL_DELIVER = (Status.SENDING, Status.UNKNOWN, Status.RESERVED, Status.GIVEN)


@dataclass(frozen=True)
class Code:
    item: str  # id of the order item
    serial: str = field(repr=False)


# --- deliver by hand


def objection_to_delivery_by_hand(order: Order) -> str | None:
    if order.is_without_money:
        return "The provider sent its money back. Decide about the payment before anything is delivered."
    if order.status == Order.Status.FULFILLED:
        return "It is delivered. To give another key in place of one, use “Replace” on the key's page."
    if order.status not in (*BUYABLE, Order.Status.HELD):
        return "Codes can be delivered for a paid order that is not finished. Nothing was changed."
    return None


def objection_to_typed_codes(reservation: Reservation) -> str | None:
    """Return why codes may not be typed for this purchase; its order has objections of its own."""
    if reservation.status == Status.DELIVERED:
        return "It is delivered already."
    bought_unknown = reservation.unknown_at is not None and reservation.supplier_order_id is None
    if reservation.status in MAY_STILL_DELIVER or bought_unknown:
        return "A purchase may still deliver it. Wait until that is known, or until it is held."
    return None


def objection_to_deciding_by_hand(order: Order) -> str | None:
    """As `objection_to_delivery_by_hand`; and there is no page without a unit to type a code for."""
    if objection := objection_to_delivery_by_hand(order):
        return objection
    return None if _open_purchases(order) else "A purchase may still deliver each of its keys. Look again later."


def deliver_by_hand(*, order: Order, codes: Sequence[Code], reason: str, actor: str) -> None:
    """Seal codes that staff typed for the units that are missing, and finish their items with them.

    Locks the order. Raises NotDeliverable, PermitOpen while a purchase may still deliver, and CodesRefused.
    """
    # In this order: the error leaves only when the transaction is undone, so what is reported of it stays.
    with _known_codes_refused(), transaction.atomic():
        order = order.lock()
        demand(objection_to_delivery_by_hand(order), NotDeliverable)
        for item, serials in _items_for(order, codes):
            _deliver_item(item, serials, reason=reason, actor=actor)
        finish_order(order)


def deliver_typed(order: Order, *, actor: str, reason: str, **codes: Secret) -> None:
    """Deliver what was typed into the order's page; a field left empty is a unit that stays as it is."""
    typed = [
        Code(name.removeprefix("code_").rpartition("_")[0], code.value) for name, code in codes.items() if code.value
    ]
    if not typed:
        raise CodesRefused("No code was typed. Nothing was changed.")
    deliver_by_hand(order=order, codes=typed, reason=reason, actor=actor)


def form_of_missing_units(order: Order) -> type[forms.Form]:
    """Make the form with a field for each unit that staff may deliver now."""
    fields: dict[str, Any] = {}
    for reservation in _open_purchases(order):
        missing = _missing(reservation)
        for number in range(1, missing + 1):
            label = f"{reservation.item.title}, {number} of {missing} missing"
            fields[f"code_{reservation.item_id}_{number}"] = SecretField(label=label, required=False)
    return type("MissingUnitsForm", (ReasonForm,), fields)


@contextmanager
def _known_codes_refused() -> Iterator[None]:
    try:
        yield
    except KeyBelongsElsewhere as err:
        raise CodeKnown(err) from err


def _open_purchases(order: Order) -> list[Reservation]:
    """Return the purchases of items that miss a key and that only staff can finish."""
    came = Count("item__keys", filter=Q(item__keys__replaces=None))
    mine = Reservation.objects.filter(item__order=order, replaces=None).select_related("item").annotate(came=came)
    unfinished = mine.filter(came__lt=F("item__quantity")).order_by("item__title")
    return [purchase for purchase in unfinished if objection_to_typed_codes(purchase) is None]


def _missing(reservation: Reservation) -> int:
    return reservation.quantity - reservation.keys.count()


def _items_for(order: Order, codes: Sequence[Code]) -> list[tuple[OrderItem, list[str]]]:
    wanted: dict[str, list[str]] = {}
    for code in codes:
        wanted.setdefault(code.item.lower(), []).append(_cleaned(code.serial))
    if [count for count in Counter(code.serial.strip() for code in codes).values() if count > 1]:
        raise CodesRefused("The same code was typed twice. Each unit needs a code of its own.")
    items = {str(item.id): item for item in order.items.select_related("product")}
    if unknown := set(wanted) - set(items):
        raise CodesRefused(f"{len(unknown)} of the items do not belong to this order.")
    return [(items[item_id], serials) for item_id, serials in wanted.items()]


def _cleaned(serial: str) -> str:
    code = serial.strip()
    # JSON may carry half a character, which plain UTF-8 refuses with an error of its own.
    if not code or len(code.encode("utf-8", "surrogatepass")) > MAX_TEXT_BYTES:
        raise CodesRefused(f"A code is empty or longer than {MAX_TEXT_BYTES // 1024} KiB.")
    return code


def _deliver_item(item: OrderItem, serials: list[str], *, reason: str, actor: str) -> None:
    reservation = Reservation.objects.select_for_update().get(item=item, replaces=None)
    reservation.item = item
    if reservation.status == Status.DELIVERED:
        raise CodesRefused(f"“{item.title}” is delivered already.")
    # Under both locks: a worker that began to buy since the page was read must finish first.
    demand(objection_to_typed_codes(reservation), PermitOpen)
    missing = _missing(reservation)
    if len(serials) != missing:
        raise CodesRefused(f"“{item.title}” needs {missing} codes, {len(serials)} were typed.")
    _seal(reservation, serials, reason=reason, actor=actor)


def _seal(reservation: Reservation, serials: Sequence[str], *, reason: str, actor: str) -> None:
    """Keep the codes and end the purchase with them. The caller holds the order's lock."""
    for serial in serials:
        content, content_type = read_text(serial)
        store_key(
            item=reservation.item,
            supplier_key_id=f"manual:{uuid.uuid4()}",
            plaintext=content,
            content_type=content_type,
            replaces=reservation.replaces_id,
        )
    # An ended purchase may not become delivered directly, so the timeline shows who reopened it.
    if reservation.status in (Status.CANCELLED, Status.FAILED):
        reservation.move(Status.HELD, message="Reopened by staff.", actor=actor)
    reservation.move(
        Status.DELIVERED,
        message=f"Delivered by hand: {reason}"[:300],
        actor=actor,
        manual=True,
        delivered_at=Now(),
        next_attempt_at=None,
    )
    close_alert(AlertKind.RESERVATION, reservation, by=actor)


# --- replace a key


def objection_to_replacing(key: Key) -> str | None:
    order = key.item.order
    if order.status not in REPLACEABLE:
        return "A key is replaced once its order is delivered, and while the money stays with us."
    purchase = Reservation.objects.filter(item=key.item_id, replaces=key.replaces_id).first()
    if purchase is None or purchase.status != Status.DELIVERED:
        return "Its item is not delivered yet. Deliver the missing units by hand instead."
    if Key.objects.filter(replaces=key).exists():
        return "It was replaced already. Replace the newer key instead."
    return None


def objection_to_replacing_by_hand(key: Key) -> str | None:
    if objection := objection_to_replacing(key):
        return objection
    begun = Reservation.objects.filter(replaces=key).first()
    return objection_to_typed_codes(begun) if begun is not None else None


def objection_to_rebuying(key: Key) -> str | None:
    if objection := objection_to_replacing(key):
        return objection
    if Reservation.objects.filter(replaces=key).exists():
        return (
            "Its replacement was bought, or is being bought. Look at that purchase; if it ended, type a code by hand."
        )
    if not kinguin.client().can_find:
        return "This supplier has no search, so a second purchase cannot be made safely. Type a code by hand."
    return None


def replace_by_hand(key: Key, *, actor: str, reason: str, code: Secret, old_key: str) -> None:
    """Give a typed code in place of a delivered key. Locks the order. Raises DecisionRefused."""
    with _known_codes_refused(), transaction.atomic():
        order = key.item.order = key.item.order.lock()  # the locked row, for the objection as well
        demand(objection_to_replacing_by_hand(key))
        reservation = _begun(key, keeps=old_key == KEEP)
        _note(order, f"A key is replaced by hand: {reason}", actor)
        _seal(reservation, [_cleaned(code.value)], reason=reason, actor=actor)
        finish(reservation, order)


def rebuy(key: Key, *, actor: str, reason: str, old_key: str) -> None:
    """Buy another key in place of a delivered one. Locks the order. Raises DecisionRefused.

    The purchase is a row of its own, and its name at the supplier is the replaced key's id: however often it is
    asked for, each key is replaced by one purchase at most. A worker searches for that name before it sends it.
    """
    with transaction.atomic():
        order = key.item.order = key.item.order.lock()  # the locked row, for the objection as well
        demand(objection_to_rebuying(key))
        _begun(key, keeps=old_key == KEEP)
        _note(order, f"A key is bought again: {reason}", actor)
        wakeup.notify("fulfillment")


def _begun(key: Key, *, keeps: bool) -> Reservation:
    """Return the purchase of the replacement, a new one if there is none. The caller holds the order's lock."""
    reservation = Reservation(
        item=key.item, external_id=str(key.pk), dialect=settings.KINGUIN_API, replaces=key, keeps_replaced=keeps
    )
    # Taken if a replacement was begun before and ended without a key: its row is used again.
    if queries.insert(reservation, unless_taken="external_id"):
        return reservation
    begun = Reservation.objects.select_related("replaces").select_for_update(of=("self",)).get(replaces=key)
    begun.item, begun.keeps_replaced = key.item, keeps
    Reservation.objects.filter(pk=begun.pk).update(keeps_replaced=keeps)
    return begun


def _note(order: Order, message: str, actor: str) -> None:
    order.note("staff", message[:300], actor=actor)


# --- shred a key


def objection_to_shredding(key: Key) -> str | None:
    if key.status == Key.Status.SHREDDED:
        return "It is shredded already."
    purchase = Reservation.objects.filter(item=key.item_id, replaces=key.replaces_id).first()
    ended = purchase is not None and purchase.status in (Status.DELIVERED, Status.CANCELLED, Status.FAILED)
    if ended or key.item.order.status in NOT_WANTED:
        return None
    return "Its item is still being delivered. Look again when that has ended."


def shred_key(key: Key, *, actor: str, reason: str) -> None:
    """Destroy a key for good: the customer can no longer open it. Locks the order. Raises DecisionRefused."""
    with transaction.atomic():
        # The order first, as everywhere, then read afresh: its delivery may have ended or begun anew.
        key.item.order.lock()
        current = Key.objects.select_related("item__order").get(pk=key.pk)
        demand(objection_to_shredding(current))
        shred(current, reason=reason, actor=actor)


SHRED, KEEP = "shred", "keep"


def _is_a_large_cost(key: Key, _fields: Mapping[str, Any]) -> bool:
    return is_large(key.item.product.max_cost, total=key.item.order.total)


class RebuyForm(ReasonForm):
    old_key = forms.ChoiceField(
        label="The old key",
        choices=[(SHRED, "is shredded when the new one is there"), (KEEP, "stays with the customer")],
        widget=forms.RadioSelect,
        initial=SHRED,
    )


class ReplaceByHandForm(RebuyForm):
    code = SecretField(label="New code")


DELIVER_BY_HAND = Decision(
    name="deliver-by-hand",
    label="Deliver by hand",
    permission="orders.deliver_order",
    objection=objection_to_deciding_by_hand,
    carry_out=deliver_typed,
    form=ReasonForm,
    form_for=form_of_missing_units,
    consequence="The codes are sealed and handed to the customer. Type one code for each missing key of an item, or"
    " leave the item empty. Keys that the supplier still sends for it afterwards are surplus.",
    done="the codes are sealed; the customer gets a mail when every key of the order is there.",
)
REPLACE_BY_HAND = Decision(
    name="replace-by-hand",
    label="Replace by hand",
    permission="fulfillment.replace_by_hand",
    objection=objection_to_replacing_by_hand,
    carry_out=replace_by_hand,
    form=ReplaceByHandForm,
    consequence="The customer gets the new code in place of this key, and a mail. The order stays fulfilled.",
    done="replaced; the customer gets a mail.",
)
REBUY = Decision(
    name="rebuy",
    label="Replace: buy again",
    permission="fulfillment.rebuy",
    objection=objection_to_rebuying,
    carry_out=rebuy,
    form=RebuyForm,
    needs_second=_is_a_large_cost,
    consequence="One more key is bought from the supplier, at our cost, after a search shows that none was bought for"
    " this already. The customer gets it in place of this key, and a mail. The order stays fulfilled.",
    done="a worker searches for it at the supplier and buys it within seconds; the customer gets a mail then.",
)
SHRED_KEY = Decision(
    name="shred",
    label="Shred",
    permission="storage.shred_key",
    objection=objection_to_shredding,
    carry_out=shred_key,
    form=ReasonForm,
    consequence="The key is destroyed for good: nobody can open it again, and the customer no longer sees it.",
    done="shredded; nobody can open it again.",
)
