"""Our numbers of a payment beside the provider's, and in words where they differ: what staff decide on."""

from dataclasses import dataclass, replace

from django.conf import settings

from bitloot.core.admin.formatting import in_words
from bitloot.core.money import plain
from payments.models import Payment


@dataclass(frozen=True)
class Comparison:
    what: str
    ours: str
    theirs: str
    differs: str = ""  # in words; nothing if the two agree


def compare(payment: Payment) -> list[Comparison]:
    """Set what we asked for beside what the provider said when it was last re-read; nothing before that."""
    said = payment.evidence
    if not said:
        return []
    arrived = f"{said.get('paid', '')} {_coin(said.get('asked', ''))}".strip()
    asked = "–" if payment.pay_amount is None else f"{plain(payment.pay_amount)} {payment.pay_currency}"
    return [
        _same("order", str(payment.order_id), said.get("order_id", "")),
        _money("price", f"{plain(payment.price_amount)} {payment.price_currency.lower()}", said.get("price", "")),
        _money("asked", asked, said.get("asked", "")),
        Comparison("arrived", asked.upper(), arrived.upper(), _shortfall(payment)),
        Comparison("state", in_words(payment.status), in_words(said.get("status", "")), _state(said.get("status"))),
        Comparison("payment it belongs to", payment.parent_external_id or "–", said.get("parent") or "–",
             "a child of another payment" if said.get("parent") else ""),
    ]  # fmt: skip


def _same(what: str, ours: str, theirs: str) -> Comparison:
    return Comparison(what, ours, theirs or "–", "" if ours == theirs else "differs")


def _money(what: str, ours: str, theirs: str) -> Comparison:
    """Compared as the provider writes it, and shown as people do: 9.99 EUR."""
    same = _same(what, ours, theirs)
    return replace(same, ours=same.ours.upper(), theirs=same.theirs.upper())


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
