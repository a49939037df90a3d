// What was ordered, what happened, and the receipt.

import { all, coverOf, copyOf, one, part, show, write } from "./render.js";
import { ago, days, hour, isRest, money, receipt, word } from "./story.js";

export function renderFacts(order, now) {
  renderSummary(order);
  renderHistory(order.timeline, now);
  renderReceipt(order);
}

function renderSummary(order) {
  write(part("total"), money(order.total, order.currency));
  writeEmail(part("email"), order.email);
  show(part("paid-only"), Number(order.payment?.actually_paid) > 0);
  show(part("wrong-address"), order.can_change_email);
  if (!order.can_change_email) show(part("address-form"), false);
  write(part("due"), money(order.amount_due, order.currency));
  all("[data-rest-only]").forEach((node) => show(node, isRest(order)));
  if (part("items").childElementCount) return; // an order's items never change
  part("items").append(...order.items.map((item) => itemLine(item, order.currency)));
}

// An address that is too long for its line breaks behind the @, not anywhere.
function writeEmail(node, email) {
  if (node.textContent === email) return;
  const host = email.lastIndexOf("@") + 1;
  node.replaceChildren(email.slice(0, host), document.createElement("wbr"), email.slice(host));
}

function itemLine({ product, quantity, unit_price: price }, currency) {
  const line = copyOf("item");
  one("img", line).src = coverOf(product);
  write(one("strong", line), product.title);
  write(one("p", line), `${quantity} × ${money(price, currency)}`);
  return line;
}

function renderHistory(timeline, now) {
  const list = part("timeline");
  const found = days(timeline);
  const count = found.reduce((sum, { lines }) => sum + lines.length, 0);
  write(part("history-count"), word("entries", { number: count }, count));
  if (list.dataset.count !== String(count)) list.replaceChildren(...found.map(dayOf));
  list.dataset.count = String(count);
  all("time", list).forEach((time) => {
    write(time, `${hour(time.dateTime)}, ${ago(time.dateTime, now)}`);
  });
}

function dayOf({ day, lines }) {
  const entry = copyOf("day");
  write(one("h3", entry), day);
  one("ol", entry).append(...lines.map(historyLine));
  return entry;
}

function historyLine({ at, message }) {
  const entry = copyOf("event");
  write(one("p", entry), message);
  one("time", entry).dateTime = at;
  return entry;
}

export function renderReceipt(order) {
  const parts = receipt(order);
  const place = part("receipt");
  const wanted = JSON.stringify(parts);
  if (place.dataset.shown === wanted) return; // somebody may be selecting it
  place.dataset.shown = wanted;
  place.replaceChildren(...parts.map(receiptPart));
}

function receiptPart(lines) {
  const list = document.createElement("dl");
  list.append(...lines.map(receiptLine));
  return list;
}

function receiptLine({ name, value, link, isTotal }) {
  const line = copyOf("receipt-line");
  line.classList.toggle("receipt-total", Boolean(isTotal));
  write(one("dt", line), name);
  const place = one("dd", line);
  if (!link) write(place, value);
  else place.append(Object.assign(document.createElement("a"), { href: link, rel: "noreferrer", textContent: value }));
  return line;
}
