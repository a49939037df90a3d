import assert from "node:assert/strict";
import { test } from "node:test";

import { download, opened, pictureType, sorry, trimmed, unseal } from "../../static/bitloot/keys.js";
import "./orders.mjs";

const KEY = { download_url: "https://r2.example/k", fallback_url: "https://shop.example/objects/k" };

/** A fetch that fails as often as told, with what the network or the server would say. */
function failing(times, failure, asked) {
  return async (url) => {
    asked.push(url);
    if (asked.length > times) return new Response("sealed");
    if (failure instanceof Error) throw failure;
    return new Response("", { status: failure });
  };
}

const NO_NETWORK = new TypeError("Failed to fetch");

for (const failure of [NO_NETWORK, 503]) {
  test(`a download that fails (${failure}) is tried again and then taken from the shop`, async () => {
    const asked = [];
    const sealed = await download(KEY, { fetch: failing(2, failure, asked), pause: 0 });
    assert.equal(new TextDecoder().decode(sealed), "sealed");
    assert.deepEqual(asked, [KEY.download_url, KEY.download_url, KEY.fallback_url]);
  });
}

test("a download that works is asked for once", async () => {
  const asked = [];
  await download(KEY, { fetch: failing(0, 503, asked), pause: 0 });
  assert.deepEqual(asked, [KEY.download_url]);
});

test("a download that fails everywhere says so, in words for people", async () => {
  const asked = [];
  const error = await download(KEY, { fetch: failing(9, NO_NETWORK, asked), pause: 0 }).catch((err) => err);
  assert.equal(asked.length, 3);
  assert.match(sorry(error), /did not download/);
});

test("a key loses spaces and invisible characters at its ends, and keeps those inside", () => {
  assert.equal(trimmed("\u200b\ufeff ABC-\u200bDEF GHI\u2060 \r\n\u00a0"), "ABC-\u200bDEF GHI");
  assert.equal(trimmed("line one\nline two\n"), "line one\nline two");
});

test("a picture is known by its bytes, and what could carry a script is none", () => {
  const bytes = (text) => Uint8Array.from(text, (char) => char.charCodeAt(0)).buffer;
  assert.equal(pictureType(bytes("\x89PNG\r\n\x1a\n....")), "image/png");
  assert.equal(pictureType(bytes("\xff\xd8\xff\xe0....")), "image/jpeg");
  assert.equal(pictureType(bytes("GIF89a....")), "image/gif");
  assert.equal(pictureType(bytes("RIFF\n\x00\x01\x02WEBPVP8 ")), "image/webp");
  for (const other of ["<svg xmlns='http://www.w3.org/2000/svg'>", "<?xml version='1.0'?><svg>", "RIFF....WAVE", ""]) {
    assert.equal(pictureType(bytes(other)), null);
  }
});

test("a sealed key opens with what reveal hands out, and a changed one does not", async () => {
  const encode = (bytes) => Buffer.from(bytes).toString("base64url");
  const [raw, nonce, aad] = [32, 12, 20].map((size) => crypto.getRandomValues(new Uint8Array(size)));
  const secret = await crypto.subtle.importKey("raw", raw, "AES-GCM", false, ["encrypt"]);
  const algorithm = { name: "AES-GCM", iv: nonce, additionalData: aad };
  const sealed = await crypto.subtle.encrypt(algorithm, secret, new TextEncoder().encode("KEY-1"));
  const material = { key: encode(raw), nonce: encode(nonce), aad: encode(aad) };

  assert.equal(new TextDecoder().decode(await unseal(material, sealed)), "KEY-1");
  new Uint8Array(sealed)[0] ^= 1;
  const error = await unseal(material, sealed).catch((err) => err);
  assert.match(sorry(error), /was damaged/);
});

test("what the API refuses is said in its own words", () => {
  assert.equal(sorry({ status: 410, message: "The keys are gone." }), "The keys are gone.");
});

for (const [failures, result] of [[0, "opened"], [2, "opened_from_shop"], [9, "not_opened"]]) {
  test(`after ${failures} failed downloads the shop is told: ${result}`, async () => {
    const told = [];
    const api = { orderId: "O", post: async (path, body) => void told.push([path, body.result]) };
    const encode = (bytes) => Buffer.from(bytes).toString("base64url");
    const [raw, nonce, aad] = [32, 12, 20].map((size) => crypto.getRandomValues(new Uint8Array(size)));
    const secret = await crypto.subtle.importKey("raw", raw, "AES-GCM", false, ["encrypt"]);
    const sealed = await crypto.subtle.encrypt({ name: "AES-GCM", iv: nonce, additionalData: aad }, secret, raw);
    const asked = [];
    const fetch = async (url) => {
      asked.push(url);
      if (asked.length <= failures) throw NO_NETWORK;
      return new Response(sealed);
    };
    const key = { ...KEY, id: "K", key: encode(raw), nonce: encode(nonce), aad: encode(aad) };
    await opened(key, api, { fetch, pause: 0 }).catch(() => {});
    assert.deepEqual(told, [["/api/fulfillment/O/download-report", result]]);
  });
}
