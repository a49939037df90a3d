// What opens an order, shared by its page and its receipt: the form that asks for a new link, and the way of the token
// where the browser keeps nothing.

import { keepToken } from "./api.js";
import { all, attempt, busy, isBusy, part, refusalOf, show, write } from "./render.js";
import { lostStory, word } from "./story.js";

const ASK_FOR = { link: ["/api/orders/lookup", "link_coming"], code: ["/api/orders/code", "code_coming"] };

/** Listen to the forms of a page that a link did not open; `opened` is called once a code did. */
export function offerAccess(api, opened) {
  part("lookup").addEventListener("submit", (event) => askForAccess(event, api));
  part("code").addEventListener("submit", (event) => typeCode(event, api, opened));
}

/** What a page without a token says. The mail with the code leads to #code, where it is typed. */
export function closedStory() {
  if (location.hash !== "#code") return lostStory(401);
  show(part("code"), true);
  return { headline: word("enter_code"), lead: word("enter_code_lead") };
}

/** Have links to the order's other page, and to this one in another language, bring the token along. */
export function keepAccess(api) {
  for (const link of all("[data-language]", document)) {
    link.addEventListener("click", () => changeLanguage(link, api));
  }
  const way = part("way");
  way.href = way.dataset.way.replace("ID", api.orderId);
  way.addEventListener("click", () => bringToken(way));
}

async function askForAccess(event, api) {
  event.preventDefault();
  const [answer, button] = [part("lookup-answer"), event.submitter];
  if (all("button", event.target).some(isBusy)) return; // a second mail would end what the first one brings
  busy(button, true);
  const email = new FormData(event.target).get("email");
  const wanted = button.value === "code" ? "code" : "link";
  const [path, coming] = ASK_FOR[wanted];
  try {
    await api.post(path, { order_id: api.orderId, email });
    write(answer, word(coming));
    if (wanted === "code") show(part("code"), true);
  } catch (error) {
    write(answer, error.status === 429 ? word("asked_too_often") : refusalOf(error));
  }
  busy(button, false);
}

async function typeCode(event, api, opened) {
  event.preventDefault();
  const { target: form, submitter: button } = event;
  await attempt(button, part("code-error"), async () => {
    api.token = await api.redeem(new FormData(form).get("code"));
    keepToken(api.orderId, api.token);
    form.reset();
    api.forget();
    await opened();
  });
}

// The page comes anew in the other language; the order's mails shall follow.
function changeLanguage(link, api) {
  bringToken(link);
  if (api.token) api.chooseLanguage(link.lang).catch(() => {}); // then they stay as they are: no reason to stay here
}

function bringToken(link) {
  link.hash = location.hash; // where the browser keeps nothing, the token stands in the address
}
