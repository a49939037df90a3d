// On every staff page: "/" leads to the finder, the button beside an id copies all of it, an open filter closes, a
// double click sends a form once, and what was typed into one outlives the end of a session.

const finder = document.getElementById("finder");

function isTyping(element) {
  return element instanceof HTMLElement && (element.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(element.tagName));
}

document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || isTyping(document.activeElement)) return;
  if (!finder) return;
  event.preventDefault();
  finder.focus();
  finder.select();
});

// To screen readers, which do not read the word that the style sheet puts on the button.
function say(text) {
  const place = document.querySelector("[data-say]"); // a pop-up window has none
  if (place) place.textContent = text;
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  event.preventDefault();
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    button.dataset.copied = "";
    say("Copied.");
    setTimeout(() => {
      delete button.dataset.copied;
      say(""); // or the same words once more would be no news
    }, 1500);
  } catch {
    // Without permission, or over plain HTTP: what stands beside the button is selected, to be copied by hand.
    document.getSelection().selectAllChildren(button.previousElementSibling);
    say("Not copied. It is selected: copy it by hand.");
  }
});

const filters = () => document.querySelectorAll("#changelist-filter details[open]");

document.addEventListener("click", (event) => {
  for (const filter of filters()) if (!filter.contains(event.target)) filter.open = false;
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const filter of filters()) {
    filter.open = false;
    filter.querySelector("summary").focus();
  }
});

const DOUBLE_CLICK = 1000;
const TYPED = "bitloot-admin-typed";
const lastSent = new WeakMap();

document.addEventListener("submit", (event) => {
  const { target: form, timeStamp } = event;
  if (timeStamp - (lastSent.get(form) ?? -DOUBLE_CLICK) < DOUBLE_CLICK) {
    event.preventDefault();
    return;
  }
  lastSent.set(form, timeStamp);
  const typed = fieldsOf(form).map(({ name, value }) => [name, value]);
  if (typed.length) sessionStorage.setItem(TYPED, JSON.stringify({ page: location.pathname, typed }));
});

// Neither passwords and codes, whose fields are never completed, nor what the page itself wrote.
const TEXTS =
  "textarea:not([autocomplete=off]), input:is([type=text], [type=email], [type=url], [type=number]):not([autocomplete^=one-time])";

function fieldsOf(form) {
  const isOurs = form.method === "post" && form.id !== "login-form" && form.closest("#content-main");
  return isOurs ? [...form.querySelectorAll(TEXTS)].filter(({ name }) => name) : [];
}

// The form was answered with the sign-in page, or refused because it was older than the session. What came back from
// the server, with its mistakes or its outcome, needs no help, and any other page means that it was left.
function bringBack() {
  const kept = JSON.parse(sessionStorage.getItem(TYPED) ?? "null");
  if (!kept || document.getElementById("login-form")) return;
  if (kept.page !== location.pathname || document.querySelector(".errornote, .errorlist, .messagelist")) {
    sessionStorage.removeItem(TYPED);
    return;
  }
  const fields = [...document.querySelectorAll("#content-main form")].flatMap(fieldsOf);
  const found = fields.filter(({ name }) => kept.typed.some(([known]) => known === name));
  for (const field of found) field.value = kept.typed.find(([known]) => known === field.name)[1];
  if (!found.length) return;
  const note = document.createElement("p");
  note.className = "concern";
  note.setAttribute("role", "status");
  note.textContent = "What you typed here before is filled in again. Look at the page, then send it.";
  found[0].form.before(note);
}

bringBack();
