// What the page says: an order as the API sends it goes in, words and the panel to show come out.
// Pure: no element, no clock and no request, so that node can test it (bitloot/tests/js).
// The words are the server's: sentences of the API (order.error, payment.reason) are used as they come, and all others
// come with the page (bitloot/shop/words.py).

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

// --- Words, numbers and times in the page's language ---

let words = {};

/** Take the words that everything is said with. */
export function learn(given) {
  words = given;
}

/** Say something, with what is filled in; `number` chooses between the forms of a word that has several. */
export function word(name, values = {}, number = undefined) {
  const known = words[name];
  const form = () => known[new Intl.PluralRules(words.locale).select(number)] ?? known.other;
  return (typeof known === "string" ? known : form()).replace(/\{(\w+)\}/g, (_, key) => values[key]);
}

/** An amount of the shop's currency. What is paid in coins stays as wallets take it, with a point. */
export function money(amount, currency) {
  const digits = { minimumFractionDigits: 2, maximumFractionDigits: 2, useGrouping: false };
  return `${new Intl.NumberFormat(words.locale, digits).format(amount)} ${currency}`;
}

export function rough(amount) {
  return amount.toLocaleString(words.locale, { maximumSignificantDigits: 4, useGrouping: false });
}

// With the zone: other sentences of the page, mails and printed receipts are in UTC or in somebody else's.
const EXACT = {
  year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", timeZoneName: "short",
};
export const exact = (at) => new Date(at).toLocaleString(words.locale, EXACT);
export const hour = (at) => new Date(at).toLocaleTimeString(words.locale, { timeStyle: "short" });

const dayOf = (at) =>
  new Date(at).toLocaleDateString(words.locale, { weekday: "long", day: "numeric", month: "long" });

export function ago(at, now) {
  const seconds = Math.max(0, (now - Date.parse(at)) / 1000);
  const relative = new Intl.RelativeTimeFormat(words.locale, { numeric: "auto" });
  const units = [["day", 86400], ["hour", 3600], ["minute", 60]];
  const found = units.find(([, size]) => seconds >= size);
  return found ? relative.format(-Math.trunc(seconds / found[1]), found[0]) : word("just_now");
}

// --- Facts ---

const sum = (items, field) => items.reduce((total, item) => total + item[field], 0);
/** True while a part is paid, and only the rest is asked for. */
export const isRest = ({ status, amount_due: due, total }) => status === "underpaid" && due !== total;
export const keysReady = (order) => sum(order.items, "keys_ready");
export const keysWanted = (order) => sum(order.items, "quantity");
const isComplete = (order) => keysReady(order) >= keysWanted(order);
/** True once a key is no longer kept: its retention has ended, or staff destroyed it. */
export const isGone = (order) => order.status === "fulfilled" && !isComplete(order);

/** True once nothing can change, so polling can stop. */
export function isSettled(order) {
  if (!SETTLED.includes(order.status)) return false;
  if (order.payment?.headline || isOnItsWay(order.payment)) return false; // coins that came after the end
  return order.refunds.every(({ status }) => status === "done");
}

const isOnItsWay = (payment) => ON_ITS_WAY.includes(payment?.status);

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
  if ((keysReady(order) && isComplete(order)) || isGone(order)) return STEPS.done;
  if (DELIVERING.includes(order.status) || keysReady(order)) return STEPS.key;
  const { payment } = order;
  if (payment?.status === "finished") return STEPS.key;
  if (isOnItsWay(payment) || payment?.status === "review") return STEPS.confirm;
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
    headline: word("refund_due"),
    lead: refundLead(order.refunds) ?? order.error,
  }),
  refunded: (order, view) => ended(order, view, { headline: word("refunded"), lead: order.error }),
  expired: (order, view) => ended(order, view, closed(order, word("expired"))),
  cancelled: (order, view) => ended(order, view, closed(order, word("cancelled"))),
  failed: (order, view) => ended(order, view, { tone: "bad", headline: word("failed"), lead: order.error }),
};

const inWork = (order) => ({ tone: "busy", headline: word("in_work"), lead: order.error ?? "" });

const closed = (order, headline) => ({
  tone: "bad",
  headline,
  lead: order.error,
  again: order.items[0]?.product.slug ?? null,
});

// Coins that came all the same are the news: nobody may read “place a new one” while we have them.
function ended(order, view, story) {
  const { payment } = order;
  if (payment?.headline) return { headline: payment.headline, lead: payment.reason };
  return isOnItsWay(payment) ? confirming(order, view) : story;
}

const choosing = () => ({
  panel: "coins",
  headline: word("choose"),
  lead: word("choose_lead"),
});

const chooseAgain = (lead) => ({ panel: "coins", tone: "bad", headline: word("choose_again"), lead });

function paying(order, payment, view) {
  if (CAN_CHOOSE.includes(payment.status)) {
    return chooseAgain(payment.reason ?? `${word("quote_unpaid")} ${word("pay_once")}`);
  }
  switch (payment.status) {
    case "creating":
      return creating(payment, view);
    case "waiting":
      if (hasEnded(payment, view.now)) return chooseAgain(`${word("quote_ended")} ${word("pay_once")}`);
      return waiting();
    case "review":
      return { headline: payment.headline, lead: payment.reason };
    case "refunded":
      return returned();
    default:
      return confirming(order, view);
  }
}

const waiting = () => ({ panel: "pay", headline: word("waiting"), lead: word("waiting_lead") });

const returned = () => ({ panel: "coins", tone: "bad", headline: word("returned"), lead: word("returned_lead") });

function creating(payment, { now, askedAt }) {
  if (payment.reason) return chooseAgain(payment.reason);
  if (now - (askedAt ?? now) > ADDRESS_PATIENCE) {
    return chooseAgain(word("address_late"));
  }
  return { tone: "busy", headline: word("address_coming"), lead: word("address_coming_lead") };
}

/** The API's sentence about what happens next; another one once that takes longer than it should. */
function outlook({ outlook: { now: sentence, late }, expected_by: by }, now) {
  return late && by && now > Date.parse(by) ? late : sentence;
}

const confirming = (order, { now }) => ({ tone: "busy", headline: word("seen"), lead: outlook(order, now) });

function underpaid(order, view) {
  const { payment } = order;
  if (isOnItsWay(payment)) return confirming(order, view);
  const open = openPayment(order, view);
  if (open?.status === "creating") return creating(open, view);
  if (open && !isRest(order)) return waiting(); // the part that came has left again
  const missing = money(order.amount_due, order.currency);
  if (open) {
    return { panel: "pay", headline: word("rest"), lead: word("rest_lead", { missing }) };
  }
  if (payment?.status === "refunded") return returned();
  return { panel: "coins", tone: "bad", headline: word("underpaid"), lead: underpaidLead(payment, missing) };
}

function underpaidLead(payment, missing) {
  if (!payment?.pay_amount) return word("underpaid_lead", { missing });
  const asked = `${payment.pay_amount} ${payment.pay_currency.toUpperCase()}`;
  return word("underpaid_of", { paid: payment.actually_paid, asked, missing });
}

function delivering(order, { now }) {
  const ready = keysReady(order);
  const lead = outlook(order, now);
  if (!ready) return { tone: "busy", headline: word("paid"), lead };
  // Keys arrive one by one, so a missing one is normal; only a failed item means that the rest will not come.
  const hasFailed = order.items.some(({ status }) => status === "failed");
  const headline = word("partly", { ready, wanted: keysWanted(order) }, ready);
  return { tone: hasFailed ? "" : "busy", headline, lead };
}

function delivered(order) {
  if (isGone(order)) return gone(order, keysReady(order), keysWanted(order));
  return { tone: "good", headline: word("key_ready", {}, keysReady(order)), lead: word("key_ready_lead") };
}

const gone = (order, ready, wanted) => ({
  headline: ready ? word("partly", { ready, wanted }, ready) : word("key_gone", {}, wanted),
  lead: word("key_gone_lead"),
});

// The API's general sentence is the same for every held order; what nobody foresaw has its reason in the timeline.
function held(order, { now }) {
  const { payment } = order;
  if (payment?.headline) return { headline: payment.headline, lead: payment.reason };
  const lead = outlook(order, now) || (lastLine(order, "order", "held")?.message ?? order.error);
  return { headline: heldHeadline(order), lead, canHaveMoneyBack: order.can_have_money_back };
}

function heldHeadline(order) {
  const ready = keysReady(order);
  if (ready) return word("partly", { ready, wanted: keysWanted(order) }, ready);
  return word(order.waits_for === "supplier" ? "has_to_wait" : "on_hold");
}

// --- Refunds ---

function refundLead(refunds) {
  const waiting = refunds.filter(({ status }) => status === "requested");
  if (waiting.some(({ address }) => !address)) return word("refund_asks");
  if (waiting.length) return word("refund_has_address");
  return refunds.length ? word("refund_on_its_way") : null;
}

export function refundSentence(refund, asks) {
  const rests = refund.status === "requested" && !asks && refund.rests_until;
  if (refund.status === "done") return word("refund_done");
  if (refund.status === "sent") return word("refund_sent");
  if (rests) return word("refund_rests", { time: exact(rests) });
  return word(asks ? "refund_address" : "refund_check");
}

// --- A link that opens nothing ---

export function lostStory(status, detail) {
  if (status === 410) return { tone: "bad", headline: word("link_replaced"), lead: detail };
  return { tone: "bad", headline: word("link_lost"), lead: word("link_lost_lead") };
}

// --- Keys, history, receipt ---

/** One row per key that can be opened. */
export function keyRows(order) {
  return order.items.flatMap(({ product, quantity, keys }) =>
    keys.map(({ id, opened_at: openedAt }, index) => ({
      id,
      rowId: `key-${id}`,
      product,
      name: quantity > 1 ? word("key_of", { title: product.title, number: index + 1, quantity }) : product.title,
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
    const day = dayOf(line.at);
    if (found.at(-1)?.day !== day) found.push({ day, lines: [] });
    found.at(-1).lines.push(line);
  }
  return found;
}

/** The receipt, in parts of lines: the order, what was ordered, what was paid with what, and what went back. */
export function receipt(order) {
  const { currency } = order;
  const ordered = [
    { name: word("receipt_order"), value: order.id },
    { name: word("receipt_ordered"), value: exact(order.created_at) },
  ];
  const items = order.items.map(({ product, quantity, unit_price: price }) => ({
    name: product.title, value: `${quantity} × ${money(price, currency)}`,
  }));
  const total = { name: word("receipt_total"), value: money(order.total, currency), isTotal: true };
  return [ordered, [...items, total], paidLines(order), ...order.refunds.map(refundLines)];
}

function paidLines({ payment, ...order }) {
  if (!(Number(payment?.actually_paid) > 0)) return [{ name: word("receipt_paid"), value: word("receipt_unpaid") }];
  const { actually_paid: paid, pay_currency: coin, network_name: network, pay_address: address } = payment;
  const coins = `${paid} ${coin.toUpperCase()}`;
  const at = lastLine(order, "order", "paid")?.at; // not while a part of it is missing
  return [
    ...earlierLines(order, payment),
    { name: word("receipt_paid"), value: at ? `${coins}, ${exact(at)}` : coins },
    { name: word("receipt_network"), value: network },
    { name: word("receipt_our_address"), value: address },
    ...transactionLines(payment),
  ];
}

// The order shows one payment, the last. If that one was for the rest only, the sum before it is known all the same.
function earlierLines({ total, currency }, { status, price_amount: price }) {
  const earlier = Number(total) - Number(price);
  if (status !== "finished" || earlier < 0.01) return [];
  return [{ name: word("receipt_earlier"), value: money(earlier, currency) }];
}

function refundLines(refund) {
  const coins = `${refund.amount} ${refund.currency.toUpperCase()}`;
  if (refund.status === "requested") return [{ name: word("receipt_to_send"), value: coins }];
  const lines = [
    { name: word("receipt_sent"), value: `${coins}, ${exact(refund.sent_at)}` },
    { name: word("receipt_your_address"), value: refund.address },
    ...transactionLines(refund),
  ];
  return refund.done_at ? [...lines, { name: word("receipt_arrived"), value: exact(refund.done_at) }] : lines;
}

function transactionLines({ transaction_id: id, transaction_url: link }) {
  return id ? [{ name: word("receipt_transaction"), value: id, link }] : [];
}
