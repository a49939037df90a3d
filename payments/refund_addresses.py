"""Where a refund goes to: what customers give is checked against the coin's own rules and never overwritten."""

import uuid
from typing import Any

import regex
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from bitloot.core.clock import delay
from bitloot.core.sentences import Sentence
from orders.alerts import close_alert, raise_alert
from orders.choices import AlertKind
from orders.models import Email, Order
from orders.services import queue_email
from payments.exceptions import AddressRefused
from payments.models import Coin, Refund, RefundAddress

MOST_ADDRESSES = 10  # each is mailed to the customer and to staff
MATCH_SECONDS = 0.1
NO_MEMO = frozenset({"none", "null", "no", "n/a", "na", "nil", "empty", "-", "undefined"})
_ADDRESS = regex.compile(r"[\x21-\x7e]{8,200}")
_MEMO = regex.compile(r"[\x21-\x7e]{1,100}")
_SCHEME = regex.compile(r"[A-Za-z+]{2,20}:")  # of what wallets share and QR codes hold: bitcoin:bc1q…?amount=…
NOT_WAITING = gettext_lazy("This refund is not waiting for an address.")


def give_address(
    *, order: Order, refund_id: uuid.UUID, address: str, extra_id: str = "", link: tuple[str, int] = ("", 0),
    client: str = "",
) -> Refund:  # fmt: skip
    """Add the address that the customer wants the coins at; another one may follow until they are sent.

    The first may be paid at once; one that replaces another rests for REFUND_REST_HOURS, so that a customer whose link
    leaked can object. Raises AddressRefused.
    """
    address, extra_id = address.strip(), extra_id.strip()
    refund = Refund.objects.filter(pk=refund_id, order=order).first()
    if refund is None or refund.status != Refund.Status.REQUESTED:
        raise AddressRefused(NOT_WAITING)
    # Before the lock: the patterns are the provider's, and a bad one may take its time.
    _check(refund.currency, address, extra_id)
    with transaction.atomic():
        order = order.lock()
        # Read again under the lock: staff may have sent the coins while the patterns ran.
        refund = Refund.objects.select_for_update(of=("self",)).select_related("destination").get(pk=refund_id)
        if refund.status != Refund.Status.REQUESTED:
            raise AddressRefused(NOT_WAITING)
        if (refund.address, refund.extra_id) != (address, extra_id):
            _add(order, refund, RefundAddress(
                refund=refund, address=address, extra_id=extra_id, link_kind=link[0], link_generation=link[1],
                client=client,
            ))  # fmt: skip
    return Refund.objects.to_show().get(pk=refund.pk)


def _add(order: Order, refund: Refund, given: RefundAddress) -> None:
    if refund.addresses.count() >= MOST_ADDRESSES:
        raise AddressRefused(_("This address was changed too often. Write to us and we'll sort it out with you."))
    if refund.destination is not None:
        given.rests_until = timezone.now() + delay(settings.REFUND_REST_HOURS * 3600)
    given.save(force_insert=True)
    Refund.objects.filter(pk=refund.pk).update(destination=given)
    ending = {"ending": str(given)}
    if given.rests_until:
        order.note("refund", Sentence("The address for the refund was changed: it ends in %(ending)s.", **ending))
    else:
        order.note("refund", Sentence("The address for the refund was given: it ends in %(ending)s.", **ending))
    _tell_customer(order, refund, given)
    _tell_staff(order, refund, given)


def _tell_customer(order: Order, refund: Refund, given: RefundAddress) -> None:
    facts: dict[str, Any] = {"coins": refund.coins, "address": str(given)}
    if given.rests_until is not None:
        facts["until"] = given.rests_until.isoformat()
    queue_email(order, Email.Kind.REFUND_ADDRESS, **facts)


def _tell_staff(order: Order, refund: Refund, given: RefundAddress) -> None:
    # The alert about the address before would only count one more, and nobody would get a mail.
    close_alert(AlertKind.REFUND_TO_SEND, refund, by="automatic: another address was given")
    message = f"The customer gave an address for {refund}, ending in {given}."
    if given.rests_until is None:
        message += f" Send {refund.coins}, then enter the transaction id."
    else:
        message += f" It replaces another one: send {refund.coins} after {given.rests_until:%d %B, %H:%M} UTC."
    raise_alert(AlertKind.REFUND_TO_SEND, refund, message, order=order)


def _check(currency: str, address: str, extra_id: str) -> None:
    coin = Coin.objects.filter(code=currency).first()
    is_one = _ADDRESS.fullmatch(address) is not None
    fits = is_one and (coin is None or _fits(coin.wallet_regex, address))
    # No address has a “?”; some have a colon (bitcoincash:q…), which their coin's pattern knows.
    if "?" in address or (_SCHEME.match(address) and not fits):
        sentence = _("This is a payment link. Give only the address in it: what follows the colon, up to a “?”.")
        raise AddressRefused(sentence)
    if not is_one:
        raise AddressRefused(_("This is not an address. Copy it from your wallet as it is."))
    if coin is not None and not fits:
        sentence = _("This is not an address for %(coin)s. Copy it from your wallet as it is.")
        raise AddressRefused(sentence % {"coin": coin.name})
    if extra_id and not _MEMO.fullmatch(extra_id):
        raise AddressRefused(_("This is not a memo or tag. Copy it from your wallet as it is."))
    if coin is not None:
        _check_memo(coin, extra_id)


def _check_memo(coin: Coin, memo: str) -> None:
    if not memo:
        if coin.needs_memo:
            sentence = _("%(coin)s needs a memo or tag with the address. Your wallet shows it.")
            raise AddressRefused(sentence % {"coin": coin.name})
        return
    if not coin.takes_memo:
        raise AddressRefused(_("%(coin)s has no memo or tag. Leave that field empty.") % {"coin": coin.name})
    # Somebody without a memo may write so; coins would be sent with that word, and never be found.
    if memo.lower() in NO_MEMO or not _fits(coin.memo_regex, memo):
        sentence = (
            _("This is not a memo or tag for %(coin)s. Your wallet shows it.")
            if coin.needs_memo
            else _("This is not a memo or tag for %(coin)s. Leave the field empty if your wallet shows none.")
        )
        raise AddressRefused(sentence % {"coin": coin.name})


def _fits(pattern: str, text: str) -> bool:
    """Match the provider's own pattern; one that cannot be read, or takes too long, says nothing about the text."""
    try:
        return not pattern or regex.fullmatch(pattern, text, timeout=MATCH_SECONDS) is not None
    except (regex.error, TimeoutError):
        return True
