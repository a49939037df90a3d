"""What a page is like for people who see it large, small, in other colours, or not at all."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from selenium.webdriver.chrome.webdriver import WebDriver

AXE = (Path(__file__).parent / "vendor" / "axe-core" / "axe.min.js").read_text()
FINDINGS = """
const [options, done] = arguments;
axe.run(document, { resultTypes: ["violations"], ...options }).then(({ violations }) =>
  done(violations.flatMap(({ id, nodes }) => nodes.map(({ html }) => `${id}: ${html.slice(0, 160)}`))));
"""
CONTRAST = {"runOnly": ["color-contrast"]}
# Also what its box cuts off: a page that does not scroll sideways may hide the end of a line for good.
STICKING_OUT = """
const WIDTH = arguments[0];
const scrolls = (box) => box && (/auto|scroll/.test(getComputedStyle(box).overflowX) || scrolls(box.parentElement));
const isSeen = (element) => element.checkVisibility() && !element.closest(".visually-hidden");
const isOut = (element) => {
  const { right, bottom } = element.getBoundingClientRect();
  if (element.matches(".skip:not(:focus)")) return bottom > 0; // it waits above the page
  return right > WIDTH + 1 && !scrolls(element.parentElement);
};
const found = [...document.querySelectorAll("body *")].filter((element) => isSeen(element) && isOut(element))
  .map((element) => element.outerHTML.slice(0, 120));
return document.documentElement.scrollWidth <= WIDTH ? found : [...found, "the page scrolls sideways"];
"""
BROKEN_WORDS = """
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const range = document.createRange(), broken = [];
while (texts.nextNode()) {
  const { parentElement: owner, data } = texts.currentNode;
  if (owner.closest("code, pre, select, script, style, .visually-hidden") || !owner.checkVisibility()) continue;
  for (const { 0: word, index } of data.matchAll(/(?<!\\S)[A-Za-z]{3,16}(?!\\S)/g)) {
    range.setStart(texts.currentNode, index);
    range.setEnd(texts.currentNode, index + word.length);
    if (new Set([...range.getClientRects()].map(({ top }) => Math.round(top))).size > 1) broken.push(word);
  }
}
return broken;
"""
# With forced colours a button is told from text by its edge alone, and a bar from nothing by its own or its edge.
FLAT = """
const seen = [...document.querySelectorAll("main :is(button, .button, progress)")]
  .filter((element) => element.checkVisibility() && !element.matches(".plain"));
return seen.filter((element) => {
  const { borderTopStyle, borderTopColor, backgroundColor } = getComputedStyle(element);
  return borderTopStyle === "none" || borderTopColor === backgroundColor;
}).map((element) => element.outerHTML.slice(0, 120));
"""


def wears(page: WebDriver, **features: str) -> None:
    """Let the page be shown as a visitor's system asks: wears(page, forced_colors="active")."""
    asked = {"prefers_reduced_motion": "reduce"} | features
    told = [{"name": name.replace("_", "-"), "value": value} for name, value in asked.items()]
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": told})


def findings(page: WebDriver, *, schemes: Sequence[str] = ("light", "dark")) -> list[str]:
    """Return what axe says about the page as it is now; the dark scheme differs in its colours alone."""
    page.execute_script(AXE)
    asked: dict[str, dict[str, Any]] = {"light": {}, "dark": CONTRAST}
    found = []
    for scheme in schemes:
        options = asked[scheme]
        wears(page, prefers_color_scheme=scheme)
        found += [f"{scheme}, {finding}" for finding in page.execute_async_script(FINDINGS, options)]
    return found


def broken_words(page: WebDriver) -> list[str]:
    """Return the plain words that go on in the next line, as in a column that is too narrow for them."""
    return page.execute_script(BROKEN_WORDS)


def flat(page: WebDriver) -> list[str]:
    """Return what looks like text or like nothing once the visitor's system forces its colours."""
    wears(page, forced_colors="active")
    return page.execute_script(FLAT)


def moving(page: WebDriver) -> list[str]:
    """Return what moves although the visitor asked for less of that."""
    wears(page, prefers_reduced_motion="reduce")
    return page.execute_script("return document.getAnimations().map(({ effect }) => effect.target.outerHTML)")


def overflow(page: WebDriver, *, width: int = 320, zoom: float = 1) -> list[str]:
    """Return what sticks out of such a screen; `zoom` grows the text alone."""
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    page.execute_script("document.documentElement.style.fontSize = arguments[0]", f"{106.25 * zoom}%")
    found = page.execute_script(STICKING_OUT, width)
    page.execute_script("document.documentElement.style.fontSize = ''")
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    return found
