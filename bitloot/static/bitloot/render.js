// Puts an order and its story on the page. Text goes in as textContent, never as HTML.

import { STEPS, exact, refundSentence, word } from "./story.js";

export const root = () => document.getElementById("order");
export const one = (selector, within = root()) => within.querySelector(selector);
export const all = (selector, within = root()) => [...within.querySelectorAll(selector)];
export const part = (name) => one(`[data-${name}]`);
export const panel = (name) => one(`[data-panel="${name}"]`);
export const copyOf = (name) => one(`[data-template="${name}"]`).content.firstElementChild.cloneNode(true);

// Writing only what changed keeps screen readers quiet and the customer's selection alive.
export function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function show(node, visible) {
  node.hidden = !visible;
}

/** Show an error in its place, which is hidden while there is none, and mark the field it belongs to. */
export function tellError(node, message) {
  write(node, message);
  show(node, Boolean(message));
  const named = node.id ? all(`[aria-describedby~="${node.id}"]`) : [];
  const fields = named.filter((field) => !field.closest("[hidden]"));
  // Of two, an address and its memo, nobody knows here which one was meant.
  if (fields.length === 1) fields[0].setAttribute("aria-invalid", String(Boolean(message)));
}

// Not `disabled`: a disabled button loses the focus, and a keyboard would start at the top of the page again.
export function busy(button, yes) {
  button.setAttribute("aria-busy", String(yes));
}

export const isBusy = (button) => button.getAttribute("aria-busy") === "true";

export const refusalOf = (error) => (error.status && error.message) || word("no_answer");

/** Ask for something once, however often its button is pressed; return whether this press asked. */
export async function attempt(button, place, ask) {
  if (isBusy(button)) return false;
  busy(button, true);
  tellError(place, "");
  try {
    await ask();
  } catch (error) {
    tellError(place, refusalOf(error));
  }
  busy(button, false);
  return true;
}

export function say(text) {
  const place = part("say");
  // The same words once more would be no change, and nobody would hear that the second thing was copied, too.
  place.textContent = place.textContent === text ? `${text}\u00a0` : text;
}

// --- The whole page ---

export function renderHeadline({ tone = "", headline, lead }) {
  const { dataset } = one(".state");
  dataset.tone = tone;
  part("stuck")?.remove();
  if (part("headline").textContent !== headline) {
    write(part("headline"), headline);
    say(`${headline}. ${lead}`);
    document.title = `${headline}: ${root().dataset.store}`;
  }
  write(part("lead"), lead);
}

export function renderLost(story) {
  renderHeadline(story);
  tellError(part("trouble"), "");
  for (const node of all("[data-steps], [data-body]")) show(node, false); // a receipt has no steps
  show(panel("lookup"), true);
}

/** Show the order. `page` is what the entry script knows; `told` is its story. */
export function renderOrder(page, told, now) {
  const { order } = page;
  const shown = page.changing ? "coins" : told.panel;
  renderHeadline(told);
  write(part("short"), order.id.slice(0, 8)); // enough for staff and for “Find my order”; the receipt has all of it
  show(part("number"), true);
  renderSteps(told);
  renderWaiting(told);
  renderAgain(told.again);
  show(part("body"), true);
  renderRefunds(page);
  showPanels({ lookup: false, coins: shown === "coins", pay: shown === "pay" });
  show(part("keep"), page.changing); // after the panels: it may have the focus that moves with them
}

// A panel that goes away takes the focus with it: it moves on to what is shown instead.
function showPanels(visible) {
  const hadFocus = Object.entries(visible).some(([name, yes]) => !yes && panel(name).contains(document.activeElement));
  for (const [name, yes] of Object.entries(visible)) show(panel(name), yes);
  if (!hadFocus) return;
  const heading = Object.keys(visible).find((name) => visible[name]);
  (heading ? one("h2", panel(heading)) : part("headline")).focus();
}

function renderSteps({ step, tone }) {
  const list = part("steps");
  show(list, step !== null);
  list.dataset.tone = tone;
  all("li", list).forEach((item, index) => {
    item.dataset.step = index < step ? "done" : "";
    if (index === step) item.dataset.step = "now";
    if (index === step) item.setAttribute("aria-current", "step");
    else item.removeAttribute("aria-current");
  });
  // Once the key is there, no step is left: the last one is the current place.
  if (step === STEPS.done) list.lastElementChild.setAttribute("aria-current", "step");
}

function renderWaiting({ expectedBy, canHaveMoneyBack }) {
  show(part("expected"), Boolean(expectedBy));
  if (expectedBy) write(part("expected"), word("expected", { time: exact(expectedBy) }));
  show(part("money-back"), canHaveMoneyBack);
}

function renderAgain(slug) {
  const link = part("again");
  show(link, Boolean(slug));
  if (slug) link.href = `/products/${encodeURIComponent(slug)}`;
}

// --- Covers ---

export function coverOf({ cover }) {
  if (/^(\/|https?:)/.test(cover)) return cover;
  return root().dataset.static + (cover || "bitloot/covers/no-cover.svg");
}

// --- Money that goes back: the customer names the address, staff send the coins ---

function renderRefunds({ order, coins }) {
  const list = part("refunds");
  show(panel("refunds"), order.refunds.length > 0);
  for (const refund of order.refunds) {
    const id = `refund-${refund.id}`;
    if (!document.getElementById(id)) list.append(refundRow(id, refund));
    renderRefund(document.getElementById(id), refund, coins);
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
    input.setAttribute("aria-describedby", `${id}-error`);
  }
  one(".field-error", row).id = `${id}-error`;
  return row;
}

export function renderRefund(row, refund, coins) {
  const asks = refund.status === "requested" && (!refund.address || row.dataset.editing === "yes");
  write(one("h3", row), `${refund.amount} ${refund.currency.toUpperCase()}`);
  write(one("[data-told]", row), refundSentence(refund, asks));
  write(one('[data-field="address"] label', row), addressLabel(refund, coins));
  for (const [name, field] of [["address", "address"], ["memo", "extra_id"], ["transaction", "transaction_id"]]) {
    write(one(`[data-given="${name}"] code`, row), refund[field]);
    show(one(`[data-given="${name}"]`, row), Boolean(refund[field]) && !asks);
  }
  renderTransaction(one('[data-given="transaction"] a', row), refund);
  const form = one("form", row);
  show(form, asks);
  show(one('[data-field="memo"]', row), refund.takes_memo || refund.needs_memo);
  form.elements.extra_id.required = refund.needs_memo;
  show(one("[data-edit]", row), refund.status === "requested" && !asks);
  show(one("[data-leave]", row), Boolean(refund.address));
}

// Without an explorer that knows it, the link is text.
function renderTransaction(link, { transaction_url: url }) {
  if (url) link.href = url;
  else link.removeAttribute("href");
}

function addressLabel({ currency }, coins) {
  const coin = coins?.find(({ code }) => code === currency);
  if (!coin) return word("refund_to_ticker", { ticker: currency.toUpperCase() });
  return word("refund_to_coin", { coin: coinOnNetwork(coin) });
}

/** Name a coin with its network, once where both are called the same. */
export function coinOnNetwork({ name, network_name: network }) {
  return !network || name === network ? name : word("on_network", { coin: name, network });
}
