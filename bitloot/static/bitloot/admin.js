// On every staff page: "/" leads to the finder, the button beside an id copies all of it, and an open filter closes.

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

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  event.preventDefault();
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    button.dataset.copied = "";
    setTimeout(() => delete button.dataset.copied, 1500);
  } catch {
    // Without permission, or over plain HTTP: what stands beside the button is selected, to be copied by hand.
    document.getSelection().selectAllChildren(button.previousElementSibling);
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
