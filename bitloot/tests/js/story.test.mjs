import assert from "node:assert/strict";
import { test } from "node:test";

import {
  ago, days, exact, isRest, isSettled, keyRows, learn, lostStory, money, openPayment, receipt, refundSentence, tell,
} from "../../static/bitloot/story.js";
import { NOW, WORDS, at, item, line, order, payment } from "./orders.mjs";

const VIEW = { now: NOW, rest: null, askedAt: null };
const told = (changes, view = {}) => tell(order(changes), { ...VIEW, ...view });
const partly = (ready, wanted, changes = {}) => [item({ keys_ready: ready, quantity: wanted, ...changes })];
const ON_ITS_WAY = ["confirming", "confirmed", "sending"];

test("a new order offers the coins, at the first step", () => {
  const { panel, headline, step } = told({});
  assert.deepEqual([panel, headline, step], ["coins", "Choose how to pay", 0]);
});

test("an open quote shows the address, at the second step", () => {
  const { panel, headline, step } = told({ payment: payment() });
  assert.deepEqual([panel, headline, step], ["pay", "Waiting for your payment", 1]);
});

test("an ended quote offers the coins again and warns of paying twice", () => {
  const { panel, lead } = told({ payment: payment({ expires_at: at(1) }) });
  assert.equal(panel, "coins");
  assert.match(lead, /do not pay twice/);
});

for (const status of ["expired", "failed", "cancelled"]) {
  test(`a payment that is ${status} offers the coins, in the API's words if it has some`, () => {
    assert.equal(told({ payment: payment({ status }) }).panel, "coins");
    assert.equal(told({ payment: payment({ status, reason: "Said by the API." }) }).lead, "Said by the API.");
  });
}

test("a provider that did not answer leaves the coins choosable, in the API's words", () => {
  const { panel, lead, step } = told({ payment: payment({ status: "creating", reason: "Choose again." }) });
  assert.deepEqual([panel, lead, step], ["coins", "Choose again.", 0]);
});

test("an address that does not come within half a minute leaves the coins choosable", () => {
  const creating = { payment: payment({ status: "creating" }) };
  assert.equal(told(creating).panel, null);
  assert.equal(told(creating, { askedAt: NOW - 29_000 }).panel, null);
  assert.equal(told(creating, { askedAt: NOW - 31_000 }).panel, "coins");
});

for (const status of ON_ITS_WAY) {
  test(`a payment that is ${status} waits for the network, at the third step`, () => {
    const { headline, step } = told({ payment: payment({ status }) });
    assert.deepEqual([headline, step], ["Payment seen", 2]);
  });
}

const OUTLOOK = { now: "What happens now.", late: "It is late." };

for (const changes of [{ payment: payment({ status: "confirming" }) }, { status: "fulfilling" }, { status: "held" }]) {
  const name = changes.status ?? "confirming";
  test(`a ${name} order has the API's words, and others once it is late`, () => {
    const lead = (minutesAgo) => told({ ...changes, outlook: OUTLOOK, expected_by: at(minutesAgo) }).lead;
    assert.deepEqual([lead(-1), lead(1)], ["What happens now.", "It is late."]);
    assert.equal(told({ ...changes, outlook: { ...OUTLOOK, late: "" }, expected_by: at(1) }).lead, "What happens now.");
  });
}

test("the time by which something is expected shows until it has passed, and only while others work", () => {
  const expected = (changes) => told({ status: "fulfilling", waits_for: "supplier", ...changes }).expectedBy;
  assert.equal(expected({ expected_by: at(-5) }), at(-5));
  assert.equal(expected({ expected_by: at(5) }), null);
  assert.equal(expected({ expected_by: at(-5), waits_for: "customer" }), null);
  assert.equal(expected({ expected_by: at(-5), status: "held" }), null);
});

test("a held order that waits for the supplier offers the money where the API allows it", () => {
  assert.equal(told({ status: "held", waits_for: "supplier", can_have_money_back: true }).canHaveMoneyBack, true);
  assert.equal(told({ status: "held", waits_for: "staff" }).canHaveMoneyBack, false);
  assert.equal(told({ status: "fulfilling", can_have_money_back: true }).canHaveMoneyBack, false);
});

test("keys that come one by one are no failure", () => {
  const { headline, tone, step } = told({ status: "partially_fulfilled", items: partly(1, 3) });
  assert.deepEqual([headline, tone, step], ["1 of 3 keys is ready", "busy", 3]);
});

test("once an item failed nothing is busy any more", () => {
  const items = [...partly(2, 2), item({ id: "i2", status: "failed" })];
  const { headline, tone } = told({ status: "partially_fulfilled", items });
  assert.deepEqual([headline, tone], ["2 of 3 keys are ready", ""]);
});

test("a fulfilled order is good while every key can be opened", () => {
  const ready = told({ status: "fulfilled", items: partly(2, 2) });
  assert.deepEqual([ready.tone, ready.headline, ready.step], ["good", "Your keys are ready", 4]);
});

test("a held order shows its own reason, not that of its purchase and not the general one", () => {
  const timeline = [
    line("order", "held", { message: "Out of stock; we buy it as soon as it is back." }),
    line("reservation", "held", { message: "The purchase of a key is on hold." }),
  ];
  assert.equal(told({ status: "held", error: "General.", timeline }).lead, timeline[0].message);
  assert.equal(told({ status: "held", error: "General." }).lead, "General.");
});

test("keys that are no longer kept are not said to come", () => {
  const none = { status: "fulfilled", items: partly(0, 2) };
  assert.deepEqual([told(none).headline, told(none).step], ["Your keys are no longer kept", 4]);
  assert.match(told(none).lead, /If you still need it, write to us/);
  assert.equal(told({ ...none, items: partly(1, 2) }).headline, "1 of 2 keys is ready");
  assert.equal(isSettled(order(none)), true);
});

test("a held order says which keys are ready, whomever it waits for", () => {
  const held = { status: "held", waits_for: "supplier" };
  assert.equal(told(held).headline, "Your key has to wait");
  assert.equal(told({ ...held, waits_for: "staff" }).headline, "Your order is on hold");
  for (const waitsFor of ["supplier", "staff"]) {
    assert.equal(told({ ...held, waits_for: waitsFor, items: partly(1, 3) }).headline, "1 of 3 keys is ready");
  }
});

test("a held order keeps its steps where they are", () => {
  assert.equal(told({ status: "held", payment: payment({ status: "finished" }) }).step, 3);
  assert.equal(told({ status: "held", payment: payment({ status: "review" }) }).step, 2);
});

for (const status of ["expired", "cancelled", "failed", "refunded"]) {
  test(`an order that is ${status} has the API's words and no steps`, () => {
    const { lead, step } = told({ status, error: "Said by the API." });
    assert.deepEqual([lead, step], ["Said by the API.", null]);
  });
}

for (const status of ["expired", "cancelled", "failed", "refunded"]) {
  test(`coins that come for an order that is ${status} are the news`, () => {
    const seen = { status, error: "Place a new one.", payment: payment({ status: "confirming" }), outlook: OUTLOOK };
    assert.deepEqual([told(seen).headline, told(seen).lead, told(seen).again], ["Payment seen", OUTLOOK.now, null]);
    const came = { ...seen, payment: payment({ status: "review", headline: "Came late.", reason: "They go back." }) };
    assert.deepEqual([told(came).headline, told(came).lead], ["Came late.", "They go back."]);
    for (const changes of [seen, came]) assert.equal(isSettled(order(changes)), false);
  });
}

for (const status of ["pending", "underpaid"]) {
  test(`an order that is ${status} can be paid again once the provider sent the coins back`, () => {
    const { panel, headline, lead } = told({ status, payment: payment({ status: "refunded", actually_paid: "0.0001" }) });
    assert.deepEqual([panel, headline], ["coins", "Your payment was returned"]);
    assert.match(lead, /sent your coins back, so nothing is paid\. Choose a coin to pay again\./);
  });
}

test("a quote for all of the price does not wait for a rest", () => {
  assert.equal(told({ status: "underpaid", payment: payment() }).headline, "Waiting for your payment");
});

test("only what is missing is a rest", () => {
  assert.equal(isRest(order({ status: "underpaid", amount_due: "5.00" })), true);
  assert.equal(isRest(order({ status: "underpaid" })), false); // the part that came was sent back
  assert.equal(isRest(order()), false);
});

test("an expired order leads back to its product", () => {
  assert.equal(told({ status: "expired" }).again, "ember-drift");
  assert.equal(told({ status: "held" }).again, null);
});

test("a status nobody knows yet is still told", () => {
  assert.equal(told({ status: "dreaming" }).headline, "Your order is being worked on");
});

// --- The rest of a payment that was too small ---

const SHORT = {
  status: "underpaid",
  amount_due: "5.00",
  payment: payment({ status: "partially_paid", actually_paid: "0.0001" }),
};

test("too little money offers coins for the rest and says what arrived", () => {
  const { panel, lead } = told(SHORT);
  assert.equal(panel, "coins");
  assert.match(lead, /^0.0001 of 0.0002 BTC arrived, 5.00 EUR are still missing\./);
});

test("the quote for the rest is known to the page only, and counts for that rest only", () => {
  const rest = { due: "5.00", payment: payment({ id: "p2" }) };
  assert.equal(told(SHORT, { rest }).headline, "Waiting for the rest");
  assert.equal(openPayment(order(SHORT), { now: NOW, rest }).id, "p2");
  assert.equal(openPayment(order({ ...SHORT, amount_due: "2.00" }), { now: NOW, rest }), null);
});

test("the rest that is on its way waits for the network", () => {
  const { headline } = told({ ...SHORT, payment: payment({ status: "confirming" }) });
  assert.equal(headline, "Payment seen");
});

// --- Refunds ---

const refund = (changes) => ({ id: "r1", status: "requested", address: "", currency: "btc", amount: "1", ...changes });

test("a refund asks for an address, then waits, then is on its way", () => {
  const lead = (changes) => told({ status: "refund_due", error: "General.", refunds: [refund(changes)] }).lead;
  assert.match(lead({}), /Tell us below/);
  assert.match(lead({ address: "bc1qx" }), /We have your address/);
  assert.match(lead({ status: "sent" }), /on its way back/);
  assert.equal(told({ status: "refund_due", error: "General." }).lead, "General.");
});

test("each state of a refund has its sentence", () => {
  const sentences = [refund({}), refund({ status: "sent" }), refund({ status: "done" })];
  assert.equal(new Set(sentences.map((one) => refundSentence(one, one.status === "requested"))).size, 3);
  const rests = refund({ address: "bc1qx", rests_until: at(-60) });
  assert.match(refundSentence(rests, false), /nothing before 1 May 2030/);
  assert.doesNotMatch(refundSentence({ ...rests, status: "sent" }, false), /2030/);
});

test("a payment in question is told in the API's words, whether the order is held for it or not", () => {
  const inReview = payment({ status: "review", headline: "Too late", reason: "Said by the API." });
  for (const status of ["pending", "held"]) {
    const { headline, lead } = told({ status, payment: inReview });
    assert.deepEqual([headline, lead], ["Too late", "Said by the API."]);
  }
});

test("asking again stops when nothing can change any more", () => {
  assert.equal(isSettled(order({ status: "fulfilled", items: partly(1, 1) })), true);
  assert.equal(isSettled(order({ status: "refunded", refunds: [refund({ status: "sent" })] })), false);
  assert.equal(isSettled(order({ status: "expired" })), false); // late money may arrive
});

// --- Keys, times ---

test("a key has one row, with a number where there are several, and the time of its opening", () => {
  const rows = keyRows(order({ items: partly(2, 3) }));
  assert.deepEqual(rows.map(({ rowId, name }) => [rowId, name]), [
    ["key-k0", "Ember Drift, key 1 of 3"],
    ["key-k1", "Ember Drift, key 2 of 3"],
  ]);
  const opened = [item({ keys: [{ id: "k", opened_at: at(3) }] })];
  assert.deepEqual(keyRows(order({ items: opened })).map(({ name, openedAt }) => [name, openedAt]), [
    ["Ember Drift", at(3)],
  ]);
});

test("the history goes by day, is newest first and says a sentence once", () => {
  const timeline = ["a", "b", "b", "c"].map((message) => line("order", "x", { message }));
  const older = line("order", "x", { message: "older", minutesAgo: 3 * 24 * 60 });
  const found = days([older, ...timeline]).map(({ lines }) => lines.map(({ message }) => message));
  assert.deepEqual(found, [["c", "b", "a"], ["older"]]);
  const between = [line("reservation", "sending"), line("key", "stored"), line("key", "received", { message: "Here." })];
  assert.deepEqual(days(between).map(({ lines }) => lines.map(({ message }) => message)), [["Here."]]);
});

test("the receipt names what was bought, what was paid, and what went back", () => {
  const transaction = { transaction_id: "0xab", transaction_url: "https://etherscan.io/tx/0xab" };
  const paid = payment({ status: "finished", actually_paid: "0.0002", ...transaction });
  const timeline = [line("order", "paid", { minutesAgo: 5 })];
  const sent = { transaction_id: "f4", sent_at: at(2), done_at: at(1) };
  const back = { status: "done", amount: "1", currency: "btc", address: "bc1qmine", ...sent };
  const parts = receipt(order({ payment: paid, refunds: [back], timeline }));
  assert.deepEqual(parts.map((lines) => lines.map(({ name, value }) => `${name}: ${value}`)), [
    ["Order: o1", `Ordered: ${exact(at(60))}`],
    ["Ember Drift: 1 × 9.99 EUR", "Total: 9.99 EUR"],
    [`Paid: 0.0002 BTC, ${exact(at(5))}`, "Network: Bitcoin", "To our address: bc1qx", "Transaction: 0xab"],
    [`Sent back: 1 BTC, ${exact(at(2))}`, "To your address: bc1qmine", "Transaction: f4", `Arrived: ${exact(at(1))}`],
  ]);
  assert.equal(parts[2].at(-1).link, "https://etherscan.io/tx/0xab");
});

test("an exact moment names its zone", () => {
  assert.match(exact("2026-11-29T22:15:00Z"), /^\d{1,2} \w+ 2026, \d\d:\d\d \S+$/);
});

test("the receipt of an order that was paid in two parts adds up to its total", () => {
  const rest = payment({ status: "finished", actually_paid: "0.0001", price_amount: "4.99" });
  const [, , paid] = receipt(order({ payment: rest }));
  assert.deepEqual(paid.slice(0, 2).map(({ name, value }) => `${name}: ${value}`), [
    "Paid before: 5.00 EUR", "Paid: 0.0001 BTC",
  ]);
});

test("an unpaid order's receipt says that nothing is paid", () => {
  const [, , paid, ...rest] = receipt(order({ payment: payment() }));
  assert.deepEqual([paid, rest], [[{ name: "Paid", value: "Nothing yet" }], []]);
});

test("times are said in words", () => {
  assert.equal(ago(at(0), NOW), "just now");
  assert.equal(ago(at(125), NOW), "2 hours ago");
});

test("words, numbers and days are those of the page's language", () => {
  learn(WORDS.de);
  const keys = (ready) => told({ status: "partially_fulfilled", items: partly(ready, 3) }).headline;
  const found = [keys(1), keys(2), money("1234.5", "EUR"), ago(at(125), NOW), days([line("order", "x")])[0].day];
  const { lead } = told(SHORT);
  learn(WORDS.en);
  assert.deepEqual(found, ["1 von 3 Keys ist da", "2 von 3 Keys sind da", "1234,50 EUR", "vor 2 Stunden", "Mittwoch, 1. Mai"]);
  assert.match(lead, /^0.0001 von 0.0002 BTC sind angekommen, es fehlen noch 5,00 EUR\./);
});

test("a replaced link is told in the API's words", () => {
  assert.equal(lostStory(410, "Said by the API.").lead, "Said by the API.");
  assert.equal(lostStory(404, "For programs.").headline, "This link does not open an order");
});
