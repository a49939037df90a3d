// The receipt's page. Like the order's page the HTML is the same for everybody: the token opens the order, and the
// other modules show it. A receipt is read once; nobody waits for it to change.

import { closedStory, keepAccess, offerAccess } from "./access.js";
import { OrderApi, Pace, takeToken } from "./api.js";
import { renderReceipt } from "./facts.js";
import { panel, part, renderHeadline, renderLost, root, show, tellError } from "./render.js";
import { learn, lostStory, word } from "./story.js";

learn(JSON.parse(document.getElementById("words").textContent));

const api = new OrderApi(location.pathname.split("/")[2], { language: document.documentElement.lang });
const page = { opening: false, pace: new Pace(), timer: null };

async function start() {
  if (page.opening) return; // a one-time code is being exchanged: a second exchange would be refused
  clearTimeout(page.timer);
  page.opening = true;
  try {
    api.token = await takeToken(api);
    await open();
  } catch (error) {
    page.pace.failed(error.retryAfter);
    tellError(part("trouble"), word("unreachable"));
    page.timer = setTimeout(start, page.pace.delay);
  }
  page.opening = false;
}

async function open() {
  if (!api.token) return renderLost(closedStory());
  try {
    return showReceipt(await api.order());
  } catch (error) {
    if (![401, 404, 410].includes(error.status)) throw error;
    return renderLost(lostStory(error.status, error.message));
  }
}

function showReceipt(order) {
  tellError(part("trouble"), "");
  const hadFocus = panel("lookup").contains(document.activeElement); // it goes away with the form
  show(panel("lookup"), false);
  renderReceipt(order);
  renderHeadline({ headline: word("receipt"), lead: word("receipt_lead") });
  document.title = `${word("receipt")} ${order.id.slice(0, 8)}: ${root().dataset.store}`; // what a PDF is called
  show(part("body"), true);
  if (hadFocus) part("headline").focus();
}

offerAccess(api, open);
keepAccess(api);
part("print").addEventListener("click", () => print());
addEventListener("hashchange", () => location.hash && start());
addEventListener("pageshow", ({ persisted }) => persisted && start());
start();
