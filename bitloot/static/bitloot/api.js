// The token and the calls. Knows nothing of what the page looks like.

const FASTEST = 2000;
const SLOWEST = 10_000;
const CALM_AFTER = 60; // looks without news, ten minutes
const CALMEST = 60_000; // a page that is left open for a day
const LONGEST_BACKOFF = 60_000;

/** The API answered with a problem; the message is its sentence for people. */
export class Refused extends Error {
  constructor(status, message, retryAfter = 0) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

export class OrderApi {
  #latest = { etag: null, text: "", order: null };

  constructor(orderId, { language = "en", fetch = (...args) => globalThis.fetch(...args) } = {}) {
    this.orderId = orderId;
    this.language = language;
    this.fetch = fetch;
    this.token = null;
    this.clockAhead = 0; // this computer's clock minus the shop's, so that the countdown is the shop's
  }

  now() {
    return Date.now() - this.clockAhead;
  }

  /** Read the order; the same object as before if nothing changed. An unpaid one can bring the coins along. */
  async order({ withCoins = false } = {}) {
    const { etag } = this.#latest;
    const headers = etag ? { "If-None-Match": etag } : {};
    const response = await this.#send(`/api/orders/${this.orderId}${withCoins ? "?include=coins" : ""}`, { headers });
    if (response.status !== 304) this.#keep(await answerOf(response), response.headers.get("ETag"));
    return this.#latest.order;
  }

  /** Have the next call of `order()` answered as if it were the first. */
  forget() {
    this.#latest = { etag: null, text: "", order: null };
  }

  #keep(order, etag) {
    const text = JSON.stringify(order);
    this.#latest = text === this.#latest.text ? { ...this.#latest, etag } : { etag, text, order };
  }

  async get(path) {
    return answerOf(await this.#send(path));
  }

  async post(path, body, options = {}) {
    const headers = { "Content-Type": "application/json" };
    return answerOf(await this.#send(path, { method: "POST", headers, body: JSON.stringify(body), ...options }));
  }

  /** Have the order's mails written in this language; the page may be left meanwhile. */
  async chooseLanguage(language) {
    await this.post("/api/orders/language", { order_id: this.orderId, language }, { keepalive: true });
  }

  /** Exchange a one-time code for the order's token. */
  async redeem(code) {
    const { access_token: token } = await this.post("/api/orders/redeem", { order_id: this.orderId, code });
    return token;
  }

  async #send(path, { headers = {}, ...options } = {}) {
    const bearer = this.token ? { Authorization: `Bearer ${this.token}` } : {};
    const response = await this.fetch(path, {
      ...options,
      headers: { Accept: "application/json", "Accept-Language": this.language, ...bearer, ...headers },
      credentials: "omit",
      cache: "no-store", // an order must not stay in a cache on disk; If-None-Match still goes out
      signal: AbortSignal.timeout(20_000),
    });
    const date = Date.parse(response.headers.get("Date"));
    if (date) this.clockAhead = Date.now() - date;
    return response;
  }
}

async function answerOf(response) {
  if (response.status === 204) return {};
  // A good answer that breaks off on its way is no answer: its token, or its order, would be missing.
  if (response.ok) return response.json();
  const answer = await response.json().catch(() => ({}));
  const retryAfter = Number(response.headers.get("Retry-After")) || 0;
  throw new Refused(response.status, answer.detail ?? "", retryAfter);
}

/** How long to wait before the next look: longer while nothing moves, and longer still while nobody answers. */
export class Pace {
  delay = FASTEST;
  #looks = 0;

  moved() {
    this.delay = FASTEST;
    this.#looks = 0;
  }

  unchanged() {
    this.#looks += 1;
    this.delay = Math.min(this.delay * 1.3, this.#looks > CALM_AFTER ? CALMEST : SLOWEST);
  }

  failed(retryAfter = 0) {
    this.delay = Math.min(Math.max(this.delay * 1.5, retryAfter * 1000), LONGEST_BACKOFF);
  }
}

// --- The token: out of the address bar, into this tab's memory ---

/**
 * Take the token from the link, or the one this tab remembers; a one-time code in the link is exchanged for a token.
 * "#main" is the skip link, not a token.
 */
export async function takeToken(api) {
  const fromLink = tokenIn(location.hash);
  const known = api.token ?? remembered(api.orderId);
  if (!fromLink) return known;
  if (document.getElementById(fromLink)) {
    if (known) keepToken(api.orderId, known); // where it stood in the address, “#main” has taken its place
    return known;
  }
  if (fromLink.startsWith("c.")) return exchange(api, fromLink, known);
  keepToken(api.orderId, fromLink);
  return fromLink;
}

/** Return the token of a link without what mail programs and trackers leave behind it: “.”, “>”, “?utm_source=…”. */
export function tokenIn(hash) {
  return hash.slice(1).replace(/[^\w.-].*$/s, "").replace(/\.+$/, "");
}

async function exchange(api, code, known) {
  try {
    const token = await api.redeem(code);
    keepToken(api.orderId, token);
    return token;
  } catch (error) {
    // A code that was used before: the page was loaded again. Anything else may pass, so the code stays in the address.
    if (error.status !== 422) throw error;
    history.replaceState(null, "", location.pathname);
    return known;
  }
}

/** Remember the token in this tab and clear the address bar. */
export function keepToken(orderId, token) {
  // Where the browser keeps nothing, the token goes into the address bar, or a reload would lose the order.
  const address = remember(orderId, token) ? location.pathname : `${location.pathname}#${token}`;
  history.replaceState(null, "", address);
}

function remembered(orderId) {
  try {
    return sessionStorage.getItem(`bitloot:${orderId}`);
  } catch {
    return null; // storage is switched off
  }
}

function remember(orderId, token) {
  try {
    sessionStorage.setItem(`bitloot:${orderId}`, token);
    return true;
  } catch {
    return false;
  }
}
