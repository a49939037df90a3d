"""What real NOWPayments traffic brings, as data: events in; order, payments, timeline, mails, alerts, refunds out."""

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
    heard = sum(event.is_heard for event in (*story.before, *happened, *story.after))
    return replace(story, inbox=("processed",) * heard if inbox is None else _texts(inbox))


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


STORIES = (
    # --- the road, with steps missing, repeated and late
    waits("nobody pays", "waiting"),
    pays(
        "every step in order",
        "waiting, confirming, confirmed, sending, finished 1",
        told="waiting, confirming, confirmed, sending, finished, order paid",
    ),
    pays("only the last step is told", "finished 1"),
    pays("steps are missing", "confirming 1, finished", told="waiting, confirming, finished, order paid"),
    ends("seen on the chain", "pending | confirming | — | —", "confirming 1", told="waiting, confirming"),
    ends(
        "confirmed by the chain",
        "pending | confirmed | — | —",
        "confirming 1, confirmed",
        told="waiting, confirming, confirmed",
    ),
    ends("on its way to us", "pending | sending | — | —", "confirmed 1, sending", told="waiting, confirmed, sending"),
    pays(
        "a step is told twice",
        "confirming 1, confirming, finished, finished",
        told="waiting, confirming, finished, order paid",
    ),
    pays("steps go back", "sending 1, confirming, finished", told="waiting, sending, finished, order paid"),
    pays("a step after the end", "finished 1, confirming", unseen=("pending", ("confirming",), (), ())),
    pays("waiting after the end", "finished 1, waiting", unseen=("pending", ("waiting",), (), ())),
    # --- IPNs that are lost, early, lying, forged or about something else
    pays(
        "no IPN ever arrives",
        before=(choose(), quietly("confirming", paid=1), SWEEP, quietly("finished"), SWEEP),
        told="waiting, confirming, finished, order paid",
    ),
    pays(
        "only the last IPN is lost",
        "confirming 1",
        after=(quietly("finished"), SWEEP),
        told="waiting, confirming, finished, order paid",
    ),
    waits("an IPN says more than the provider", lies(payment_status="finished", actually_paid="1")),
    pays(
        "an IPN comes before the provider's own API knows",
        lies(payment_status="finished"),
        "confirming 1, finished",
        told="waiting, confirming, finished, order paid",
    ),
    waits("an IPN that nobody signed", lies(signed=False, payment_status="finished"), refused=(401,)),
    pays(
        "a forged IPN and then the true one",
        lies(signed=False, payment_status="finished"),
        "finished 1",
        refused=(401,),
    ),
    ends(
        "an IPN that names another order",
        "pending | waiting | — | ipn_other_order",
        lies(order_id=OTHER_ORDER),
        told="waiting",
        needs_ipn=True,
    ),
    ends(
        "another order's IPN does not spoil the payment",
        "paid | finished | payment_received | ipn_other_order",
        lies(order_id=OTHER_ORDER),
        "finished 1",
        told="waiting, finished, order paid",
        needs_ipn=True,
    ),
    ends(
        "the provider itself knows the payment for another order",
        "held: other_order | review: other_order | payment_checked | ipn_other_order; other_order",
        says("finished", paid=1, order_id=OTHER_ORDER),
        told="waiting, review, order held",
        needs_ipn=True,
    ),
    waits("a payout on the same URL", Event("payout"), inbox="ignored"),
    waits("an IPN for a payment of nobody", Event("stranger"), inbox="ignored"),
    waits("our creation is announced before it returns", before=(OVERTAKEN,)),
    pays("our creation is announced before it returns, and paid", "finished 1", before=(OVERTAKEN,)),
    waits(
        "the answer to our creation is lost",
        "waiting",
        before=(Event("choose_unanswered", ("xrp",)),),
        refused=("NoAnswer",),
    ),
    pays(
        "the answer is lost, and the customer pays all the same",
        "confirming 1, finished",
        before=(UNANSWERED,),
        told="waiting, confirming, finished, order paid",
        refused=("NoAnswer",),
    ),
    ends(
        "the answer is lost twice, both payments are paid",
        "paid | finished + review: second_payment | payment_received | second_payment",
        "finished 1, second finished 1",
        before=(UNANSWERED, UNANSWERED),
        told="waiting, second waiting, finished, order paid, second review",
        refused=("NoAnswer", "NoAnswer"),
    ),
    ends(
        "the answer is lost and nobody ever hears of it",
        "pending | expired: no_answer | — | —",
        before=(LOST, TWO_HOURS, SWEEP),
        told="expired",
        refused=("NoAnswer",),
    ),
    ends(
        "the answer is lost, an hour passes, then money",
        "held: not_created_by_us | review: not_created_by_us + expired: no_answer | payment_checked"
        " | not_created_by_us",
        "finished 1",
        before=(LOST, TWO_HOURS, SWEEP),
        told="expired, payment waiting > review, order held",
        refused=("NoAnswer",),
        needs_ipn=True,
    ),
    # --- the provider cannot be asked
    pays("reading fails with 500", "finished 1", before=(choose(), fault("5xx_before")), after=(CATCH_UP,)),
    pays("reading fails with an HTML 429", "finished 1", before=(choose(), fault("429")), after=(CATCH_UP,)),
    pays("reading brings a web page", "finished 1", before=(choose(), fault("garbage")), after=(CATCH_UP,)),
    pays("reading brings half an answer", "finished 1", before=(choose(), fault("truncated")), after=(CATCH_UP,)),
    pays("reading is redirected", "finished 1", before=(choose(), fault("redirect_307")), after=(CATCH_UP,)),
    waits(
        "reading fails for long",
        "finished 1",
        before=(choose(), fault("5xx_before", None)),
        after=(CATCH_UP, SWEEP),
        inbox="received",
    ),
    pays(
        "reading fails for long, then heals",
        "finished 1",
        before=(choose(), fault("5xx_before", None)),
        after=(CATCH_UP, CATCH_UP, CALM, SWEEP),
        inbox="received",
    ),
    # --- too little
    underpays("a part is paid", "partially_paid 0.5"),
    underpays(
        "a part is paid after the first steps",
        "confirming 0.5, sending, partially_paid",
        told="waiting, confirming, sending, partially_paid, order underpaid",
    ),
    underpays("a part is paid, told twice", "partially_paid 0.5, partially_paid"),
    ends(
        "a part grows",
        "underpaid | partially_paid: too_little | underpaid, underpaid | partially_paid",
        "partially_paid 0.5, partially_paid 0.7",
        told="waiting, partially_paid, order underpaid, payment: 0.000301609 BTC arrived; 0.000129261 BTC are missing.",
    ),
    ends(
        "a part, then the provider covers the rest",
        "paid | finished | underpaid, payment_received | —",
        "partially_paid 0.5, finished 1",
        told="waiting, partially_paid, order underpaid, finished, order paid",
    ),
    ends(
        "a part, then the provider calls it finished",
        "held: too_little | review: too_little | underpaid, payment_checked | too_little",
        "partially_paid 0.5, finished",
        told="waiting, partially_paid, order underpaid, review, order held",
    ),
    pays("a rounding error short", "finished 0.99999996"),
    pays("short within the tolerance", "finished 0.995"),
    held("short beyond the tolerance", "too_little", "finished 0.9949"),
    ends(
        "a part, then the rest in the same coin",
        "paid | partially_paid: too_little + finished | underpaid, payment_received | —",
        "second finished 1",
        before=(*HALF, choose()),
        told="waiting, partially_paid, order underpaid, second waiting, second finished, order paid",
    ),
    ends(
        "a part, then the rest in another coin",
        "paid | partially_paid: too_little + finished | underpaid, payment_received | —",
        "second confirming 1, second finished",
        before=(*HALF, choose("eth")),
        told="waiting, partially_paid, order underpaid, second waiting, second confirming, second finished, order paid",
    ),
    ends(
        "a part, a part of the rest, and the rest of that",
        "paid | partially_paid: too_little + partially_paid: too_little + finished | "
        "underpaid, underpaid, payment_received | —",
        "third finished 1",
        before=(*HALF, choose("eth"), says("partially_paid", paid="0.5", of=1), choose("ltc")),
        told="waiting, partially_paid, order underpaid, second waiting, second partially_paid, third waiting, "
        "third finished, order paid",
    ),
    ends(
        "a part, then a part of the rest",
        "underpaid | partially_paid: too_little + partially_paid: too_little | "
        "underpaid, underpaid | partially_paid; partially_paid",
        "second partially_paid 0.5",
        before=(*HALF, choose("eth")),
        told="waiting, partially_paid, order underpaid, second waiting, second partially_paid",
    ),
    ends(
        "a part beside a payment of everything",
        "paid | partially_paid: too_little + finished | underpaid, payment_received | partially_paid",
        "partially_paid 0.5, second finished 1",
        before=(choose(), choose("eth")),
        told="waiting, second waiting, partially_paid, order underpaid, second finished, order paid",
    ),
    ends(
        "two parts that make a whole",
        "held: paid_in_parts | partially_paid: too_little + partially_paid: too_little | "
        "underpaid, payment_checked | partially_paid; partially_paid",
        "partially_paid 0.6, second partially_paid 0.6",
        before=(choose(), choose("eth")),
        after=(choose("ltc"),),
        told="waiting, second waiting, partially_paid, order underpaid, second partially_paid, order held",
        refused=("NotPayable",),
    ),
    ends(
        "two parts that make a whole are accepted",
        "paid | finished: accepted + partially_paid: too_little | underpaid, payment_checked, payment_received"
        " | accepted_below_price; partially_paid",
        "partially_paid 0.6, second partially_paid 0.6",
        before=(choose(), choose("eth")),
        after=(staff("accept"),),
        told="waiting, second waiting, partially_paid, order underpaid, second partially_paid, order held, "
        "staff: Accepted as paid: looked at the chain, finished, order paid",
    ),
    ends(
        "two parts, then one of them is finished",
        "paid | finished + partially_paid: too_little | underpaid, payment_checked, payment_received | partially_paid",
        "second partially_paid 0.6, partially_paid 0.6, finished 1",
        before=(choose(), choose("eth")),
        told="waiting, second waiting, partially_paid, order underpaid, second partially_paid, order held, "
        "finished, order paid",
    ),
    ends(
        "a part that lacks nothing",
        "held: paid_in_parts | partially_paid: too_little | payment_checked | partially_paid",
        "partially_paid 1",
        told="waiting, partially_paid, order underpaid, order held",
    ),
    underpays("a part of nothing", "partially_paid 0"),
    underpays(
        "a part, then the quote ends",
        "partially_paid 0.5, expired",
        unseen=(
            "held: expired_with_money",
            ("review: expired_with_money",),
            ("payment_review: expired_with_money",),
            (),
        ),
    ),
    ends(
        "a part, then cancelled in the dashboard",
        "held: cancelled_with_money | review: cancelled_with_money | underpaid, payment_checked | cancelled_with_money",
        "partially_paid 0.5, cancelled",
        told="waiting, partially_paid, order underpaid, review, order held",
    ),
    ends(
        "a part, sent back by the provider",
        "underpaid | refunded: too_little | underpaid, coins_returned | refunded",
        "partially_paid 0.5, refunded",
        told="waiting, partially_paid, order underpaid, refunded",
        unseen=("pending", ("refunded",), ("payment_review: refunded",), ()),
    ),
    ends(
        "a part is sent back while the rest is paid",
        "held: order_not_covered | refunded: too_little + review: order_not_covered | "
        "underpaid, coins_returned, payment_checked | order_not_covered; refunded",
        "refunded, second finished 1",
        before=(*HALF, choose("eth")),
        told="waiting, partially_paid, order underpaid, second waiting, refunded, second review, order held",
    ),
    ends(
        "a part for an order that had expired",
        "underpaid: unpaid | partially_paid: too_little | expired, underpaid | partially_paid",
        "partially_paid 0.5",
        before=(choose(), EXPIRED_ORDER),
        told="waiting, order expired, partially_paid, order underpaid",
    ),
    held(
        "a part with another price",
        "partially_paid_other_price",
        says("partially_paid", paid="0.5", price_amount="12.00"),
    ),
    ends(
        "a part is accepted by staff",
        "paid | finished: accepted | underpaid, payment_received | accepted_below_price",
        "partially_paid 0.5",
        after=(staff("accept"), says("partially_paid"), says("finished")),
        told="waiting, partially_paid, order underpaid, staff: Accepted as paid: looked at the chain, "
        "finished, order paid",
    ),
    ends(
        "staff ask for the rest, and it comes",
        "paid | partially_paid: too_little + finished | underpaid, underpaid, payment_received | —",
        "second finished 1",
        before=(*HALF, staff("ask_for_rest"), choose()),
        told="waiting, partially_paid, order underpaid, staff: The customer was asked for the rest., "
        "second waiting, second finished, order paid",
    ),
    ends(
        "a part is refunded by staff",
        "refunded | refunded: too_little | underpaid, refund_asked, refund_address, refund_sent, refund_arrived | —",
        "partially_paid 0.5",
        after=(staff("refund"), *REFUND_FLOW),
        told="waiting, partially_paid, order underpaid, refund: 0.000215435 BTC go back to the customer., "
        f"order refund_due, {GIVEN_BACK}, refunded, order refunded",
        refunds=("done 0.000215435 btc",),
    ),
    ends(
        "a part is refunded, then the rest comes all the same",
        f"refunded | refunded: too_little + review: order_refunded | underpaid, {BACK} | order_refunded",
        "second finished 1",
        before=(*HALF, choose("eth"), staff("refund"), *REFUND_FLOW),
        told="waiting, partially_paid, order underpaid, second waiting, "
        f"refund: 0.000215435 BTC go back to the customer., order refund_due, {GIVEN_BACK}, refunded, "
        "order refunded, second review",
        refunds=("done 0.000215435 btc",),
    ),
    # --- too much, too often
    ends(
        "too much",
        "paid | finished | payment_received, overpaid | overpaid",
        "finished 1.2",
        told="waiting, finished, order paid, payment: 0.000086174 BTC more than asked arrived.",
    ),
    pays("a little too much", "finished 1.004"),
    ends(
        "too much for the rest",
        "paid | partially_paid: too_little + finished | underpaid, payment_received, overpaid | overpaid",
        says("finished", paid="2", of=1),
        before=(*HALF, choose("eth")),
        told="waiting, partially_paid, order underpaid, second waiting, second finished, order paid, "
        "payment: 0.00520834 ETH more than asked arrived.",
    ),
    ends(
        "two coins, the second is paid",
        "paid | expired + finished | payment_received | —",
        "expired, second finished 1",
        before=(choose(), choose("eth")),
        told="waiting, second waiting, expired, second finished, order paid",
    ),
    ends(
        "two coins, both are paid",
        "paid | finished + review: second_payment | payment_received | second_payment",
        "finished 1, second finished 1",
        before=(choose(), choose("eth")),
        told="waiting, second waiting, finished, order paid, second review",
    ),
    ends(
        "a second payment for a delivered order",
        "fulfilled | finished + review: second_payment | payment_received | second_payment",
        "second finished 1",
        before=(choose("eth"), choose(), FINISHED, *DELIVERED),
        told="waiting, second waiting, finished, order paid, order fulfilling, order fulfilled, second review",
    ),
    ends(
        "a second payment for a delivered order is sent back",
        f"fulfilled | finished + refunded: second_payment | payment_received, {BACK} | —",
        "second finished 1",
        before=(choose("eth"), choose(), FINISHED, *DELIVERED),
        after=(staff("refund", of=1), *REFUND_FLOW, says("finished", of=1)),
        told="waiting, second waiting, finished, order paid, order fulfilling, order fulfilled, second review, "
        f"refund: 0.00043087 BTC go back to the customer., {GIVEN_BACK}, second refunded",
        refunds=("done 0.00043087 btc",),
    ),
    # --- after the end of the quote or the order
    ends("the quote ends", "pending | expired | — | —", "expired", told="waiting, expired"),
    pays("the quote ends, then everything comes", "expired, finished 1", told="waiting, expired, finished, order paid"),
    pays(
        "the quote ends, then step by step",
        "expired, confirming 1, sending, finished",
        told="waiting, expired, confirming, sending, finished, order paid",
    ),
    underpays(
        "the quote ends, then a part",
        "expired, partially_paid 0.3",
        told="waiting, expired, partially_paid, order underpaid",
    ),
    held("the quote ends with money in it", "expired_with_money", "expired 0.3"),
    ends(
        "the quote ends with money, staff accept",
        "paid | finished: accepted | payment_checked, payment_received | accepted_below_price",
        "expired 0.9",
        after=(staff("accept"), says("expired")),
        told="waiting, review, order held, staff: Accepted as paid: looked at the chain, finished, order paid",
    ),
    pays(
        "money comes silently after the quote ended",
        "expired",
        after=(Event("age", (), {"days": 6}), quietly("finished", paid=1), SWEEP),
        told="waiting, expired, order expired, finished, order paid",
        mails="expired, payment_received",
    ),
    pays(
        "money for an expired order",
        "finished 1",
        before=(choose(), EXPIRED_ORDER),
        told="waiting, order expired, finished, order paid",
        mails="expired, payment_received",
    ),
    ends(
        "money for a cancelled order",
        "cancelled: cancelled | review: order_cancelled | — | order_cancelled",
        "finished 1",
        before=(choose(), order_moves("cancel", message="Cancelled.")),
        told="waiting, order cancelled, review",
    ),
    ends(
        "money for a cancelled order goes back",
        "refunded | refunded: order_cancelled | refund_asked, refund_address, refund_sent, refund_arrived | —",
        "finished 1",
        before=(choose(), order_moves("cancel", message="Cancelled.")),
        after=(staff("refund"), *REFUND_FLOW),
        told="waiting, order cancelled, review, refund: 0.00043087 BTC go back to the customer., "
        f"order refund_due, {GIVEN_BACK}, refunded, order refunded",
        refunds=("done 0.00043087 btc",),
    ),
    ends(
        "money for an order that is refunded already",
        f"refunded | refunded + review: second_payment | payment_received, {BACK} | second_payment",
        "second finished 1",
        before=(
            choose("eth"),
            choose(),
            FINISHED,
            order_moves("mark_refund_due", reason="no_key", message="No key."),
            *REFUND_FLOW,
        ),
        told="waiting, second waiting, finished, order paid, order refund_due, "
        f"refund: 0.0104125 ETH go back to the customer., {GIVEN_BACK.replace('qqqqqq', 'ababab')}, refunded, "
        "order refunded, second review",
        refunds=("done 0.0104125 eth",),
    ),
    # --- other deposits
    ends(
        "a second deposit after the first paid",
        "paid | finished + review: child_payment | payment_received | child_payment",
        deposit("repeat"),
        before=PAID,
        told="waiting, finished, order paid, payment waiting > review",
    ),
    ends(
        "a second deposit after delivery",
        "fulfilled | finished + review: child_payment | payment_received | child_payment",
        deposit("repeat"),
        before=(*PAID, *DELIVERED),
        told="waiting, finished, order paid, order fulfilling, order fulfilled, payment waiting > review",
    ),
    ends(
        "a deposit in the wrong coin",
        "held: child_payment | waiting + review: child_payment | payment_checked | child_payment",
        deposit("wrong_coin"),
        before=(choose(),),
        told="waiting, review, order held",
    ),
    ends(
        "a deposit in the wrong coin, staff accept",
        "paid | waiting + finished: accepted | payment_checked, payment_received | —",
        deposit("wrong_coin"),
        before=(choose(),),
        after=(staff("accept", of=1),),
        told="waiting, review, order held, staff: Accepted as paid: looked at the chain, finished, order paid",
    ),
    ends(
        "the wrong coin, then the right one",
        "paid | finished + review: child_payment | payment_checked, payment_received | child_payment",
        deposit("wrong_coin"),
        "finished 1",
        before=(choose(),),
        told="waiting, review, order held, payment waiting > finished, order paid",
    ),
    ends(
        "a part, and a deposit beside it",
        "held: child_payment | partially_paid: too_little + review: child_payment | "
        "underpaid, payment_checked | child_payment; partially_paid",
        "partially_paid 0.5",
        deposit("repeat"),
        before=(choose(),),
        told="waiting, partially_paid, order underpaid, payment waiting > review, order held",
    ),
    ends(
        "a child that does not name its order",
        "paid | finished + review: child_payment | payment_received | child_payment",
        Event("nameless_child"),
        before=PAID,
        told="waiting, finished, order paid, payment waiting > review",
        inbox="processed, processed",
    ),
    held("the payment itself came in another coin", "other_coin", says("finished", paid=1, pay_currency="eth")),
    held("the payment grew a parent", "child_payment", says("finished", paid=1, parent_payment_id=4099887766)),
    pays("a parent written as nothing", says("finished", paid=1, parent_payment_id="0")),
    # --- other numbers than ours
    held("a price a cent lower", "other_price", says("finished", paid=1, price_amount="24.98")),
    held("a price a cent higher", "other_price", says("finished", paid=1, price_amount="25.00")),
    held("a price in another currency", "other_price_currency", says("finished", paid=1, price_currency="usd")),
    pays("the price as text", says("finished", paid=1, price_amount="24.990", price_currency="EUR")),
    held("finished with nothing in it", "nothing_paid", "finished 0"),
    waits(
        "an amount nobody can read", says("finished", paid=1, actually_paid="NaN"), after=(CATCH_UP,), inbox="received"
    ),
    # --- bad ends
    ends("failed", "pending | failed | — | —", "failed", told="waiting, failed"),
    held("failed with money in it", "failed_with_money", "failed 0.1"),
    ends(
        "failed, staff send the money back",
        f"refunded | refunded: failed_with_money | payment_checked, {BACK} | —",
        "failed 0.1",
        after=(staff("refund"), *REFUND_FLOW, says("failed")),
        told="waiting, review, order held, refund: 0.000043087 BTC go back to the customer., order refund_due, "
        f"{GIVEN_BACK}, refunded, order refunded",
        refunds=("done 0.000043087 btc",),
    ),
    ends(
        "failed, then another coin is paid",
        "paid | failed + finished | payment_received | —",
        "second finished 1",
        before=(choose(), says("failed"), choose("eth")),
        told="waiting, failed, second waiting, second finished, order paid",
    ),
    held(
        "failed, then finished",
        "finished_after_failed",
        "failed, finished 1",
        told="waiting, failed, review, order held",
        unseen=("paid", ("finished",), (), ()),
    ),
    held(
        "failed, then a part",
        "partially_paid_after_failed",
        "failed, partially_paid 0.5",
        told="waiting, failed, review, order held",
        unseen=("underpaid", ("partially_paid: too_little",), ("payment_review: partially_paid",), ()),
    ),
    ends("cancelled", "pending | cancelled | — | —", "cancelled", told="waiting, cancelled"),
    ends("canceled, spelt so", "pending | cancelled | — | —", "canceled", told="waiting, cancelled"),
    held(
        "cancelled, then finished",
        "finished_after_cancelled",
        "cancelled, finished 1",
        told="waiting, cancelled, review, order held",
        unseen=("paid", ("finished",), (), ()),
    ),
    ends(
        "finished, then failed",
        "paid | finished | payment_received | failed_with_money",
        "finished 1, failed",
        told="waiting, finished, order paid",
        unseen=("held: failed_with_money", ("review: failed_with_money",), ("payment_review: failed_with_money",), ()),
    ),
    ends(
        "finished, then expired",
        "paid | finished | payment_received | expired_with_money",
        "finished 1, expired",
        told="waiting, finished, order paid",
        unseen=(
            "held: expired_with_money",
            ("review: expired_with_money",),
            ("payment_review: expired_with_money",),
            (),
        ),
    ),
    ends(
        "finished, then only a part",
        "paid | finished | payment_received | partially_paid_after_finished",
        "finished 1, partially_paid 0.5",
        told="waiting, finished, order paid",
        unseen=("underpaid", ("partially_paid: too_little",), ("payment_review: partially_paid",), ()),
    ),
    ends(
        "refunded before anything was paid", "pending | refunded | — | refunded", "refunded", told="waiting, refunded"
    ),
    ends(
        "refunded before delivery",
        "held: payment_refunded | refunded | payment_received, coins_returned | refunded",
        "refunded",
        before=PAID,
        told="waiting, finished, order paid, refunded, order held",
    ),
    ends(
        "refunded after delivery",
        "fulfilled | refunded | payment_received | refunded",
        "refunded",
        before=(*PAID, *DELIVERED),
        told="waiting, finished, order paid, order fulfilling, order fulfilled, refunded",
    ),
    held(
        "refunded, then finished",
        "finished_after_refunded",
        "refunded 1, finished",
        told="waiting, refunded, review, order held",
        unseen=("paid", ("finished",), (), ()),
    ),
    ends(
        "a second payment is refunded, the first delivers",
        "paid | finished + refunded: second_payment | payment_received | refunded",
        "second refunded",
        before=(choose("eth"), choose(), FINISHED, says("finished", paid=1, of=1)),
        told="waiting, second waiting, finished, order paid, second review, second refunded",
    ),
    ends(
        "refunded by staff before delivery",
        "refunded | refunded | payment_received, refund_asked, refund_address, refund_sent, refund_arrived | —",
        "finished",
        before=(*PAID, staff("refund"), *REFUND_FLOW),
        told="waiting, finished, order paid, refund: 0.00043087 BTC go back to the customer., "
        f"order refund_due, {GIVEN_BACK}, refunded, order refunded",
        refunds=("done 0.00043087 btc",),
    ),
    # --- words nobody told us about: they decide nothing, staff are told, and the payment is watched
    unknown("a word nobody knows", "in_review"),
    pays("a word nobody knows, then finished", "in_review 1, finished"),
    pays(
        "a word nobody knows for a week, then finished",
        "in_review 1, finished",
        before=(choose(), says("confirming", paid=1), WEEK),
        told="waiting, confirming, order expired, finished, order paid",
        mails="expired, payment_received",
    ),
    unknown("wrong_asset_confirmed", "wrong_asset_confirmed 1"),
    unknown("a word in capitals", "FINISHED 1"),
    ends(
        "a word nobody knows after the money",
        "paid | finished | payment_received | payment_unknown_status",
        "finished 1, in_review",
        told="waiting, finished, order paid",
        unseen=("pending", ("waiting",), ("payment_unknown_status",), ()),
    ),
    ends(
        "a word nobody knows, and staff accept the coins",
        "paid | finished: accepted | payment_received | —",
        "in_review 1",
        after=(staff("accept"), says("in_review")),
        told="waiting, staff: Accepted as paid: looked at the chain, finished, order paid",
    ),
    # --- answers that cannot be read
    ends(
        "nobody can read the amount for a quarter of an hour",
        "pending | waiting | — | payment_unreadable",
        NO_AMOUNT,
        after=(SWEEP, QUARTER, SWEEP),
        told="waiting",
        inbox="received",
    ),
    pays(
        "nobody can read the amount for a quarter of an hour, then it can be read",
        NO_AMOUNT,
        after=(SWEEP, QUARTER, SWEEP, quietly("finished", actually_paid="0.00043087"), SWEEP),
        inbox="received",
    ),
    ends(
        "nobody answers for a quarter of an hour",
        "pending | waiting | — | payments_down",
        "finished 1",
        before=(choose(), fault("5xx_before", None)),
        after=(SWEEP, QUARTER, SWEEP),
        told="waiting",
        inbox="received",
    ),
    pays(
        "nobody answers for a quarter of an hour, then they do",
        "finished 1",
        before=(choose(), fault("5xx_before", None)),
        after=(SWEEP, QUARTER, SWEEP, CALM, SWEEP),
        inbox="received",
    ),
    pays("what decides nothing is written oddly", says("finished", paid=1, **ODDITIES)),
    # --- late money is worth what it is worth now
    held(
        "a week late, at an old rate",
        "late_rate",
        says("finished", paid=1, outcome_amount="0.00034"),
        before=(choose(), WEEK),
        told="waiting, order expired, review, order held",
        mails="expired, payment_checked",
    ),
    ends(
        "a week late, at an old rate, and staff accept",
        "paid | finished: accepted | expired, payment_checked, payment_received | —",
        says("finished", paid=1, outcome_amount="0.00034"),
        before=(choose(), WEEK),
        after=(staff("accept"),),
        told="waiting, order expired, review, order held, staff: Accepted as paid: looked at the chain, finished, "
        "order paid",
    ),
    held(
        "a week late, in a payout coin that is worth less now",
        "late_rate",
        says("finished", paid=1, outcome_amount="0.005", outcome_currency="eth"),
        before=(choose(), WEEK),
        told="waiting, order expired, review, order held",
        mails="expired, payment_checked",
    ),
    pays(
        "a week late, and the coins still cover the price",
        "finished 1",
        before=(choose(), WEEK),
        told="waiting, order expired, finished, order paid",
        mails="expired, payment_received",
    ),
    pays(
        "a week late, and the outcome is not reported",
        says("finished", paid=1, outcome_amount=None),
        before=(choose(), WEEK),
        told="waiting, order expired, finished, order paid",
        mails="expired, payment_received",
    ),
    pays(
        "seen in time, finished a week late at another rate",
        says("finished", paid=1, outcome_amount="0.00034"),
        before=(choose(), says("confirming", paid=1), WEEK),
        told="waiting, confirming, order expired, finished, order paid",
        mails="expired, payment_received",
    ),
    ends(
        "half of it a week late, at an old rate",
        "underpaid: unpaid | partially_paid: too_little | expired, underpaid | partially_paid",
        says("partially_paid", paid="0.5", outcome_amount="0.00014482"),
        before=(choose(), WEEK),
        told="waiting, order expired, partially_paid, order underpaid",
    ),
)
