// The order's page. The HTML is the same for everybody; this script reads the token from the link,
// asks the API for the order and fills the page in. Text goes in as textContent, never as HTML.

const root = document.getElementById("order");
const orderId = location.pathname.split("/").filter(Boolean).at(-1);
const FASTEST = 2000;
const SLOWEST = 10000;
const PICTURES = ["image/png", "image/jpeg", "image/webp", "image/gif"];
const CAN_CHOOSE = ["expired", "failed", "cancelled"];
const SETTLED = ["fulfilled", "refunded", "cancelled", "failed"];
const ON_ITS_WAY = ["confirming", "confirmed", "sending"];

const page = {
  token: null,
  order: null,
  coins: null,
  rest: null, // the quote for what is missing: the order may still show the payment that was too small
  changing: false, // the customer asked for another coin while a payment is open
  asking: false, // a payment is being made
  clockAhead: 0, // this computer's clock minus the shop's, so that the countdown is the shop's
  delay: FASTEST,
  timer: null,
  turn: 0,
  seen: "",
};

const one = (selector, within = root) => within.querySelector(selector);
const all = (selector, within = root) => [...within.querySelectorAll(selector)];
const part = (name) => one(`[data-${name}]`);
const copyOf = (name) => one(`[data-template="${name}"]`).content.firstElementChild.cloneNode(true);
const now = () => Date.now() - page.clockAhead;

// Writing only what changed keeps screen readers quiet and the customer's selection alive.
function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function show(node, visible) {
  node.hidden = !visible;
}

// --- The token: out of the address bar, into this tab's memory ---

function takeToken() {
  const fromLink = location.hash.slice(1);
  if (!fromLink || document.getElementById(fromLink)) return page.token ?? remembered(); // "#main" is the skip link
  if (remember(fromLink)) history.replaceState(null, "", location.pathname);
  return fromLink;
}

function remembered() {
  try {
    return sessionStorage.getItem(`bitloot:${orderId}`);
  } catch {
    return null;
  }
}

// Where the browser keeps nothing the token stays in the address bar, or a reload would lose the order.
function remember(token) {
  try {
    sessionStorage.setItem(`bitloot:${orderId}`, token);
    return true;
  } catch {
    return false;
  }
}

// --- The API ---

class Refused extends Error {
  constructor(status, message, retryAfter) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

async function call(path, body) {
  const headers = { Accept: "application/json" };
  if (page.token) headers.Authorization = `Bearer ${page.token}`;
  if (body) headers["Content-Type"] = "application/json";
  const options = { headers, credentials: "omit", cache: "no-store", signal: AbortSignal.timeout(20000) };
  if (body) Object.assign(options, { method: "POST", body: JSON.stringify(body) });
  const response = await fetch(path, options);
  const date = Date.parse(response.headers.get("Date"));
  if (date) page.clockAhead = Date.now() - date;
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refused(response.status, answer.detail ?? "", Number(response.headers.get("Retry-After")) || 0);
  return answer;
}

// --- Reading the order, again and again while something can still change ---

async function look() {
  clearTimeout(page.timer);
  if (!page.token) return lost(401);
  const turn = (page.turn += 1); // a newer look makes this one's answer old
  try {
    const order = await call(`/api/orders/${orderId}`);
    if (turn !== page.turn) return undefined;
    trouble("");
    const text = JSON.stringify(order);
    page.delay = text === page.seen ? Math.min(page.delay * 1.3, SLOWEST) : FASTEST;
    page.seen = text;
    page.order = order;
    render();
    if (isSettled(order)) return undefined;
  } catch (error) {
    if (turn !== page.turn) return undefined;
    if ([401, 404, 410].includes(error.status)) return lost(error.status, error.message);
    page.delay = Math.min(Math.max(page.delay * 1.5, (error.retryAfter ?? 0) * 1000), 60000);
    trouble("We cannot reach the shop right now. Your order is safe, and this page keeps trying.");
  }
  if (!document.hidden) page.timer = setTimeout(look, page.delay);
  return undefined;
}

const keysReady = (order) => order.items.reduce((sum, item) => sum + item.keys_ready, 0);
const keysWanted = (order) => order.items.reduce((sum, item) => sum + item.quantity, 0);
const isSettled = (order) =>
  SETTLED.includes(order.status) && (order.status !== "fulfilled" || keysReady(order) === keysWanted(order)) && order.refunds.every(({ status }) => status === "done");

function trouble(message) {
  const node = part("trouble");
  write(node, message);
  show(node, Boolean(message));
}

function lost(status, detail) {
  const replaced = status === 410;
  headline({
    tone: "bad",
    headline: replaced ? "This link has been replaced" : "This link does not open an order",
    lead: replaced
      ? detail || "A newer link was sent to your e-mail address. Please use that one, or ask for a fresh link here."
      : "The link may be cut off or too old. Nothing is lost: ask for a fresh one and we send it to the address you ordered with.",
  });
  trouble("");
  show(part("body"), false);
  show(one('[data-panel="lookup"]'), true);
}

// --- What to say about each state ---

function story(order) {
  const { payment } = order;
  const ready = keysReady(order);
  switch (order.status) {
    case "pending":
      return payment ? payingStory(payment) : { panel: "coins", headline: "Choose how to pay", lead: "Your order is placed. Pick a coin and we show you the exact amount and the address." };
    case "paid":
    case "fulfilling":
      return ready
        ? { tone: "busy", steps: true, headline: `${ready} of ${keysWanted(order)} keys are ready`, lead: "You can open what is ready. The rest appears here by itself." }
        : { tone: "busy", steps: true, headline: "Paid. We are getting your key", lead: "This usually takes a few minutes. You may close this page: we mail you when your key is ready." };
    case "fulfilled":
      return ready === keysWanted(order)
        ? { tone: "good", steps: true, headline: ready === 1 ? "Your key is ready" : "Your keys are ready", lead: "Have fun. This page stays here if you need a key again." }
        : { tone: "busy", steps: true, headline: "Almost there", lead: "Your key is being sealed and appears here in a moment." };
    case "partially_fulfilled":
      return { steps: true, headline: `${ready} of ${keysWanted(order)} keys are ready`, lead: order.error ?? "The rest could not be bought. Our staff are on it and write to you." };
    case "underpaid":
      return restStory(order);
    case "held":
      return { headline: "Our staff are looking at your order", lead: order.error ?? "Something needs a person's eye. You do not need to do anything: we write to you." };
    case "expired":
      return { tone: "bad", headline: "This order has expired", lead: order.error ?? "It was not paid in time. If you did send money, do nothing: it is matched to this order when it arrives, and we write to you." };
    case "cancelled":
      return { tone: "bad", headline: "This order was cancelled", lead: order.error ?? "Nothing more happens with it. You are welcome to place a new one." };
    case "refund_due":
      return { tone: "bad", headline: "We owe you a refund", lead: refundLead(order) ?? order.error ?? "We could not deliver your key. Our staff write to you to return your money." };
    case "refunded":
      return { headline: "Your money was returned", lead: order.error ?? "This order is closed." };
    case "failed":
      return { tone: "bad", headline: "This order could not be completed", lead: order.error ?? "Our staff have been told and write to you." };
    default:
      return { tone: "busy", headline: "Your order is being worked on", lead: order.error ?? "" };
  }
}

function payingStory(payment) {
  const choose = (lead, tone) => ({ panel: "coins", tone, headline: "Choose a coin", lead });
  if (CAN_CHOOSE.includes(payment.status)) return choose(payment.reason ?? "The last quote has ended without a payment. Choose a coin again. If you already sent money, do not pay twice: it appears here when the network has it.", "bad");
  switch (payment.status) {
    case "creating":
      return { tone: "busy", headline: "Getting your payment address…", lead: "This takes a few seconds." };
    case "waiting":
      if (hasEnded(payment)) return choose("The quote has ended; choose a coin again. If you already sent money, do not pay twice: it appears here when the network has it.", "bad");
      return { panel: "pay", headline: "Waiting for your payment", lead: "As soon as the network shows your payment, this page moves on by itself." };
    case "review":
      return { headline: "Our staff are looking at your payment", lead: payment.reason ?? "Your money arrived, but something about it needs a person's eye. You do not need to do anything: we write to you." };
    case "refunded":
      return { headline: "Your payment was returned", lead: payment.reason ?? "" };
    default:
      return { tone: "busy", steps: true, headline: "Payment seen, waiting for the network", lead: "The network is confirming it. That takes minutes for most coins and up to an hour for some. You may close this page." };
  }
}

function restStory(order) {
  const { payment } = order;
  if (ON_ITS_WAY.includes(payment?.status)) return payingStory(payment);
  const open = openPayment(order);
  const missing = `${order.amount_due} ${order.currency}`;
  if (open?.status === "creating") return payingStory(open);
  if (open) return { panel: "pay", headline: "Waiting for the rest", lead: `${missing} are still missing. As soon as the network shows this payment, this page moves on by itself.` };
  const arrived = payment?.pay_amount ? `${payment.actually_paid} of ${payment.pay_amount} ${payment.pay_currency.toUpperCase()} arrived, ` : "";
  return { panel: "coins", tone: "bad", headline: "Not all of the money arrived", lead: `${arrived}${missing} are still missing. What arrived counts. Choose a coin for the rest: it need not be the same one.` };
}

// The quote that waits for money: the order's own payment, or the one just made for what is missing.
function openPayment(order) {
  const isOpen = (payment) => payment?.status === "creating" || (payment?.status === "waiting" && !hasEnded(payment));
  if (isOpen(order.payment)) return order.payment;
  return page.rest?.due === order.amount_due && isOpen(page.rest.payment) ? page.rest.payment : null;
}

function refundLead({ refunds }) {
  const waiting = refunds.filter(({ status }) => status === "requested");
  if (waiting.some(({ address }) => !address)) return "Your money goes back to you. Tell us below which address it goes to.";
  if (waiting.length) return "Your money goes back to you. We have your address: a person sends the coins, and then you find the transaction here.";
  return refunds.length ? "Your money is on its way back to you." : null;
}

const hasEnded = (payment) => Boolean(payment.expires_at) && Date.parse(payment.expires_at) <= now();

// --- Showing it ---

function headline({ tone = "", headline: title, lead = "" }) {
  one(".state").dataset.tone = tone;
  if (part("headline").textContent !== title) {
    write(part("headline"), title);
    write(part("say"), `${title}. ${lead}`);
    document.title = `${title}: BitLoot`;
  }
  write(part("lead"), lead);
}

function render() {
  const { order } = page;
  const open = openPayment(order);
  if (open?.status !== "waiting") page.changing = false;
  const told = story(order);
  const panel = page.changing ? "coins" : told.panel;
  headline(told);
  write(part("number"), `Order ${order.id}`);
  show(part("number"), true);
  show(part("body"), true);
  show(one('[data-panel="lookup"]'), false);
  show(one('[data-panel="coins"]'), panel === "coins");
  show(one('[data-panel="pay"]'), panel === "pay");
  show(part("keep"), page.changing);
  if (panel === "coins") offerCoins();
  if (panel === "pay") renderPayment(open);
  renderSteps(order, Boolean(told.steps));
  renderSummary(order);
  renderKeys(order);
  renderRefunds(order);
  renderTimeline(order.timeline);
}

function renderPayment(payment) {
  const coin = page.coins?.find(({ code }) => code === payment.pay_currency);
  const short = payment.pay_currency.toUpperCase();
  write(part("amount"), payment.pay_amount);
  write(part("coin"), short);
  write(one("#pay-title"), page.order.status === "underpaid" ? "Send the rest" : "Send the payment");
  write(part("network"), coin ? `${coin.name} on the ${payment.network ?? coin.network} network` : `${short} on the ${payment.network} network`);
  write(part("address"), payment.pay_address);
  write(part("memo"), payment.payin_extra_id ?? "");
  all("[data-memo-only]").forEach((node) => show(node, Boolean(payment.payin_extra_id)));
  if (payment.qr && part("qr").src !== payment.qr) part("qr").src = payment.qr;
  show(one(".qr"), Boolean(payment.qr));
  if (!page.coins) loadCoins().then(() => page.coins && renderPayment(payment));
  tick();
}

// How many of the four steps are done.
function stage(order) {
  if (order.status === "pending") return 0;
  if (keysReady(order) >= keysWanted(order)) return 4;
  const came = (...events) => order.timeline.some(({ event }) => events.includes(event));
  if (came("received", "stored")) return 3;
  return came("reserved", "given", "delivered") ? 2 : 1;
}

function renderSteps(order, visible) {
  const done = stage(order);
  show(part("steps"), visible);
  all("li", part("steps")).forEach((step, index) => {
    step.dataset.step = index < done ? "done" : index === done ? "now" : "";
    if (index === done) step.setAttribute("aria-current", "step");
    else step.removeAttribute("aria-current");
  });
}

function renderSummary(order) {
  write(part("total"), `${order.total} ${order.currency}`);
  write(part("email"), order.email);
  const isShort = order.status === "underpaid";
  write(part("due"), `${order.amount_due} ${order.currency}`);
  all("[data-rest-only]").forEach((node) => show(node, isShort));
  if (part("items").childElementCount) return;
  part("items").append(...order.items.map((item) => {
    const line = copyOf("item");
    one("img", line).src = coverOf(item.product);
    write(one("strong", line), item.product.title);
    write(one("p", line), `${item.quantity} × ${item.unit_price} ${order.currency}`);
    return line;
  }));
}

const coverOf = ({ cover }) => (/^(\/|https?:)/.test(cover) ? cover : root.dataset.static + (cover || "bitloot/covers/no-cover.svg"));

function renderTimeline(timeline) {
  const list = part("timeline");
  const entries = timeline.filter(({ message }, index) => message !== timeline[index - 1]?.message); // one per key otherwise
  if (list.childElementCount !== entries.length) {
    list.replaceChildren(...entries.toReversed().map(({ at, message }) => {
      const entry = copyOf("event");
      write(one("p", entry), message);
      one("time", entry).dateTime = at;
      return entry;
    }));
  }
  all("time", list).forEach((time) => write(time, `${ago(time.dateTime)}, ${exact(time.dateTime)}`));
}

const exact = (at) => new Date(at).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });

function ago(at) {
  const seconds = Math.min(0, (Date.parse(at) - now()) / 1000);
  const words = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
  for (const [unit, size] of [["day", 86400], ["hour", 3600], ["minute", 60]]) {
    if (-seconds >= size) return words.format(Math.trunc(seconds / size), unit);
  }
  return "just now";
}

function tick() {
  const open = one('[data-panel="pay"]');
  if (!page.order || open.hidden) return undefined;
  const payment = openPayment(page.order);
  if (!payment) return render(); // the quote has just ended
  if (!payment.expires_at) return write(part("countdown"), "until you choose another coin");
  const left = Math.max(0, Math.floor((Date.parse(payment.expires_at) - now()) / 1000));
  return write(part("countdown"), `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")} minutes`);
}

// --- Choosing a coin ---

async function loadCoins() {
  try {
    const { currencies } = await call("/api/payments/currencies");
    page.coins = currencies.length ? currencies : null; // none yet: asked again at the next look
    coinsError(page.coins ? "" : "No coin can be paid with right now. This page looks again in a moment: your order is kept.");
  } catch {
    coinsError("The list of coins did not load. Please try again in a moment.");
  }
}

async function offerCoins() {
  const list = part("coin-list");
  const { amount_due: price } = page.order;
  if (list.dataset.loading || (list.childElementCount && list.dataset.price === price)) return; // minimums count against it
  list.dataset.loading = "yes";
  if (!page.coins) await loadCoins();
  delete list.dataset.loading;
  list.replaceChildren(...(page.coins ?? []).map((coin) => {
    const option = copyOf("coin");
    one("input", option).value = coin.code;
    write(one("strong", option), coin.name);
    const tooSmall = Number(coin.minimum) > Number(price);
    one("input", option).disabled = tooSmall;
    write(one("small", option), `${coin.code.toUpperCase()} · ${coin.network} network${tooSmall ? `, only from ${coin.minimum} ${page.order.currency}` : ""}`);
    return option;
  }));
  list.dataset.price = price;
  show(part("coin-search"), list.childElementCount > 12);
  show(part("too-small"), list.childElementCount > 0 && !one("input:enabled", list));
}

function coinsError(message) {
  write(part("coins-error"), message);
  show(part("coins-error"), Boolean(message));
}

function findCoin({ target }) {
  const wanted = target.value.trim().toLowerCase();
  all(".coin").forEach((coin) => show(coin, coin.textContent.toLowerCase().includes(wanted)));
}

async function startPayment(event) {
  event.preventDefault();
  if (page.asking) return;
  const chosen = new FormData(event.target).get("pay_currency");
  if (!chosen) return;
  busy(part("coins-submit"), true);
  page.asking = true;
  coinsError("");
  try {
    await askFor(chosen);
    page.changing = false;
    page.delay = FASTEST;
  } catch (error) {
    page.rest = null;
    coinsError(error.message && error.status ? error.message : "We got no answer. Please try again: nothing is paid until you send it.");
  }
  page.asking = false;
  busy(part("coins-submit"), false);
  await look();
}

// While the provider takes its time the answer says only "creating"; asking again returns the same payment.
async function askFor(coin, patience = 12) {
  const { amount_due: due, status } = page.order;
  const payment = await call("/api/payments/create", { order_id: orderId, pay_currency: coin });
  if (status !== "underpaid") return undefined; // the order shows it
  page.rest = { due, payment };
  if (payment.status !== "creating") return undefined;
  if (patience === 0) throw new Error("still no address");
  await new Promise((wake) => setTimeout(wake, 5000));
  return askFor(coin, patience - 1);
}

function busy(button, yes) {
  button.setAttribute("aria-busy", String(yes));
  button.disabled = yes;
}

function changeCoin(changing) {
  page.changing = changing;
  render();
  one(changing ? "#coins-title" : "#pay-title").scrollIntoView({ block: "nearest" });
}

// --- Opening a key: fetched sealed, opened here, shown, and forgotten when the page is left ---

function renderKeys(order) {
  const list = part("keys");
  for (const item of order.items) {
    for (let index = 0; index < item.keys_ready; index += 1) {
      const id = `key-${item.id}-${index}`;
      if (document.getElementById(id)) continue;
      const row = copyOf("key");
      const name = item.quantity > 1 ? `${item.product.title}, key ${index + 1} of ${item.quantity}` : item.product.title;
      row.id = id;
      Object.assign(row.dataset, { product: item.product.slug, index });
      write(one(".key-name", row), name);
      one("[data-reveal]", row).setAttribute("aria-label", `Reveal the key: ${name}`);
      list.append(row);
    }
  }
  show(one('[data-panel="keys"]'), list.childElementCount > 0);
}

async function reveal(row) {
  const button = one("[data-reveal]", row);
  keyError(row, "");
  busy(button, true);
  try {
    const { keys } = await call(`/api/fulfillment/${orderId}/reveal`, {});
    const key = keys.filter(({ product }) => product === row.dataset.product)[row.dataset.index];
    if (!key) throw new Refused(409, "This key is being prepared. Please try again in a moment; nothing is lost.");
    showKey(row, key, await open(key));
    show(button, false);
    one(".key-value", row).focus();
  } catch (error) {
    keyError(row, sorry(error));
  }
  busy(button, false);
}

function sorry(error) {
  if (error.status === 429) return "You opened keys very often in a short time. Please wait a little and try again; nothing is lost.";
  if (error.status) return error.message || "The shop could not hand out the key. Please try again; nothing is lost.";
  if (error.name === "OperationError") return "The key could not be opened: what we downloaded is not what was sealed. Please try again; nothing is lost. If it stays like this, answer our mail.";
  return "The key did not download. Please check your connection and try again; nothing is lost.";
}

function keyError(row, message) {
  const node = one(".field-error", row);
  write(node, message);
  show(node, Boolean(message));
}

async function open({ download_url: url, key, nonce, aad }) {
  const response = await fetch(url, { credentials: "omit", referrerPolicy: "no-referrer", cache: "no-store", signal: AbortSignal.timeout(30000) });
  if (!response.ok) throw new Error(`download answered ${response.status}`);
  const sealed = await response.arrayBuffer();
  const secret = await crypto.subtle.importKey("raw", bytes(key), "AES-GCM", false, ["decrypt"]);
  return crypto.subtle.decrypt({ name: "AES-GCM", iv: bytes(nonce), additionalData: bytes(aad), tagLength: 128 }, secret, sealed);
}

const bytes = (base64url) => Uint8Array.from(atob(base64url.replaceAll("-", "+").replaceAll("_", "/")), (char) => char.charCodeAt(0));

function showKey(row, { content_type: type, id }, plain) {
  const place = one(".key-value", row);
  if (type.startsWith("text/")) {
    const code = document.createElement("code");
    code.textContent = new TextDecoder().decode(plain);
    place.replaceChildren(code, copyButton(code, "Copy the key"));
    write(part("say"), "The key is open.");
    return;
  }
  // A picture that could carry a script (SVG, or a type we do not know) is only saved, never shown.
  const shown = PICTURES.includes(type);
  const url = URL.createObjectURL(new Blob([plain], { type: shown ? type : "application/octet-stream" }));
  const save = document.createElement("a");
  Object.assign(save, { href: url, download: `key-${id}.${shown ? type.split("/")[1] : "bin"}`, textContent: "Save the picture" });
  save.setAttribute("role", "button");
  place.replaceChildren(save);
  if (shown) place.prepend(Object.assign(new Image(), { src: url, alt: "Your key as a picture" }));
}

function copyButton(source, label) {
  const button = document.createElement("button");
  Object.assign(button, { type: "button", className: "copy", textContent: "Copy" });
  button.setAttribute("aria-label", label);
  button.addEventListener("click", () => copy(button, source));
  return button;
}

async function copy(button, source) {
  try {
    await navigator.clipboard.writeText(source.textContent);
    write(button, "Copied");
    write(part("say"), "Copied.");
  } catch {
    getSelection().selectAllChildren(source);
    write(button, "Selected: press Ctrl+C");
  }
  setTimeout(() => write(button, "Copy"), 2500);
}

function forgetKeys() {
  all(".key").forEach((row) => {
    all("[href^='blob:']", row).forEach(({ href }) => URL.revokeObjectURL(href));
    one(".key-value", row).replaceChildren();
    show(one("[data-reveal]", row), true);
  });
}

// --- Money that goes back: the customer names the address, a person sends the coins ---

function renderRefunds({ refunds }) {
  const list = part("refunds");
  show(one('[data-panel="refunds"]'), refunds.length > 0);
  if (refunds.length && !page.coins) loadCoins().then(() => page.coins && renderRefunds(page.order));
  for (const refund of refunds) {
    const id = `refund-${refund.id}`;
    if (!document.getElementById(id)) list.append(refundRow(id, refund));
    renderRefund(document.getElementById(id), refund);
  }
}

function refundRow(id, refund) {
  const row = copyOf("refund");
  row.id = id;
  row.dataset.refund = refund.id;
  for (const name of ["address", "memo"]) {
    const input = one(`[data-field="${name}"] input`, row);
    input.id = `${id}-${name}`;
    one(`[data-field="${name}"] label`, row).htmlFor = input.id;
  }
  return row;
}

function renderRefund(row, refund) {
  const short = refund.currency.toUpperCase();
  const coin = page.coins?.find(({ code }) => code === refund.currency);
  const asks = refund.status === "requested" && (!refund.address || row.dataset.editing === "yes");
  write(one("h3", row), `${refund.amount} ${short}`);
  write(one("[data-told]", row), refundSentence(refund, asks));
  write(one('[data-field="address"] label', row), coin ? `Your ${coin.name} address (${short}) on the ${coin.network} network` : `Your ${short} address`);
  for (const [name, text] of [["address", refund.address], ["memo", refund.extra_id], ["transaction", refund.transaction_id]]) {
    write(one(`[data-given="${name}"] code`, row), text);
    show(one(`[data-given="${name}"]`, row), Boolean(text) && !asks);
  }
  const form = one("form", row);
  show(form, asks);
  show(one('[data-field="memo"]', row), refund.takes_memo || refund.needs_memo);
  form.elements.extra_id.required = refund.needs_memo;
  show(one("[data-edit]", row), refund.status === "requested" && !asks);
  show(one("[data-leave]", row), Boolean(refund.address));
}

function refundSentence(refund, asks) {
  if (refund.status === "done") return "This was sent back and has arrived.";
  if (refund.status === "sent") return "This was sent to you. The network may take a while to show it.";
  if (asks) return "We return this to you. Which address should it go to? Copy it from your wallet: coins sent to a wrong address are lost.";
  return "We return this to you. Please check the address; a person sends the coins to it, and then it cannot be changed.";
}

async function giveAddress(event) {
  event.preventDefault();
  const row = event.target.closest("[data-refund]");
  const button = one("[type=submit]", row);
  const { address, extra_id: extraId } = Object.fromEntries(new FormData(event.target));
  refundError(row, "");
  busy(button, true);
  try {
    await call("/api/payments/refund-address", { order_id: orderId, refund: row.dataset.refund, address, extra_id: extraId });
    row.dataset.editing = "";
    write(part("say"), "The address is kept.");
  } catch (error) {
    refundError(row, error.status ? error.message || "This address was not accepted. Please check it." : "We got no answer. Please try again.");
  }
  busy(button, false);
  await look();
}

function refundError(row, message) {
  const node = one(".field-error", row);
  write(node, message);
  show(node, Boolean(message));
}

function editAddress(row, editing) {
  const refund = page.order.refunds.find(({ id }) => id === row.dataset.refund);
  const { address, extra_id: memo } = one("form", row).elements;
  if (editing) [address.value, memo.value] = [refund.address, refund.extra_id];
  row.dataset.editing = editing ? "yes" : "";
  refundError(row, "");
  renderRefund(row, refund);
  (editing ? address : one("[data-edit]", row)).focus();
}

// --- A fresh link ---

async function askForLink(event) {
  event.preventDefault();
  const answer = part("lookup-answer");
  const email = new FormData(event.target).get("email");
  try {
    await call("/api/orders/lookup", { order_id: orderId, email });
    write(answer, "If this order belongs to that address, a fresh link is on its way. Please look into your mail in a minute, and into the spam folder.");
  } catch (error) {
    write(answer, error.status === 429 ? "That was asked very often. Please wait a few minutes and try again." : error.message || "We got no answer. Please try again in a moment.");
  }
}

// --- Start ---

function start() {
  page.token = takeToken();
  page.delay = FASTEST;
  page.seen = "";
  look();
}

part("coins").addEventListener("submit", startPayment);
part("lookup").addEventListener("submit", askForLink);
part("coin-search").addEventListener("input", findCoin);
part("change").addEventListener("click", () => changeCoin(true));
part("keep").addEventListener("click", () => changeCoin(false));
part("keys").addEventListener("click", ({ target }) => target.matches("[data-reveal]") && reveal(target.closest(".key")));
part("refunds").addEventListener("submit", giveAddress);
part("refunds").addEventListener("click", ({ target }) => {
  if (target.matches("[data-edit], [data-leave]")) editAddress(target.closest("[data-refund]"), target.matches("[data-edit]"));
});
all("[data-copy]").forEach((button) => button.addEventListener("click", () => copy(button, part(button.dataset.copy))));
addEventListener("hashchange", () => location.hash && start());
addEventListener("pagehide", forgetKeys);
addEventListener("pageshow", ({ persisted }) => persisted && start());
document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(page.timer) : start()));
setInterval(tick, 1000);
start();
