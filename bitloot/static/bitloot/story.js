// What the page says: an order as the API sends it goes in, words and the panel to show come out.
// Pure: no element, no clock and no request, so that node can test it (bitloot/tests/js).
// Sentences that the API sends (order.error, payment.reason) are used as they come and never repeated here.

const CAN_CHOOSE = ["expired", "failed", "cancelled"];
const ON_ITS_WAY = ["confirming", "confirmed", "sending"];
const ON_THEIR_WAY = ["network", "supplier"];
const SETTLED = ["fulfilled", "refunded", "cancelled", "failed"];
const DELIVERING = ["paid", "fulfilling", "partially_fulfilled", "fulfilled"];
const CLOSED = ["expired", "cancelled", "failed", "refund_due", "refunded"];

const MINUTE = 60_000;
// A provider that has not given an address by then will hardly do so: the customer may choose again.
const ADDRESS_PATIENCE = MINUTE / 2;

export const STEPS = { choose: 0, pay: 1, confirm: 2, key: 3, done: 4 };

const PAY_ONCE = "If you already sent money, do not pay twice: it appears here when the network has it.";

// --- Facts ---

const sum = (items, field) => items.reduce((total, item) => total + item[field], 0);
export const keysReady = (order) => sum(order.items, "keys_ready");
export const keysWanted = (order) => sum(order.items, "quantity");
const isComplete = (order) => keysReady(order) >= keysWanted(order);

/** True once nothing can change, so polling can stop. */
export function isSettled(order) {
  if (!SETTLED.includes(order.status)) return false;
  if (order.status === "fulfilled" && !isComplete(order)) return false;
  return order.refunds.every(({ status }) => status === "done");
}

const hasEnded = (payment, now) => Boolean(payment.expires_at) && Date.parse(payment.expires_at) <= now;

/**
 * The quote that waits for money: the order's own payment, or the one just made for what is missing.
 * While the order still shows the payment that was too small, only the page knows the second one (`rest`).
 */
export function openPayment(order, { now, rest = null }) {
  const isOpen = (payment) =>
    payment?.status === "creating" || (payment?.status === "waiting" && !hasEnded(payment, now));
  if (isOpen(order.payment)) return order.payment;
  return rest?.due === order.amount_due && isOpen(rest.payment) ? rest.payment : null;
}

const lastLine = (order, kind, event) =>
  order.timeline.findLast((line) => line.kind === kind && line.event === event);

/** Which of the steps "Choose coin, Pay, Confirmed, Key" is the current one; null once the order is closed. */
function stepOf(order, view) {
  if (CLOSED.includes(order.status)) return null;
  if (keysReady(order) && isComplete(order)) return STEPS.done;
  if (DELIVERING.includes(order.status) || keysReady(order)) return STEPS.key;
  const { payment } = order;
  if (payment?.status === "finished") return STEPS.key;
  if (ON_ITS_WAY.includes(payment?.status) || payment?.status === "review") return STEPS.confirm;
  return openPayment(order, view) ? STEPS.pay : STEPS.choose;
}

// --- The headline ---

/**
 * Tell where the order is. `view` is what only the page knows: the shop's time (`now`), the payment for the rest
 * (`rest`), and since when it waits for an address (`askedAt`).
 */
export function tell(order, view) {
  const told = (STORIES[order.status] ?? inWork)(order, view);
  const step = told.panel === "coins" ? STEPS.choose : stepOf(order, view);
  const expectedBy = ON_THEIR_WAY.includes(order.waits_for) && order.status !== "held" ? order.expected_by : null;
  const isExpected = expectedBy && Date.parse(expectedBy) > view.now;
  const rest = { tone: "", lead: "", panel: null, again: null, canHaveMoneyBack: false };
  return { ...rest, ...told, step, expectedBy: isExpected ? expectedBy : null };
}

const STORIES = {
  pending: (order, view) => (order.payment ? paying(order, order.payment, view) : choosing()),
  underpaid,
  paid: delivering,
  fulfilling: delivering,
  partially_fulfilled: delivering,
  fulfilled: delivered,
  held,
  refund_due: (order) => ({
    tone: "bad",
    headline: "We owe you a refund",
    lead: refundLead(order.refunds) ?? order.error,
  }),
  refunded: (order) => ({ headline: "Your money was returned", lead: order.error }),
  expired: (order) => closed(order, "This order has expired"),
  cancelled: (order) => closed(order, "Order cancelled"),
  failed: (order) => ({ tone: "bad", headline: "This order could not be completed", lead: order.error }),
};

const inWork = (order) => ({ tone: "busy", headline: "Your order is being worked on", lead: order.error ?? "" });

const closed = (order, headline) => ({
  tone: "bad",
  headline,
  lead: order.error,
  again: order.items[0]?.product.slug ?? null,
});

const choosing = () => ({
  panel: "coins",
  headline: "Choose how to pay",
  lead: "Your order is placed. Pick a coin and we show you the exact amount and the address.",
});

const chooseAgain = (lead) => ({ panel: "coins", tone: "bad", headline: "Choose a coin again", lead });

function paying(order, payment, view) {
  if (CAN_CHOOSE.includes(payment.status)) {
    return chooseAgain(payment.reason ?? `The last quote ended without a payment. Choose a coin again. ${PAY_ONCE}`);
  }
  switch (payment.status) {
    case "creating":
      return creating(payment, view);
    case "waiting":
      if (hasEnded(payment, view.now)) return chooseAgain(`The quote has ended. Choose a coin again. ${PAY_ONCE}`);
      return {
        panel: "pay",
        headline: "Waiting for your payment",
        lead: "This page updates as soon as the network shows your payment.",
      };
    case "review":
      return { headline: payment.headline, lead: payment.reason };
    case "refunded":
      return { headline: "Your payment was returned", lead: payment.reason ?? "" };
    default:
      return confirming(order, view);
  }
}

function creating(payment, { now, askedAt }) {
  if (payment.reason) return chooseAgain(payment.reason);
  if (now - (askedAt ?? now) > ADDRESS_PATIENCE) {
    return chooseAgain("We are still waiting for a payment address. Choose a coin to try again; nothing was charged.");
  }
  return { tone: "busy", headline: "Getting your payment address…", lead: "This takes a few seconds." };
}

/** The API's sentence about what happens next; another one once that takes longer than it should. */
function outlook({ outlook: { now: sentence, late }, expected_by: by }, now) {
  return late && by && now > Date.parse(by) ? late : sentence;
}

const confirming = (order, { now }) => ({ tone: "busy", headline: "Payment seen", lead: outlook(order, now) });

function underpaid(order, view) {
  const { payment } = order;
  if (ON_ITS_WAY.includes(payment?.status)) return confirming(order, view);
  const open = openPayment(order, view);
  if (open?.status === "creating") return creating(open, view);
  const missing = `${order.amount_due} ${order.currency}`;
  if (open) {
    const lead = `${missing} are still missing. This page updates as soon as the network shows this payment.`;
    return { panel: "pay", headline: "Waiting for the rest", lead };
  }
  const coin = payment?.pay_currency.toUpperCase();
  const arrived = payment?.pay_amount ? `${payment.actually_paid} of ${payment.pay_amount} ${coin} arrived, ` : "";
  return {
    panel: "coins",
    tone: "bad",
    headline: "Not all of the money arrived",
    lead: `${arrived}${missing} are still missing. What arrived counts. Choose a coin for the rest; any coin will do.`,
  };
}

function delivering(order, { now }) {
  const ready = keysReady(order);
  const lead = outlook(order, now);
  if (!ready) return { tone: "busy", headline: "Paid. We are getting your key", lead };
  // Keys arrive one by one, so a missing one is normal; only a failed item means that the rest will not come.
  const hasFailed = order.items.some(({ status }) => status === "failed");
  const headline = `${ready} of ${keysWanted(order)} keys ${ready === 1 ? "is" : "are"} ready`;
  return { tone: hasFailed ? "" : "busy", headline, lead };
}

function delivered(order) {
  if (!isComplete(order)) {
    const lead = "Your key is being sealed and appears here in a moment.";
    return { tone: "busy", headline: "Almost there", lead };
  }
  const headline = keysReady(order) === 1 ? "Your key is ready" : "Your keys are ready";
  return { tone: "good", headline, lead: "Have fun. This page stays here if you need a key again." };
}

// The API's general sentence is the same for every held order; what nobody foresaw has its reason in the timeline.
function held(order, { now }) {
  const { payment } = order;
  if (payment?.headline) return { headline: payment.headline, lead: payment.reason };
  const lead = outlook(order, now) || (lastLine(order, "order", "held")?.message ?? order.error);
  const headline = order.waits_for === "supplier" ? "Your key has to wait" : "Your order is on hold";
  return { headline, lead, canHaveMoneyBack: order.can_have_money_back };
}

// --- Refunds ---

function refundLead(refunds) {
  const waiting = refunds.filter(({ status }) => status === "requested");
  if (waiting.some(({ address }) => !address)) {
    return "Your money goes back to you. Tell us below which address it goes to.";
  }
  if (waiting.length) {
    return "Your money goes back to you. We have your address; once the coins are sent, the transaction appears here.";
  }
  return refunds.length ? "Your money is on its way back to you." : null;
}

export function refundSentence(refund, asks, date) {
  const rests = refund.status === "requested" && !asks && refund.rests_until;
  if (refund.status === "done") return "This was sent back and has arrived.";
  if (refund.status === "sent") return "This was sent to you. The network may take a while to show it.";
  if (rests) return `The address was changed, so we send nothing before ${date(rests)}. Was that not you? Write to us.`;
  return asks
    ? "We return this to you. Copy the address from your wallet: coins sent to a wrong address are lost."
    : "We return this to you. Please check the address; it cannot be changed once the coins are sent.";
}

// --- A link that opens nothing ---

export function lostStory(status, detail) {
  if (status === 410) return { tone: "bad", headline: "This link has been replaced", lead: detail };
  return {
    tone: "bad",
    headline: "This link does not open an order",
    lead: "It may be cut off or too old. Nothing is lost: ask for a new one, and we e-mail it to you.",
  };
}

// --- Keys, times ---

/** One row per key that can be opened. */
export function keyRows(order) {
  return order.items.flatMap(({ product, quantity, keys }) =>
    keys.map(({ id, opened_at: openedAt }, index) => ({
      id,
      rowId: `key-${id}`,
      product,
      name: quantity > 1 ? `${product.title}, key ${index + 1} of ${quantity}` : product.title,
      openedAt,
    })),
  );
}

// Between us and the supplier; the order's own lines say what it means for the customer.
const INTERNAL = ["key stored", ...["pending", "sending", "reserved", "given"].map((event) => `reservation ${event}`)];

/** The timeline by day, the newest first; a sentence repeated for each key is shown once. */
export function days(timeline) {
  const found = [];
  const told = timeline.filter(({ kind, event }) => !INTERNAL.includes(`${kind} ${event}`));
  const lines = told.filter(({ message }, index) => message !== told[index - 1]?.message);
  for (const line of lines.toReversed()) {
    const day = new Date(line.at).toLocaleDateString("en-GB", { weekday: "long", day: "numeric", month: "long" });
    if (found.at(-1)?.day !== day) found.push({ day, lines: [] });
    found.at(-1).lines.push(line);
  }
  return found;
}

/** The lines of the receipt: what was ordered, what was paid with what, and what went back. */
export function receipt(order, date) {
  const { payment, currency } = order;
  const lines = [
    { name: "Order", value: order.id },
    { name: "Ordered", value: date(order.created_at) },
    ...order.items.map(({ product, quantity, unit_price: price }) => ({
      name: product.title, value: `${quantity} × ${price} ${currency}`,
    })),
    { name: "Total", value: `${order.total} ${currency}` },
  ];
  if (Number(payment?.actually_paid) > 0) lines.push(...paidLines(payment));
  return [...lines, ...order.refunds.flatMap((refund) => refundLines(refund, date))];
}

function paidLines({ actually_paid: paid, pay_currency: coin, pay_address: address, ...rest }) {
  return [
    { name: "Paid", value: `${paid} ${coin.toUpperCase()}` },
    { name: "To our address", value: address },
    ...transactionLines(rest),
  ];
}

function refundLines(refund, date) {
  const coins = `${refund.amount} ${refund.currency.toUpperCase()}`;
  if (refund.status === "requested") return [{ name: "To be sent back", value: coins }];
  const lines = [
    { name: "Sent back", value: `${coins}, ${date(refund.sent_at)}` },
    { name: "To your address", value: refund.address },
    ...transactionLines(refund),
  ];
  return refund.done_at ? [...lines, { name: "Arrived", value: date(refund.done_at) }] : lines;
}

function transactionLines({ transaction_id: id, transaction_url: link }) {
  return id ? [{ name: "Transaction", value: id, link }] : [];
}

export function ago(at, now) {
  const seconds = Math.max(0, (now - Date.parse(at)) / 1000);
  const words = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
  const units = [["day", 86400], ["hour", 3600], ["minute", 60]];
  const found = units.find(([, size]) => seconds >= size);
  return found ? words.format(-Math.trunc(seconds / found[1]), found[0]) : "just now";
}
