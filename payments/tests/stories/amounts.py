"""Too little, too much, too late, too often, and in other coins."""

from payments.tests.telling import (
    BACK,
    DELIVERED,
    EXPIRED_ORDER,
    FINISHED,
    GIVEN_BACK,
    HALF,
    PAID,
    QUARTER,
    REFUND_FLOW,
    SWEEP,
    Event,
    choose,
    deposit,
    ends,
    held,
    order_moves,
    pays,
    quietly,
    says,
    staff,
    underpays,
)

AMOUNTS = (
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
    ends(
        "a part of nothing",
        "pending | waiting | — | payment_unreadable",
        "partially_paid 0",
        after=(SWEEP, QUARTER, SWEEP),
        told="waiting",
        inbox="received",
    ),
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
        "refunded | refunded: too_little + review: order_refunded | "
        f"underpaid, {BACK}, payment_checked | order_refunded",
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
        "cancelled: cancelled | review: order_cancelled | payment_checked | order_cancelled",
        "finished 1",
        before=(choose(), order_moves("cancel", message="Cancelled.")),
        told="waiting, order cancelled, review",
    ),
    ends(
        "money for a cancelled order goes back",
        f"refunded | refunded: order_cancelled | payment_checked, {BACK} | —",
        "finished 1",
        before=(choose(), order_moves("cancel", message="Cancelled.")),
        after=(staff("refund"), *REFUND_FLOW),
        told="waiting, order cancelled, review, refund: 0.00043087 BTC go back to the customer., "
        f"order refund_due, {GIVEN_BACK}, refunded, order refunded",
        refunds=("done 0.00043087 btc",),
    ),
    ends(
        "money for an order that is refunded already",
        f"refunded | refunded + review: second_payment | payment_received, {BACK}, payment_checked | second_payment",
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
)
