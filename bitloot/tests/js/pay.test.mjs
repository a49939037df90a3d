import assert from "node:assert/strict";
import { test } from "node:test";

import { coinOffer, coinsToShow, groups, matches, priceIn, timeLeft } from "../../static/bitloot/pay.js";
import { coinOnNetwork } from "../../static/bitloot/render.js";
import { NOW, at, payment } from "./orders.mjs";

const BITCOIN = {
  code: "btc", name: "Bitcoin", ticker: "BTC", network: "btc", network_name: "Bitcoin", minimum: "5.00",
  rate: "0.0000172", usual_minutes: 20,
};
const TETHER = {
  code: "usdttrc20", name: "Tether USD", ticker: "USDT", network: "trx", network_name: "Tron (TRC-20)", minimum: null,
  rate: "1.087", usual_minutes: 3,
};
const many = (number) => Array.from({ length: number }, (_, index) => ({ ...BITCOIN, code: `c${index}` }));

test("a tile says the price in the coin, the network and how long it usually takes", () => {
  const [price, facts] = ["about 0.0001718 BTC", "usually 20 min"];
  assert.deepEqual(coinOffer(BITCOIN, "9.99", "EUR"), { tooSmall: false, price, facts });
  assert.equal(coinOffer(TETHER, "9.99", "EUR").facts, "Tron (TRC-20) · usually 3 min");
  assert.equal(coinOffer({ ...TETHER, name: "Tether USD (Tron)" }, "9.99", "EUR").facts, "usually 3 min");
});

test("what nobody knows of a coin is left out", () => {
  const { price, facts } = coinOffer({ ...BITCOIN, rate: null, usual_minutes: null }, "9.99", "EUR");
  assert.deepEqual([price, facts], ["", ""]);
  assert.equal(priceIn({ ...BITCOIN, rate: "0" }, "9.99"), "");
});

test("a coin whose minimum is above the price says so", () => {
  const coin = { ...BITCOIN, minimum: "12.00" };
  const { tooSmall, price } = coinOffer(coin, "9.99", "EUR");
  assert.deepEqual([tooSmall, price], [true, "only from 12.00 EUR"]);
  assert.equal(coinOffer({ ...coin, minimum: null }, "9.99", "EUR").tooSmall, false);
});

test("the search takes words in any order", () => {
  assert.equal(matches("Tether USD USDT Tron (TRC-20)", "tron  tether"), true);
  assert.equal(matches("Bitcoin BTC", "tron"), false);
});

test("the first coins are shown, and the search finds the others", () => {
  const coins = [...many(8), TETHER];
  assert.equal(coinsToShow(coins, " ").shown.length, 6);
  assert.deepEqual(coinsToShow(coins, "trc tether"), { shown: [TETHER], note: "1 coin found." });
  assert.deepEqual(coinsToShow(coins, "nothing").shown, []);
  assert.match(coinsToShow(coins, "nothing").note, /^Nothing matches/);
  assert.equal(coinsToShow(many(60), "btc").note, "60 coins found. Type more to see fewer.");
});

test("an address is read in groups of four, and stays the address", () => {
  assert.deepEqual(groups("bc1qxyz12"), ["bc1q", "xyz1", "2"]);
  assert.equal(groups("bc1qxyz12").join(""), "bc1qxyz12");
});

test("the time drains with the quote", () => {
  const quote = payment({ created_at: at(10), expires_at: at(-10) });
  assert.deepEqual(timeLeft(quote, NOW), { part: 0.5, words: "10:00 left at this price" });
  assert.deepEqual(timeLeft(quote, NOW + 9_999_999_999), { part: 0, words: "0:00 left at this price" });
  assert.equal(timeLeft(payment({ expires_at: null }), NOW).part, 1);
});

test("a coin is named with its network, once where both are called the same", () => {
  assert.equal(coinOnNetwork(BITCOIN), "Bitcoin");
  assert.equal(coinOnNetwork(TETHER), "Tether USD, network: Tron (TRC-20)");
});
