// Orders as the API sends them, for the tests of the page's scripts, which say everything in the server's words.

import { readFileSync } from "node:fs";

import { learn } from "../../static/bitloot/story.js";

export const WORDS = JSON.parse(readFileSync(process.env.WORDS, "utf8")); // by language; written by test_scripts.py
learn(WORDS.en);

export const NOW = Date.parse("2030-05-01T12:00:00Z");

export const at = (minutesAgo) => new Date(NOW - minutesAgo * 60_000).toISOString();

export const line = (kind, event, { minutesAgo = 1, message = "" } = {}) => ({
  at: at(minutesAgo), kind, event, message,
});

export const item = (changes = {}) => ({
  id: "i1",
  product: { slug: "ember-drift", title: "Ember Drift", cover: "", platform: "Steam", region: "", activation: "" },
  quantity: 1,
  unit_price: "9.99",
  status: "pending",
  keys_ready: 0,
  keys: Array.from({ length: changes.keys_ready ?? 0 }, (_, index) => ({ id: `k${index}`, opened_at: null })),
  ...changes,
});

export const payment = (changes = {}) => ({
  id: "p1",
  status: "waiting",
  pay_address: "bc1qx",
  pay_amount: "0.0002",
  pay_currency: "btc",
  payin_extra_id: null,
  network: "btc",
  network_name: "Bitcoin",
  price_amount: "9.99",
  price_currency: "EUR",
  surplus: null,
  created_at: at(10),
  uri: null,
  qr_note: null,
  actually_paid: "0",
  expires_at: at(-10),
  qr: null,
  headline: null,
  reason: null,
  ...changes,
});

export const order = (changes = {}) => ({
  id: "o1",
  status: "pending",
  total: "9.99",
  amount_due: "9.99",
  currency: "EUR",
  email: "a…@customer.example",
  error: null,
  waits_for: null,
  expected_by: null,
  outlook: { now: "", late: "" },
  can_have_money_back: false,
  can_change_email: false,
  created_at: at(60),
  items: [item()],
  payment: null,
  refunds: [],
  timeline: [],
  ...changes,
});
