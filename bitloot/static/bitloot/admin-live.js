// Keeps the marked parts of a staff page fresh: fetches the same address and swaps what changed. It pauses while the
// tab is hidden, while somebody works in such a part (focus, ticked rows, selected text), and when it is paused.

const EVERY = 5000;
const SLOWEST = 60000;
const PAUSED = "bitloot-admin-paused";

const bar = document.querySelector("[data-live-bar]");
const button = bar.querySelector("[data-live-pause]");
const note = bar.querySelector("[data-live-note]");
const parts = (page) => [...page.querySelectorAll("[data-live]")];
const lastSeen = new Map(parts(document).map((part) => [part.id, null]));
const live = { timer: null, delay: EVERY, paused: sessionStorage.getItem(PAUSED) === "1", asking: false };

function say(text) {
  if (note.textContent !== text) note.textContent = text;
}

function schedule(delay = live.delay) {
  clearTimeout(live.timer);
  if (!live.paused && !document.hidden) live.timer = setTimeout(refresh, delay);
}

function isInUse(part) {
  const selection = document.getSelection();
  const selected = selection && !selection.isCollapsed && part.contains(selection.anchorNode);
  return selected || part.contains(document.activeElement) || part.querySelector(".action-select:checked") !== null;
}

// Not fetch: this one hands over a document, and where Trusted Types are demanded no text may be made into one.
function load() {
  return new Promise((resolve, reject) => {
    const call = new XMLHttpRequest();
    call.open("GET", location.href);
    call.responseType = "document";
    call.setRequestHeader("X-Live", "1");
    call.addEventListener("load", () => resolve(call));
    call.addEventListener("error", () => reject(new Error("no answer")));
    call.send();
  });
}

async function refresh() {
  if (live.asking) return;
  if (parts(document).some(isInUse)) {
    say("Paused while you work in the list.");
    schedule();
    return;
  }
  live.asking = true;
  try {
    const answer = await load();
    if (new URL(answer.responseURL).pathname !== location.pathname) {
      say("You are signed out. Reload the page to sign in.");
      return;
    }
    if (answer.status !== 200 || !answer.response) throw new Error(String(answer.status));
    swap(answer.response);
    live.delay = EVERY;
    say(`Updated at ${new Date().toLocaleTimeString()}.`);
  } catch {
    live.delay = Math.min(live.delay * 2, SLOWEST);
    say(`No answer. Trying again in ${live.delay / 1000} s.`);
  } finally {
    live.asking = false;
  }
  schedule();
}

function swap(page) {
  for (const fresh of parts(page)) {
    const part = document.getElementById(fresh.id);
    if (!part || isInUse(part) || lastSeen.get(part.id) === fresh.innerHTML) continue;
    const before = new Set(rows(part).map(looksOf));
    const unfolded = [...part.querySelectorAll("details[id][open]")].map((details) => details.id);
    lastSeen.set(part.id, fresh.innerHTML);
    part.replaceChildren(...fresh.childNodes);
    for (const id of unfolded) document.getElementById(id)?.setAttribute("open", "");
    for (const row of rows(part)) row.classList.toggle("is-new", !before.has(looksOf(row)));
    part.dataset.unbound = "";
  }
}

const rows = (part) => [...part.querySelectorAll("tbody tr")];

// What makes a row another one: its link and its states, not its age.
function looksOf(row) {
  const states = [...row.querySelectorAll(".badge")].map((state) => state.textContent);
  return [row.querySelector("a")?.getAttribute("href"), ...states].join("|");
}

// Django binds its tick boxes once, when the page is loaded; new ones are bound when somebody first reaches for them.
function bindTicks(event) {
  const part = event.target.closest("[data-live]");
  if (!part || part.dataset.unbound === undefined) return;
  const boxes = part.querySelectorAll("tr input.action-select");
  if (!boxes.length || typeof window.Actions !== "function") return;
  delete part.dataset.unbound;
  window.Actions(boxes);
}

function show() {
  button.textContent = live.paused ? "Continue" : "Pause";
  say(live.paused ? "Paused: what you see may be old." : "Updates automatically.");
}

button.addEventListener("click", () => {
  live.paused = !live.paused;
  sessionStorage.setItem(PAUSED, live.paused ? "1" : "0");
  show();
  if (live.paused) clearTimeout(live.timer);
  else refresh();
});
document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(live.timer) : schedule(200)));
document.addEventListener("pointerdown", bindTicks);
document.addEventListener("focusin", bindTicks);
bar.hidden = false;
show();
schedule();
