"""The words in which payments/tests/stories/ tells its stories: events, and the lines of the table they end in."""

from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any

# Alerts that are no reviews.
OWN_KINDS = ("ipn_", "payment_un", "payments_down", "overpaid", "accepted_below_price")
BRING_IPNS = ("says", "lies", "deposit", "choose_overtaken", "choose_unanswered")


@dataclass(frozen=True)
class Event:
    """A method of World with its arguments. Those that return an IPN can arrive in any order and any number."""

    verb: str
    args: tuple[Any, ...] = ()
    words: dict[str, Any] = field(default_factory=dict)

    @property
    def is_heard(self):
        """Return whether it brings an IPN that the store keeps."""
        kept_back = self.words.get("silent") or self.words.get("lost") or self.words.get("signed") is False
        return self.verb in BRING_IPNS and not kept_back

    def happen(self, world):
        return getattr(world, self.verb)(*self.args, **self.words)


@dataclass(frozen=True)
class Story:
    name: str
    events: tuple[Event, ...]
    _: KW_ONLY
    before: tuple[Event, ...] = (Event("choose", ("btc",)),)
    after: tuple[Event, ...] = ()
    order: str
    payments: tuple[str, ...]
    timeline: tuple[str, ...]
    mails: tuple[str, ...] = ()
    alerts: tuple[str, ...] = ()
    refunds: tuple[str, ...] = ()
    inbox: tuple[str, ...] = ()
    refused: tuple[Any, ...] = ()
    # Where `events` end if the provider took something back before anybody asked it: order, payments, alerts, refunds.
    unseen: tuple[Any, ...] = ()
    # The sweep alone does not hear of this.
    needs_ipn: bool = False

    @property
    def has_faults(self):
        return any(event.verb == "spoil" for event in self.before)

    @property
    def row(self):
        """Return this story as a line of the table in docs/payments.md."""
        asked = "; ".join(alert.removeprefix("payment_review: ") for alert in self.alerts)
        cells = (self.name, self.order, " + ".join(self.payments), ", ".join(self.mails), asked)
        return f"| {' | '.join(cell or '—' for cell in cells)} |"


def choose(coin="btc"):
    return Event("choose", (coin,))


def says(status, paid=None, of=0, **fields):
    return Event("says", (of, status), {"paid": paid, **fields})


def quietly(status, paid=None, of=0, **fields):
    return Event("says", (of, status), {"paid": paid, "silent": True, **fields})


def deposit(mode, of=0):
    return Event("deposit", (of, mode))


def lies(of=0, **fields):
    return Event("lies", (of,), fields)


def fault(name, times=1, op="nowpayments.payment.get", **args):
    return Event("spoil", (op, name, times), args)


def order_moves(move, **words):
    return Event("move_order", (move,), words)


def staff(decision, of=0):
    return Event(decision, (of,))


SWEEP, CATCH_UP, CALM = Event("sweep"), Event("catch_up"), Event("calm")
REFUND_FLOW = (Event("give_addresses"), Event("send_refunds"), Event("finish_refunds"))
DELIVERED = (order_moves("mark_fulfilling"), order_moves("mark_fulfilled"))
FINISHED, PART = says("finished", paid=1), says("partially_paid", paid="0.5")
NUMBERED = ("first", "second", "third")
PAID = (choose(), FINISHED)
HALF = (choose(), PART)
BACK = "refund_asked, refund_address, refund_sent, refund_arrived"  # the mails of a refund
GIVEN_BACK = "refund: The address for the refund was given: it ends in …qqqqqq., refund sent, refund done"
OTHER_ORDER = "5f0f2e8c-6ad3-4b0e-8d7b-2f6f0a6f4a11"
OVERTAKEN, UNANSWERED = Event("choose_overtaken", ("btc",)), Event("choose_unanswered", ("btc",))
LOST = Event("choose_unanswered", ("btc",), {"lost": True})
WEEK = Event("age", (), {"days": 7})
QUARTER = Event("stay_unread", (), {"minutes": 15})
NO_AMOUNT = says("finished", paid=1, actually_paid="NaN")
ODDITIES = {
    "outcome_amount": "",
    "outcome_currency": 7,
    "payin_extra_id": 2918473650,
    "payment_extra_ids": "",
    "purchase_id": "0b8f4b7e-4a60-4f5c-9f0f-0e7f6c1f3d55",
    "pay_address": None,
    "updated_at": [],
}
TWO_HOURS, EXPIRED_ORDER = Event("age", (), {"hours": 2}), Event("age", (), {"hours": 25})


def ends(name, end, *events, told, inbox=None, **more):
    """Tell a story whose end is spelled as its line of docs/payments.md is: order | payments | mails | alerts.

    Events that are only what the provider says of a payment, and which share of it was paid then, are a text as well.
    `told` is the timeline: where the payment goes ("second" and "third" before those of further payments), where the
    order and the refund go, and other entries word for word. Every IPN is processed unless `inbox` says otherwise.
    """
    happened = tuple(event for part in events for event in (_said(part) if isinstance(part, str) else [part]))
    order, payments, mails, alerts = ("" if cell == "—" else cell for cell in end.split(" | "))
    mails = more.pop("mails", mails)
    story = Story(
        name,
        happened,
        order=order,
        payments=tuple(payments.split(" + ")),
        timeline=tuple(_timeline(told)),
        mails=_texts(mails),
        alerts=tuple(
            kind if kind.startswith(OWN_KINDS) else f"payment_review: {kind}" for kind in _texts(alerts, "; ")
        ),
        **more,
    )
    if inbox is not None:
        return replace(story, inbox=_texts(inbox))
    heard = sum(event.is_heard for event in (*story.before, *happened, *story.after))
    return replace(story, inbox=("processed",) * heard)


def pays(name, *events, told="waiting, finished, order paid", **more):
    return ends(name, "paid | finished | payment_received | —", *events, told=told, **more)


def waits(name, *events, told="waiting", **more):
    return ends(name, "pending | waiting | — | —", *events, told=told, **more)


def unknown(name, *events):
    return ends(name, "pending | waiting | — | payment_unknown_status", *events, told="waiting")


def underpays(name, *events, told="waiting, partially_paid, order underpaid", **more):
    end = "underpaid | partially_paid: too_little | underpaid | partially_paid"
    return ends(name, end, *events, told=told, **more)


def held(name, reason, *events, told="waiting, review, order held", **more):
    """Tell a story that stops in front of our staff, for this reason."""
    return ends(name, f"held: {reason} | review: {reason} | payment_checked | {reason}", *events, told=told, **more)


def _texts(listed, separator=", "):
    return tuple(listed.split(separator)) if listed else ()


def _said(listed):
    for part in listed.split(", "):
        words = part.split()
        number = NUMBERED.index(words.pop(0)) if words[0] in NUMBERED else 0
        share = words.pop() if len(words) > 1 else None
        yield says(*words, of=number, paid=int(share) if share and share.isdigit() else share)


def _timeline(told):
    states = {"order": "pending", "refund": "requested"}
    for part in told.split(", "):
        if ":" in part or ">" in part:
            yield part
            continue
        who, _, status = part.rpartition(" ")
        kind = who if who in ("order", "refund") else "payment"
        yield f"{kind} {states.get(who, 'creating')} > {status}"
        states[who] = status
