"""Somebody who works with the keyboard alone, and sees where they are in any colours."""

from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from bitloot.tests.chromium import has_focus, wait_for_focus
from bitloot.tests.reach import wears

MOST_STOPS = 80
COLOURS = ({"prefers_color_scheme": "light"}, {"prefers_color_scheme": "dark"}, {"forced_colors": "active"})
# Where the keyboard stands: whether that is seen, and whether it is a link that calls itself a button, which the space
# bar would have to press.
STOP = """
const element = document.activeElement, { outlineStyle, outlineWidth, outlineColor } = getComputedStyle(element);
const { bottom, right } = element.getBoundingClientRect();
const isThick = outlineStyle === "auto" || (outlineStyle !== "none" && parseFloat(outlineWidth) >= 2);
const isSeen = isThick && !/^rgba.*, 0\\)$/.test(outlineColor); // "auto" is the browser's own ring
return {
  at: element.outerHTML.slice(0, 120),
  isSomewhere: element !== document.body,
  isSeen: isSeen && bottom > 0 && right > 0,
  isHonest: !element.matches("a[role]"),
};
"""


class Keyboard:
    def __init__(self, browser: WebDriver) -> None:
        self.browser = browser

    def press(self, *keys: str) -> None:
        ActionChains(self.browser).send_keys(*keys).perform()

    def press_with(self, held: str, key: str) -> None:
        ActionChains(self.browser).key_down(held).send_keys(key).key_up(held).perform()

    def wait_for(self, selector: str) -> None:
        """Return once the page has brought the keyboard there."""
        wait_for_focus(self.browser, selector)
        self.look()

    def go_to(self, selector: str) -> None:
        """Press Tab until the element is reached; each stop on the way has to be seen."""
        for _ in range(MOST_STOPS):
            if has_focus(self.browser, selector):
                self.look(colours=COLOURS)
                return
            self.press(Keys.TAB)
            self.look()
        raise AssertionError(f"Tab does not lead to {selector}")

    def look(self, *, colours=COLOURS[:1]) -> None:
        for worn in colours:
            wears(self.browser, **worn)
            stop = self.browser.execute_script(STOP)
            # After the last stop the browser's own bar has its turn.
            assert not stop["isSomewhere"] or (stop["isSeen"] and stop["isHonest"]), (worn, stop)
        wears(self.browser)
