// Opening keys: fetched sealed, opened in this browser, shown, and forgotten when the page is left.

import { all, busy, copyOf, coverOf, isBusy, one, panel, part, say, show, tellError, write } from "./render.js";
import { exact, keyRows, word } from "./story.js";

const DOWNLOAD_PATIENCE = 15_000;
const RETRY_AFTER = 1500;
const COPIED_FOR = 2500;

// --- The tickets ---

export function renderKeys(order) {
  const list = part("keys");
  const kept = keyRows(order);
  rows().filter(({ id }) => !kept.some(({ rowId }) => rowId === id)).forEach(remove);
  for (const key of kept) {
    if (!document.getElementById(key.rowId)) list.append(ticket(key)); // an older one may be open
    const row = document.getElementById(key.rowId);
    write(one(".key-name", row), key.name); // its number may have changed
    one("[data-reveal]", row).setAttribute("aria-label", word("reveal_key", { name: key.name }));
    const opened = one("[data-opened]", row);
    write(opened, key.openedAt ? word("opened", { time: exact(key.openedAt) }) : "");
    show(opened, Boolean(key.openedAt));
  }
  renderAll();
  show(panel("keys"), list.childElementCount > 0);
}

function ticket({ rowId, id, product }) {
  const row = copyOf("key");
  row.id = rowId;
  row.dataset.key = id;
  one("img", row).src = coverOf(product);
  write(one("[data-region] strong", row), product.region);
  show(one("[data-region]", row), Boolean(product.region));
  const { platform } = product;
  write(one(".how summary", row), platform ? word("redeem_on", { platform }) : word("redeem"));
  write(one(".how div", row), product.activation);
  show(one(".how", row), Boolean(product.activation));
  return row;
}

// Staff replaced it, or it is no longer kept: it must not stand beside the one that works.
function remove(row) {
  const hadFocus = row.contains(document.activeElement);
  forget(row);
  row.remove();
  if (hadFocus) part("headline").focus();
}

const rows = () => all(".key", part("keys"));
const isOpen = (row) => row.dataset.open === "yes";
const openTexts = () => all(".key-value code", part("keys")).map(({ textContent }) => trimmed(textContent));

function renderAll() {
  const closed = rows().filter((row) => !isOpen(row));
  show(part("reveal-all"), rows().length > 1 && closed.length > 0);
  const texts = openTexts();
  show(part("copy-all"), texts.length > 1);
  if (!isCopying(part("copy-all"))) write(part("copy-all"), word("copy_all", { number: texts.length }));
}

/** Open one key: each opening is kept as evidence, so the others stay unopened. */
export function reveal(button, api) {
  return open([button.closest(".key")], button, api);
}

export function revealAll(button, api) {
  return open(rows().filter((row) => !isOpen(row)), button, api);
}

async function open(wanted, button, api) {
  if (isBusy(button) || !wanted.length) return;
  wanted.forEach((row) => tellError(one(".field-error", row), ""));
  busy(button, true);
  try {
    const asked = { keys: wanted.map((row) => row.dataset.key) };
    const { keys } = await api.post(`/api/fulfillment/${api.orderId}/reveal`, asked);
    await Promise.all(wanted.map((row) => openRow(row, keys.find(({ id }) => id === row.dataset.key), api)));
  } catch (error) {
    tellError(one(".field-error", wanted[0]), sorry(error));
  }
  busy(button, false);
  moveFocus(wanted, button);
  renderAll();
}

async function openRow(row, key, api) {
  try {
    showKey(row, key, await opened(key, api));
  } catch (error) {
    tellError(one(".field-error", row), sorry(error));
  }
}

// Before the button goes away: a hidden button loses the focus, and a keyboard would start at the top again.
function moveFocus(wanted, button) {
  const first = wanted.find(isOpen);
  if (!first) return;
  say(word("keys_open", {}, wanted.filter(isOpen).length));
  if (document.activeElement === button || document.activeElement === document.body) one(".key-value", first).focus();
  wanted.filter(isOpen).forEach((row) => show(one("[data-reveal]", row), false));
}

// --- Fetching and opening ---

/** Download and open one key, and report to the shop how that ended: its staff cannot see our browser's trouble. */
export async function opened(key, api, options = {}) {
  let fell = false;
  try {
    const sealed = await download(key, { ...options, onFallback: () => (fell = true) });
    const plain = await unseal(key, sealed);
    report(key, fell ? "opened_from_shop" : "opened", api);
    return plain;
  } catch (error) {
    report(key, "not_opened", api);
    throw error;
  }
}

// Nobody waits for it, and a report that gets lost costs nothing.
function report({ id }, result, api) {
  api.post(`/api/fulfillment/${api.orderId}/download-report`, { key: id, result }).catch(() => {});
}

export function sorry(error) {
  if (error.status === 429) return word("opened_too_often");
  if (error.status) return error.message || word("not_handed_out");
  return word(error.name === "OperationError" ? "key_damaged" : "not_downloaded");
}

/**
 * Download the sealed key: twice from the object store, then once from the shop, which reads the same bytes.
 * Networks that block the object store's host, or a bucket without CORS, would otherwise lock the customer out.
 */
export async function download(key, { fetch = globalThis.fetch, pause = RETRY_AFTER, onFallback = () => {} } = {}) {
  const urls = [key.download_url, key.download_url, key.fallback_url ?? key.download_url];
  for (const [index, url] of urls.entries()) {
    if (index === 2 && url !== key.download_url) onFallback();
    if (index === 1) await new Promise((wake) => setTimeout(wake, pause));
    try {
      return await bytesAt(url, fetch);
    } catch (error) {
      if (index === urls.length - 1) throw error;
    }
  }
  throw new Error("unreachable");
}

async function bytesAt(url, fetch) {
  const signal = AbortSignal.timeout(DOWNLOAD_PATIENCE);
  const response = await fetch(url, { credentials: "omit", referrerPolicy: "no-referrer", cache: "no-store", signal });
  if (!response.ok) throw new Error(`download answered ${response.status}`);
  return response.arrayBuffer();
}

export async function unseal({ key, nonce, aad }, sealed) {
  const secret = await crypto.subtle.importKey("raw", bytes(key), "AES-GCM", false, ["decrypt"]);
  const algorithm = { name: "AES-GCM", iv: bytes(nonce), additionalData: bytes(aad), tagLength: 128 };
  return crypto.subtle.decrypt(algorithm, secret, sealed);
}

function bytes(base64url) {
  const base64 = base64url.replaceAll("-", "+").replaceAll("_", "/");
  return Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
}

/** Return the key without spaces and invisible characters at its ends, which suppliers send and platforms refuse. */
export function trimmed(text) {
  return text.replace(/^[\s\p{Cf}]+|[\s\p{Cf}]+$/gu, "");
}

/** Name the kind of picture by its bytes, whatever it was said to be; null for all else, above all for SVG. */
export function pictureType(plain) {
  const head = String.fromCharCode(...new Uint8Array(plain).subarray(0, 12));
  if (head.startsWith("\x89PNG\r\n\x1a\n")) return "image/png";
  if (head.startsWith("\xff\xd8\xff")) return "image/jpeg";
  if (head.startsWith("GIF8")) return "image/gif";
  return /^RIFF....WEBP/s.test(head) ? "image/webp" : null;
}

// --- An open key ---

function showKey(row, { content_type: type, id }, plain) {
  const place = one(".key-value", row);
  if (type.startsWith("text/")) showText(place, id, trimmed(new TextDecoder().decode(plain)));
  else showPicture(place, id, plain);
  row.dataset.open = "yes";
  show(one(".key-mask", row), false);
}

function showText(place, id, text) {
  const code = document.createElement("code");
  code.translate = false;
  code.textContent = text;
  const url = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
  place.replaceChildren(code, copyButton(code), saveLink(url, `key-${id}.txt`, word("download")));
}

function showPicture(place, id, plain) {
  const type = pictureType(plain);
  const url = URL.createObjectURL(new Blob([plain], { type: type ?? "application/octet-stream" }));
  const extension = type ? type.split("/")[1] : "bin"; // what we do not know is only saved, never shown
  place.replaceChildren(saveLink(url, `key-${id}.${extension}`, word(type ? "save_picture" : "save_file")));
  if (type) place.prepend(Object.assign(new Image(), { src: url, alt: word("key_picture") }));
}

function saveLink(url, name, text) {
  const link = document.createElement("a");
  Object.assign(link, { href: url, download: name, textContent: text, className: "button copy" });
  return link;
}

function copyButton(source) {
  const button = document.createElement("button");
  Object.assign(button, { type: "button", className: "copy", textContent: word("copy") });
  button.setAttribute("aria-label", word("copy_key"));
  button.addEventListener("click", () => copy(button, source));
  return button;
}

const isCopying = (button) => button.dataset.copied === "yes";

export async function copy(button, source) {
  try {
    await navigator.clipboard.writeText(trimmed(source.textContent));
    flash(button, word("copied"));
  } catch {
    // Not allowed to write: the customer copies what we select.
    getSelection().selectAllChildren(source);
    flash(button, word("press_copy"));
  }
}

export async function copyAll(button) {
  try {
    await navigator.clipboard.writeText(openTexts().join("\n"));
    flash(button, word("copied"));
  } catch {
    flash(button, word("copy_one_by_one"));
  }
}

function flash(button, text) {
  if (isCopying(button)) return;
  const before = button.textContent;
  button.dataset.copied = "yes";
  write(button, text);
  say(text);
  setTimeout(() => {
    button.dataset.copied = "";
    write(button, before);
  }, COPIED_FOR);
}

/** Take every key off the page; called when the person leaves it, also into the browser's memory of pages. */
export function forgetKeys() {
  rows().forEach(forget);
  if (rows().length) renderAll();
}

function forget(row) {
  all("[href^='blob:']", row).forEach(({ href }) => URL.revokeObjectURL(href));
  one(".key-value", row).replaceChildren();
  row.dataset.open = "";
  show(one(".key-mask", row), true);
  show(one("[data-reveal]", row), true);
}
