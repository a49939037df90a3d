// Choosing a coin and paying: the tiles, the amount and the address.

import { copy } from "./keys.js";
import { all, coinOnNetwork, copyOf, one, part, show, write } from "./render.js";
import { isGone, isRest, money, rough, word } from "./story.js";

const FIRST_SHOWN = 6; // coins; the API lists the most used ones first
const MOST_FOUND = 24;
const UNSETTLED = ["pending", "underpaid", "held"];

// --- Words and numbers ---

/** About how much the price is in this coin, or "" if nobody knows. */
export function priceIn(coin, price) {
  const amount = Number(coin.rate) * Number(price);
  if (!(amount > 0)) return "";
  return word("about", { amount: `${rough(amount)} ${coin.ticker}` });
}

/** What a coin's tile says under its name; `tooSmall` if the price is below the provider's minimum for the coin. */
export function coinOffer(coin, price, currency) {
  const tooSmall = Number(coin.minimum) > Number(price);
  const time = coin.usual_minutes ? word("usual_minutes", { minutes: coin.usual_minutes }) : "";
  // Some names say the network already: "Tether USD (Tron)".
  const isNamed = coin.name.includes(coin.network_name.replace(/ \(.*/, ""));
  return {
    tooSmall,
    price: tooSmall ? word("only_from", { minimum: money(coin.minimum, currency) }) : priceIn(coin, price),
    facts: [isNamed ? "" : coin.network_name, time].filter(Boolean).join(" · "),
  };
}

/** True if every word of the search occurs, in any order. */
export function matches(text, search) {
  const found = text.toLowerCase();
  return search.toLowerCase().split(/\s+/).every((word) => found.includes(word));
}

/** The coins to show, and the sentence below the search. */
export function coinsToShow(coins, search) {
  const wanted = search.trim();
  if (!wanted) return { shown: coins.slice(0, FIRST_SHOWN), note: word("all_coins", { number: coins.length }) };
  const names = ({ name, ticker, code, network_name: network }) => `${name} ${ticker} ${code} ${network}`;
  const found = coins.filter((coin) => matches(names(coin), wanted));
  if (!found.length) return { shown: [], note: word("no_coin_found") };
  const shown = found.slice(0, MOST_FOUND);
  const note = word("coins_found", { number: found.length }, found.length);
  return { shown, note: found.length > shown.length ? `${note} ${word("type_more")}` : note };
}

/** An address in groups of four, for people who compare it with what their wallet shows. */
export const groups = (address) => address.match(/.{1,4}/gu) ?? [];

export function timeLeft(payment, now) {
  if (!payment.expires_at) return { part: 1, words: word("no_time_limit") };
  const end = Date.parse(payment.expires_at);
  const left = Math.max(0, end - now);
  const seconds = Math.floor(left / 1000);
  const time = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
  const rest = Math.min(1, left / Math.max(1, end - Date.parse(payment.created_at)));
  return { part: rest, words: word("time_left", { time }) };
}

// --- On the page ---

/** Fill the panels that this order needs; which of them is shown is the page's matter. */
export function renderPay(page, told, open, now) {
  const { order, coins } = page;
  renderSurplus(order);
  renderExtra(order);
  if (open?.status === "waiting") renderPayment(order, open, coins, now);
  if (told.panel === "coins" || page.changing) renderCoins(page);
}

function renderPayment(order, payment, coins, now) {
  const coin = coins?.find(({ code }) => code === payment.pay_currency);
  write(part("amount"), payment.pay_amount);
  write(part("coin"), coin?.ticker ?? payment.pay_currency.toUpperCase());
  write(part("price"), money(payment.price_amount, payment.price_currency));
  write(one("#pay-title"), word(isRest(order) ? "send_rest" : "send_payment"));
  const network = payment.network_name;
  write(part("network"), coin ? coinOnNetwork({ ...coin, network_name: network || coin.network_name }) : network);
  renderAddress(payment.pay_address);
  write(part("memo"), payment.payin_extra_id ?? "");
  all("[data-memo-only]").forEach((node) => show(node, Boolean(payment.payin_extra_id)));
  renderCode(payment);
  renderCountdown(payment, now);
}

function renderAddress(address) {
  const place = part("address");
  if (place.textContent === address) return; // somebody may be selecting it
  const pieces = groups(address).map((text) => Object.assign(document.createElement("span"), { textContent: text }));
  place.replaceChildren(...pieces);
}

function renderCode({ qr, qr_note: note, uri }) {
  show(one(".qr"), Boolean(qr));
  if (qr && part("qr").src !== qr) part("qr").src = qr;
  write(part("qr-note"), note ?? "");
  show(part("wallet"), Boolean(uri));
  if (uri) part("wallet").href = uri;
}

export function renderCountdown(payment, now) {
  const { part: left, words } = timeLeft(payment, now);
  one("progress", part("clock")).value = left;
  write(part("countdown"), words);
}

function renderCoins(page) {
  const list = part("coin-list");
  const { amount_due: price, currency } = page.order;
  // Minimums are compared with the price; what the customer searches for stays.
  const offered = `${price} at ${page.coinsAt}`;
  if (!page.coins || list.dataset.offered === offered) return;
  list.dataset.offered = offered;
  show(part("too-small"), page.coins.every((coin) => coinOffer(coin, price, currency).tooSmall));
  show(part("coin-more"), page.coins.length > FIRST_SHOWN);
  searchCoins(page, part("coin-search").value);
}

export function searchCoins({ coins, order }, search) {
  if (!coins) return;
  const { shown, note } = coinsToShow(coins, search);
  showTiles(shown, order);
  write(part("coin-note"), note);
}

// Newer prices go into the tiles that are there: the keyboard may stand on one, or its address be asked for.
function showTiles(coins, order) {
  const list = part("coin-list");
  const known = new Map(all("[data-pay]", list).map((tile) => [tile.value, tile]));
  const focused = list.contains(document.activeElement) ? document.activeElement : null;
  const tiles = coins.map((coin) => fillTile(known.get(coin.code) ?? copyOf("coin"), coin, order));
  list.replaceChildren(...tiles);
  if (focused) (tiles.includes(focused) && !focused.disabled ? focused : one("#coins-title")).focus();
}

function fillTile(tile, coin, { amount_due: price, currency }) {
  const offer = coinOffer(coin, price, currency);
  tile.value = coin.code;
  tile.disabled = offer.tooSmall;
  tile.dataset.ticker = coin.ticker;
  write(one(".coin-mark", tile), coin.ticker.slice(0, 4));
  write(one("strong", tile), coin.name);
  write(one(".coin-price", tile), offer.price);
  write(one(".coin-facts", tile), offer.facts);
  return tile;
}

function renderSurplus({ payment }) {
  const surplus = payment?.surplus;
  show(part("surplus"), Boolean(surplus));
  if (surplus) write(part("surplus-amount"), `${surplus} ${payment.pay_currency.toUpperCase()}`);
}

// What came beside the payment, and a way to us while money is in question or a key is gone.
function renderExtra(order) {
  const { payment, extra_payment: extra } = order;
  show(part("extra"), Boolean(extra));
  write(part("extra-headline"), extra?.headline ?? "");
  write(part("extra-coins"), extra ? `${extra.coins}.` : "");
  write(part("extra-reason"), extra?.reason ?? "");
  const isReturned = payment?.status === "refunded" && UNSETTLED.includes(order.status);
  const mayWrite = order.status === "expired" || payment?.status === "review" || isReturned || isGone(order);
  all("[data-write]").forEach((node) => show(node, mayWrite));
}

/** Copy what a whole row shows: the row is the button. */
export function copyRow(row) {
  return copy(one(".copy-word", row), part(row.dataset.copyRow));
}
