"""What a member of staff does with a mouse and a keyboard in the admin, and how often they had to press."""

import re
from pathlib import Path

from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.remote.webelement import WebElement

from bitloot.tests.chromium import one, text_of
from tools.dev.browser import wait
from tools.dev.devenv import ROOT

DOCUMENT = ROOT / "docs" / "staff.md"


class Hands:
    """Works from the home page on. Every press counts; typing, and Enter after it, does not."""

    def __init__(self, browser: WebDriver, url: str, password: str) -> None:
        self.browser, self.url, self.password = browser, url, password
        self.clicks = 0
        self._sessions: dict[str, dict] = {}

    def become(self, name: str) -> None:
        """Be this member of staff on the home page; each signs in once."""
        self.browser.get(f"{self.url}/admin/login/")
        self.browser.delete_all_cookies()
        if name in self._sessions:
            self.browser.add_cookie(self._sessions[name])
            self.browser.get(f"{self.url}/admin/")
        else:
            self.browser.get(f"{self.url}/admin/")
            for field, text in (("#id_username", name), ("#id_password", self.password)):
                one(self.browser, field).send_keys(text)
            one(self.browser, "input[type=submit]").click()
        wait(self.browser, lambda page: name in one(page, "#user-tools").text, f"the home page of {name}")
        self._sessions[name] = self.browser.get_cookie("sessionid")
        self.clicks = 0

    def go_home(self) -> None:
        self.browser.get(f"{self.url}/admin/")
        wait(self.browser, lambda page: one(page, ".cases"), "the home page")
        self.clicks = 0

    def press(self, text: str, *, within: str = "body") -> None:
        """Press the link or button with this text, as soon as it is there."""

        def shown(page: WebDriver) -> WebElement | None:
            found = page.find_elements(By.CSS_SELECTOR, f"{within} :is(a, button, input[type=submit])")
            return next((part for part in found if text in (part.text, part.get_attribute("value"))), None)

        wait(self.browser, shown, f"“{text}” in {within}").click()
        self.clicks += 1

    def type(self, selector: str, text: str) -> None:
        field = one(self.browser, selector)
        field.clear()
        field.send_keys(text)

    def find(self, term: str) -> None:
        """Type into the finder, to which "/" leads, and send it with Enter."""
        self.browser.find_element(By.TAG_NAME, "body").send_keys("/")
        finder = self.browser.switch_to.active_element
        assert finder.get_attribute("id") == "finder"
        finder.send_keys(Keys.CONTROL, "a")
        finder.send_keys(term, Keys.ENTER)
        wait(self.browser, lambda now: term[:50] in one(now, "#found-heading").text, f"what is found for {term}")

    def case_of(self, order_id: str) -> str:
        """Return the selector of the order's case on the home page, once it is there."""
        selector = f".case:has(a[href*='{order_id}'])"
        wait(self.browser, lambda page: one(page, selector), "its case")
        return selector

    def told(self) -> str:
        return text_of(self.browser, ".messagelist")


def clicks_documented(path: Path = DOCUMENT) -> dict[str, int]:
    """Return how many presses each job takes, as the table in docs/staff.md has it."""
    rows = re.findall(r"^\| ([^|]+?) \| [^|]+ \| (\d+) \|", path.read_text("utf-8"), re.MULTILINE)
    return {job: int(count) for job, count in rows}
