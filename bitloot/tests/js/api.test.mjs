import assert from "node:assert/strict";
import { test } from "node:test";

import { OrderApi, Pace, Refused, tokenIn } from "../../static/bitloot/api.js";

/** An API whose answers are given one after the other; `asked` fills with what was sent. */
function apiWith(answers, asked = []) {
  const fetch = async (path, options) => {
    asked.push({ path, ...options });
    return answers.shift();
  };
  const api = new OrderApi("o1", { fetch });
  api.token = "a.token";
  return api;
}

const json = (body, { status = 200, headers = {} } = {}) => new Response(JSON.stringify(body), { status, headers });
const unchanged = () => new Response(null, { status: 304 });

test("the second look sends the ETag of the first, and 304 keeps the order", async () => {
  const asked = [];
  const api = apiWith([json({ id: 1 }, { headers: { ETag: '"one"' } }), unchanged(), json({ id: 2 })], asked);
  const first = await api.order();
  assert.equal(await api.order(), first);
  assert.deepEqual(await api.order(), { id: 2 });
  assert.deepEqual(asked.map(({ headers }) => headers["If-None-Match"]), [undefined, '"one"', '"one"']);
});

test("the coins come along when they are asked for, and a poll asks for none", async () => {
  const asked = [];
  const api = apiWith([json({ id: 1, coins: [] }, { headers: { ETag: '"one"' } }), unchanged()], asked);
  assert.deepEqual(await api.order({ withCoins: true }), { id: 1, coins: [] });
  await api.order();
  assert.deepEqual(asked.map(({ path }) => path), ["/api/orders/o1?include=coins", "/api/orders/o1"]);
});

test("a token is read without what was left behind it", () => {
  const token = "m.1.1796006456.63d2bf6e.qf88WU_2vB6FrYRr3x-J";
  for (const rest of ["", ".", "...", ">", ")", "%20", "?utm_source=mail", "&fbclid=a.b", ",", "\u201d."]) {
    assert.equal(tokenIn(`#${token}${rest}`), token);
  }
  assert.equal(tokenIn(""), "");
});

test("an equal order is the same object also without an ETag", async () => {
  const api = apiWith([json({ id: 1 }), json({ id: 1 })]);
  assert.equal(await api.order(), await api.order());
});

test("a forgotten order is asked for without an ETag", async () => {
  const asked = [];
  const api = apiWith([json({}, { headers: { ETag: '"one"' } }), json({})], asked);
  const first = await api.order();
  api.forget();
  assert.notEqual(await api.order(), first);
  assert.equal(asked[1].headers["If-None-Match"], undefined);
});

test("the token goes into a header and nothing is cached", async () => {
  const asked = [];
  await apiWith([json({})], asked).post("/api/x", { a: 1 });
  const [{ headers, method, body, cache, credentials }] = asked;
  assert.deepEqual([headers.Authorization, method, body], ["Bearer a.token", "POST", '{"a":1}']);
  assert.deepEqual([cache, credentials], ["no-store", "omit"]);
});

test("the language of the mails is chosen by a request that outlives the page", async () => {
  const asked = [];
  await apiWith([json({ language: "de" })], asked).chooseLanguage("de");
  const [{ path, method, body, keepalive, headers }] = asked;
  assert.deepEqual([path, method, keepalive], ["/api/orders/language", "POST", true]);
  assert.deepEqual([JSON.parse(body), headers.Authorization], [{ order_id: "o1", language: "de" }, "Bearer a.token"]);
});

test("a problem becomes an error with its sentence and its wait", async () => {
  const refusal = json({ detail: "Too often." }, { status: 429, headers: { "Retry-After": "7" } });
  const error = await apiWith([refusal]).get("/api/x").catch((err) => err);
  assert.ok(error instanceof Refused);
  assert.deepEqual([error.status, error.message, error.retryAfter], [429, "Too often.", 7]);
});

test("a failure without a body is still a refusal", async () => {
  const error = await apiWith([new Response("<html>", { status: 502 })]).get("/api/x").catch((err) => err);
  assert.deepEqual([error.status, error.message], [502, ""]);
});

test("a good answer that breaks off on its way is no answer, and is asked for again", async () => {
  const broken = () => new Response('{"id": 1, "sta', { headers: { ETag: '"one"' } });
  const asked = [];
  const api = apiWith([broken(), broken(), json({ id: 1 })], asked);
  await assert.rejects(api.redeem("c.code"), SyntaxError);
  await assert.rejects(api.order(), SyntaxError);
  assert.deepEqual(await api.order(), { id: 1 });
  assert.equal(asked[2].headers["If-None-Match"], undefined);
});

test("an answer without a body is an answer", async () => {
  assert.deepEqual(await apiWith([new Response(null, { status: 204 })]).post("/api/x", {}), {});
});

test("the shop's clock is the one that counts", async () => {
  const anHourAgo = new Date(Date.now() - 3_600_000).toUTCString();
  const api = apiWith([json({}, { headers: { Date: anHourAgo } })]);
  await api.get("/api/x");
  assert.ok(Math.abs(api.now() - Date.parse(anHourAgo)) < 2000);
});

test("looks slow down to ten seconds while nothing moves, and to a minute while nobody answers", () => {
  const pace = new Pace();
  const first = pace.delay;
  for (let look = 0; look < 50; look += 1) pace.unchanged();
  assert.equal(pace.delay, 10_000);
  for (let look = 0; look < 50; look += 1) pace.failed();
  assert.equal(pace.delay, 60_000);
  pace.moved();
  assert.equal(pace.delay, first);
  pace.failed(30);
  assert.equal(pace.delay, 30_000);
});

test("a page left open looks quickly at first, and about once a minute for the rest of the day", () => {
  const pace = new Pace();
  const looks = [];
  for (let passed = 0; passed < 24 * 3_600_000; passed += pace.delay, pace.unchanged()) looks.push(passed);
  assert.ok(looks.filter((at) => at < 600_000).length >= 60);
  assert.ok(looks.length / (24 * 60) < 1.1);
});
