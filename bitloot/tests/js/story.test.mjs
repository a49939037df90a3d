import assert from "node:assert/strict";
import { test } from "node:test";

import {
  ago, history, isSettled, keyRows, lostStory, openPayment, refundSentence, tell,
} from "../../static/bitloot/story.js";
import { NOW, at, item, line, order, payment } from "./orders.mjs";

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

test("the words grow with the time that the network takes", () => {
  const confirming = (minutesAgo) =>
    told({ payment: payment({ status: "confirming" }), timeline: [line("payment", "confirming", { minutesAgo })] });
  assert.match(confirming(5).lead, /a few minutes/);
  assert.match(confirming(61).lead, /slower than usual/);
});

test("the words grow with the time that the purchase takes", () => {
  const paid = (minutesAgo) => told({ status: "fulfilling", timeline: [line("order", "paid", { minutesAgo })] });
  assert.match(paid(2).lead, /usually takes a few minutes/);
  assert.match(paid(11).lead, /longer than usual/);
});

test("keys that come one by one are no failure", () => {
  const { headline, lead, tone, step } = told({ status: "partially_fulfilled", items: partly(1, 3) });
  assert.deepEqual([headline, tone, step], ["1 of 3 keys is ready", "busy", 3]);
  assert.match(lead, /The rest appears here automatically/);
});

test("a failed item says that the rest does not come", () => {
  const items = [...partly(2, 2), item({ id: "i2", status: "failed" })];
  const { headline, lead } = told({ status: "partially_fulfilled", items });
  assert.equal(headline, "2 of 3 keys are ready");
  assert.match(lead, /could not get the rest/);
});

test("a fulfilled order is good once every key can be opened", () => {
  const almost = told({ status: "fulfilled", items: partly(1, 2) });
  const ready = told({ status: "fulfilled", items: partly(2, 2) });
  assert.deepEqual([almost.tone, almost.step], ["busy", 3]);
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
});

test("asking again stops when nothing can change any more", () => {
  assert.equal(isSettled(order({ status: "fulfilled", items: partly(1, 1) })), true);
  assert.equal(isSettled(order({ status: "fulfilled", items: partly(1, 2) })), false);
  assert.equal(isSettled(order({ status: "refunded", refunds: [refund({ status: "sent" })] })), false);
  assert.equal(isSettled(order({ status: "expired" })), false); // late money may arrive
});

// --- Keys, times ---

test("a key has one row, with a number where there are several", () => {
  assert.deepEqual(keyRows(order({ items: partly(2, 3) })).map(({ id, name }) => [id, name]), [
    ["key-i1-0", "Ember Drift, key 1 of 3"],
    ["key-i1-1", "Ember Drift, key 2 of 3"],
  ]);
});

test("the history is newest first and says a sentence once", () => {
  const timeline = ["a", "b", "b", "c"].map((message) => line("order", "x", { message }));
  assert.deepEqual(history(timeline).map(({ message }) => message), ["c", "b", "a"]);
});

test("times are said in words", () => {
  assert.equal(ago(at(0), NOW), "just now");
  assert.equal(ago(at(125), NOW), "2 hours ago");
});

test("a replaced link is told in the API's words", () => {
  assert.equal(lostStory(410, "Said by the API.").lead, "Said by the API.");
  assert.equal(lostStory(404, "For programs.").headline, "This link does not open an order");
});
