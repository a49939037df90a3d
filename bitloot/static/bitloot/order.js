// The order's page. The HTML is the same for everybody: this script takes the token from the link, asks the API for
// the order, again and again while something can still change, and has the other modules show it.

import { closedStory, keepAccess, offerAccess } from "./access.js";
import { keepToken, OrderApi, Pace, takeToken } from "./api.js";
import { renderFacts } from "./facts.js";
import { copy, copyAll, forgetKeys, renderKeys, reveal, revealAll } from "./keys.js";
import { copyRow, renderCountdown, renderPay, searchCoins } from "./pay.js";
import {
  all, attempt, busy, isBusy, one, panel, part, refusalOf, renderLost, renderOrder, renderRefund, say, show, tellError,
  write,
} from "./render.js";
import { isSettled, learn, lostStory, openPayment, tell, word } from "./story.js";

const ADDRESS_TRIES = 12;
const ADDRESS_PAUSE = 5000;
const COINS_FRESH = 600_000; // prices and minimums: as long as the shop itself keeps them
learn(JSON.parse(document.getElementById("words").textContent));

const { lang: language } = document.documentElement;
const api = new OrderApi(location.pathname.split("/")[2], { language });
const page = {
  order: null,
  coins: null,
  coinsAt: 0, // when they came, by this computer's clock
  rest: null, // the quote for what is missing: the order may still show the payment that was too small
  changing: false, // the customer asked for another coin while a payment is open
  loadingCoins: false,
  askedAt: null, // since when an address is awaited
  pace: new Pace(),
  taking: false, // the token is being taken from the link
  timer: null,
  turn: 0,
};

// --- Reading the order ---

async function start() {
  if (page.taking) return; // a one-time code is being exchanged: a second exchange would be refused
  clearTimeout(page.timer);
  page.taking = true;
  try {
    api.token = await takeToken(api);
  } catch (error) {
    page.pace.failed(error.retryAfter);
    tellError(part("trouble"), word("unreachable"));
    page.timer = setTimeout(start, page.pace.delay);
    return;
  } finally {
    page.taking = false;
  }
  api.forget();
  page.pace.moved();
  look();
}

async function look() {
  clearTimeout(page.timer);
  if (!api.token) return lose(closedStory());
  const turn = (page.turn += 1); // a newer look makes this one's answer old
  try {
    const order = await api.order({ withCoins: !page.order });
    if (turn !== page.turn) return undefined;
    tellError(part("trouble"), "");
    update(order);
    if (isSettled(page.order)) return undefined;
  } catch (error) {
    if (turn !== page.turn) return undefined;
    if ([401, 404, 410].includes(error.status)) return lose(lostStory(error.status, error.message));
    page.pace.failed(error.retryAfter);
    tellError(part("trouble"), word("unreachable"));
  }
  if (!document.hidden) page.timer = setTimeout(look, page.pace.delay);
  return undefined;
}

function lose(story) {
  page.order = null; // or the end of its quote would show it again
  api.forget();
  renderLost(story);
}

function update(order) {
  if (order === page.order) page.pace.unchanged();
  else page.pace.moved();
  page.order = order;
  if (!page.coins && order.coins) offer(order.coins);
  render(); // also if nothing changed: some words grow with the time
}

const view = () => ({ now: api.now(), rest: page.rest, askedAt: page.askedAt });

function render() {
  const open = openPayment(page.order, view());
  if (open?.status !== "waiting") page.changing = false;
  page.askedAt = open?.status === "creating" ? (page.askedAt ?? api.now()) : null;
  const told = tell(page.order, view());
  // Each before its panel is shown, or it would be seen empty.
  renderKeys(page.order);
  renderFacts(page.order, api.now());
  renderPay(page, told, open, api.now());
  renderOrder(page, told, api.now());
  if (!areFresh(page) && (told.panel || page.order.refunds.length)) loadCoins();
}

const areFresh = ({ coins, coinsAt }) => coins && Date.now() - coinsAt < COINS_FRESH;

function tick() {
  if (!page.order || panel("pay").hidden) return;
  const open = openPayment(page.order, view());
  if (open) renderCountdown(open, api.now());
  else render(); // the quote has just ended
}

// --- Choosing a coin ---

async function loadCoins() {
  if (page.loadingCoins) return;
  page.loadingCoins = true;
  try {
    const { currencies } = await api.get("/api/payments/currencies");
    offer(currencies);
  } catch {
    // Old prices are better than none.
    if (!page.coins) tellError(part("coins-error"), word("coins_unread"));
  }
  page.loadingCoins = false;
  if (areFresh(page) && page.order) render(); // otherwise the next look asks again
}

function offer(coins) {
  const hadNone = !page.coins;
  page.coins = coins.length ? coins : null;
  page.coinsAt = Date.now();
  if (hadNone || !page.coins) tellError(part("coins-error"), page.coins ? "" : word("no_coins"));
}

async function startPayment({ target }) {
  const tile = target.closest("[data-pay]");
  if (!tile || all("[data-pay]").some(isBusy)) return;
  busy(tile, true);
  tellError(part("coins-error"), "");
  let refusal = "";
  try {
    await askFor(tile.value);
    page.changing = false;
  } catch (error) {
    page.rest = null;
    refusal = error.status ? refusalOf(error) : `${word("no_answer")} ${word("nothing_paid")}`;
  }
  page.askedAt = null;
  busy(tile, false);
  page.pace.moved();
  await look();
  tellError(part("coins-error"), refusal);
}

// While the provider takes its time the answer says only "creating"; asking again returns the same payment.
async function askFor(coin, tries = ADDRESS_TRIES) {
  const { amount_due: due, status } = page.order;
  const payment = await api.post("/api/payments/create", { order_id: api.orderId, pay_currency: coin });
  if (status !== "underpaid") return undefined; // the order shows it
  page.rest = { due, payment };
  if (payment.status !== "creating") return undefined;
  if (tries === 0) throw new Error("still no address");
  await new Promise((wake) => setTimeout(wake, ADDRESS_PAUSE));
  return askFor(coin, tries - 1);
}

async function askForSurplus({ currentTarget: button }) {
  const ask = () => api.post("/api/payments/refund-surplus", { order_id: api.orderId });
  if (!(await attempt(button, part("surplus-error"), ask))) return;
  await look();
  if (part("surplus").hidden) part("headline").focus();
}

function changeCoin(changing) {
  page.changing = changing;
  render();
}

// --- Where the money goes back to ---

async function giveAddress(event) {
  event.preventDefault();
  const row = event.target.closest("[data-refund]");
  const { address, extra_id: memo } = Object.fromEntries(new FormData(event.target));
  const asked = { order_id: api.orderId, refund: row.dataset.refund, address, extra_id: memo };
  const hasAsked = await attempt(one("[type=submit]", row), one(".field-error", row), async () => {
    await api.post("/api/payments/refund-address", asked);
    row.dataset.editing = "";
    say(word("address_saved"));
  });
  if (hasAsked) await look();
  if (one("form", row).hidden) one("[data-edit]", row).focus(); // the form has gone away, and the focus with it
}

function editAddress(row, isEditing) {
  const refund = page.order.refunds.find(({ id }) => id === row.dataset.refund);
  const { address, extra_id: memo } = one("form", row).elements;
  if (isEditing) [address.value, memo.value] = [refund.address, refund.extra_id];
  row.dataset.editing = isEditing ? "yes" : "";
  tellError(one(".field-error", row), "");
  renderRefund(row, refund, page.coins);
  (isEditing ? address : one("[data-edit]", row)).focus();
}

async function askForMoneyBack({ currentTarget: button }) {
  // A question that no program answers: some mail scanners press every button of a page that a mail links to.
  if (isBusy(button) || !confirm(word("money_back_question"))) return;
  await attempt(button, part("money-back-error"), async () => {
    await api.post(`/api/fulfillment/${api.orderId}/money-back`, {});
    part("headline").focus(); // the button goes away
  });
  await look();
}

// --- A mistyped address ---

function editEmail(isEditing) {
  const form = part("address-form");
  show(form, isEditing);
  tellError(part("address-error"), "");
  if (isEditing) form.elements.email.value = page.order.email;
  (isEditing ? form.elements.email : part("wrong-address")).focus();
}

async function changeEmail(event) {
  event.preventDefault();
  const asked = { order_id: api.orderId, email: new FormData(event.target).get("email") };
  const hasAsked = await attempt(one("[type=submit]", event.target), part("address-error"), async () => {
    const { access_token: token } = await api.post("/api/orders/email", asked);
    api.token = token;
    keepToken(api.orderId, token);
    editEmail(false);
    say(word("email_changed"));
  });
  if (hasAsked) await look();
}

// --- Closing other links ---

async function closeOtherLinks({ currentTarget: button }) {
  const answer = part("close-answer");
  if (isBusy(button) || !confirm(word("close_question"))) return;
  busy(button, true);
  try {
    const { access_token: token } = await api.post("/api/orders/close-links", { order_id: api.orderId });
    api.token = token;
    keepToken(api.orderId, token);
    write(answer, word("links_closed"));
  } catch (error) {
    write(answer, refusalOf(error));
  }
  busy(button, false);
  await look(); // a look that was under way went out with the token that has just ended
}

// --- Start ---

offerAccess(api, look);
keepAccess(api);
part("coin-list").addEventListener("click", startPayment);
part("close-links").addEventListener("click", closeOtherLinks);
part("coin-search").addEventListener("input", ({ target }) => {
  searchCoins(page, target.value);
  tellError(part("coins-error"), "");
});
part("surplus-back").addEventListener("click", askForSurplus);
all("[data-copy-row]").forEach((row) => row.addEventListener("click", () => copyRow(row)));
part("change").addEventListener("click", () => changeCoin(true));
part("keep").addEventListener("click", () => changeCoin(false));
part("keys").addEventListener("click", ({ target }) => {
  if (target.matches("[data-reveal]")) reveal(target, api).then(look); // the order says when a key was opened
});
part("reveal-all").addEventListener("click", ({ target }) => revealAll(target, api).then(look));
part("copy-all").addEventListener("click", ({ target }) => copyAll(target));
part("money-back-button").addEventListener("click", askForMoneyBack);
part("wrong-address").addEventListener("click", () => editEmail(true));
part("address-leave").addEventListener("click", () => editEmail(false));
part("address-form").addEventListener("submit", changeEmail);
part("refunds").addEventListener("submit", giveAddress);
part("refunds").addEventListener("click", ({ target }) => {
  const row = target.closest("[data-refund]");
  if (target.matches("[data-edit]")) editAddress(row, true);
  if (target.matches("[data-leave]")) editAddress(row, false);
});
all("[data-copy]").forEach((button) => {
  button.addEventListener("click", () => copy(button, part(button.dataset.copy)));
});
addEventListener("hashchange", () => location.hash && start());
addEventListener("online", start); // or it would wait for up to a minute
addEventListener("pagehide", forgetKeys);
addEventListener("pageshow", ({ persisted }) => persisted && start());
document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(page.timer) : start()));
setInterval(tick, 1000);
start();
