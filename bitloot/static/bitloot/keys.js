// Opening a key: fetched sealed, opened in this browser, shown, and forgotten when the page is left.

import { Refused } from "./api.js";
import { all, busy, isBusy, one, part, say, show, tellError, write } from "./render.js";

// A picture that could carry a script (SVG, or a type we do not know) is only saved, never shown.
const PICTURES = ["image/png", "image/jpeg", "image/webp", "image/gif"];
const DOWNLOAD_PATIENCE = 15_000;
const RETRY_AFTER = 1500;

export async function reveal(row, api) {
  const button = one("[data-reveal]", row);
  if (isBusy(button)) return;
  tellError(one(".field-error", row), "");
  busy(button, true);
  try {
    const key = await openOne(row, api);
    showKey(row, key, await opened(key, api));
    show(button, false);
    one(".key-value", row).focus();
  } catch (error) {
    tellError(one(".field-error", row), sorry(error));
  }
  busy(button, false);
}

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

/** Have one key opened: each opening is kept as evidence, so the other keys stay unopened. */
async function openOne(row, api) {
  const { keys: stored } = await api.get(`/api/fulfillment/${api.orderId}/download-link`);
  const wanted = stored.filter(({ product }) => product === row.dataset.product)[row.dataset.index];
  if (!wanted) throw new Refused(409, "This key is being prepared. Please try again in a moment; nothing is lost.");
  const { keys } = await api.post(`/api/fulfillment/${api.orderId}/reveal`, { keys: [wanted.id] });
  return keys[0];
}

export function sorry(error) {
  if (error.status === 429) return "You opened keys very often. Please wait a little and try again; nothing is lost.";
  if (error.status) return error.message || "We could not hand out the key. Please try again; nothing is lost.";
  if (error.name === "OperationError") {
    return "The key could not be opened: the download was damaged. Please try again, or reply to our e-mail.";
  }
  return "The key did not download. Please check your connection and try again; nothing is lost.";
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

function showKey(row, { content_type: type, id }, plain) {
  const place = one(".key-value", row);
  if (type.startsWith("text/")) showText(place, trimmed(new TextDecoder().decode(plain)));
  else showPicture(place, { type, id }, plain);
  say("The key is open.");
}

function showText(place, text) {
  const code = document.createElement("code");
  code.translate = false;
  code.textContent = text;
  place.replaceChildren(code, copyButton(code, "Copy the key"));
}

function showPicture(place, { type, id }, plain) {
  const isShown = PICTURES.includes(type);
  const url = URL.createObjectURL(new Blob([plain], { type: isShown ? type : "application/octet-stream" }));
  const save = document.createElement("a");
  const download = `key-${id}.${isShown ? type.split("/")[1] : "bin"}`;
  Object.assign(save, { href: url, download, textContent: "Save the picture" });
  save.setAttribute("role", "button");
  place.replaceChildren(save);
  if (isShown) place.prepend(Object.assign(new Image(), { src: url, alt: "Your key as a picture" }));
}

function copyButton(source, label) {
  const button = document.createElement("button");
  Object.assign(button, { type: "button", className: "copy", textContent: "Copy" });
  button.setAttribute("aria-label", label);
  button.addEventListener("click", () => copy(button, source));
  return button;
}

export async function copy(button, source) {
  try {
    await navigator.clipboard.writeText(trimmed(source.textContent));
    write(button, "Copied");
    say("Copied.");
  } catch {
    // Not allowed to write: the customer copies what we select.
    getSelection().selectAllChildren(source);
    write(button, "Selected: press Ctrl+C");
  }
  setTimeout(() => write(button, "Copy"), 2500);
}

export function forgetKeys() {
  for (const row of all(".key", part("keys"))) {
    all("[href^='blob:']", row).forEach(({ href }) => URL.revokeObjectURL(href));
    one(".key-value", row).replaceChildren();
    show(one("[data-reveal]", row), true);
  }
}
