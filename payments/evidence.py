"""What staff look at before they decide about a payment: our numbers beside the provider's, and the reason in words."""

from dataclasses import dataclass

from django.conf import settings

from bitloot.lib.money import plain
from payments.models import Payment

_WORDS = {
    "too_little": "Less than asked arrived. The customer was asked for the rest.",
    "partially_paid": "Less than asked arrived. The customer was asked for the rest.",
    "order_not_covered": "This payment and the parts before it do not make up the price.",
    "second_payment": "The order is paid already: this came on top of it.",
    "child_payment": "Coins came once more to an old address, or in another coin than the one asked for.",
    "not_created_by_us": "This payment was not made by us for this order: coins came to an old address.",
    "other_payment": "The provider answered about another payment.",
    "other_order": "The provider knows this payment for another order.",
    "other_price": "The provider knows another price than we asked for.",
    "other_price_currency": "The provider knows the price in another currency.",
    "other_coin": "The payment is in another coin than the one asked for.",
    "no_amount": "The provider's amounts are none that can be compared.",
    "nothing_paid": "The provider says finished, and that nothing was paid.",
    "create_mismatch": "When we made this payment the provider answered about another one.",
    "bound_twice": "The provider named a payment that another order has.",
    "unknown_status": "The provider uses a word for its state that we do not know.",
}


@dataclass(frozen=True)
class Line:
    what: str
    ours: str
    theirs: str
    differs: str = ""  # in words; nothing if the two agree


def in_words(reason: str) -> str:
    """Say what a reason code of a payment in review means."""
    if sentence := _WORDS.get(reason):
        return sentence
    for begin, sentence in (
        ("partially_paid_after_", "A part arrived for a payment that had ended: {}."),
        ("finished_after_", "The money arrived for a payment that had ended: {}."),
        ("order_", "The money arrived for an order that takes none any more: {}."),
    ):
        if reason.startswith(begin):
            return sentence.format(reason.removeprefix(begin).replace("_", " "))
    if reason.startswith("partially_paid_"):
        return f"A part arrived. {in_words(reason.removeprefix('partially_paid_'))}"
    if reason.endswith("_with_money"):
        return f"The provider ended the payment ({reason.removesuffix('_with_money')}) although coins had come."
    return reason.replace("_", " ").capitalize() + "."


def compare(payment: Payment) -> list[Line]:
    """Set what we asked for beside what the provider said when it was last re-read; nothing before that."""
    said = payment.evidence
    if not said:
        return []
    asked = "–" if payment.pay_amount is None else f"{plain(payment.pay_amount)} {payment.pay_currency}"
    return [
        _same("order", str(payment.order_id), said.get("order_id", "")),
        _same("price", f"{plain(payment.price_amount)} {payment.price_currency.lower()}", said.get("price", "")),
        _same("asked", asked, said.get("asked", "")),
        Line("arrived", asked, f"{said.get('paid', '')} {_coin(said.get('asked', ''))}".strip(), _shortfall(payment)),
        Line("state", payment.status, said.get("status", ""), _state(said.get("status"))),
        Line("payment it belongs to", payment.parent_external_id or "–", said.get("parent") or "–",
             "a child of another payment" if said.get("parent") else ""),
    ]  # fmt: skip


def _same(what: str, ours: str, theirs: str) -> Line:
    return Line(what, ours, theirs or "–", "" if ours == theirs else "differs")


def _state(status: str | None) -> str:
    return "" if status == "finished" else "not finished"


def _coin(amount: str) -> str:
    return amount.rpartition(" ")[2]


def _shortfall(payment: Payment) -> str:
    if not payment.pay_amount:
        return "nothing to compare it with"
    share = payment.actually_paid / payment.pay_amount
    if share < 1 - settings.PAYMENT_TOLERANCE:
        return f"too little: {share:.1%}"
    return f"too much: {share:.1%}" if share > 1 + settings.PAYMENT_TOLERANCE else ""
