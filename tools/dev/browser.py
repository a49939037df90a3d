"""Waiting for a page in a real browser, whoever drives it."""

from collections.abc import Callable
from typing import TypeVar

from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException, WebDriverException
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.ui import WebDriverWait

PATIENCE = 90  # seconds, on a busy machine
# What is said of an element while its page is left.
LEAVING = (NoSuchElementException, StaleElementReferenceException)
# The driver's words for the same while it looks: an error without a code of its own.
ABORTED = "aborted by navigation"

Found = TypeVar("Found")


def wait(browser: WebDriver, condition: Callable[[WebDriver], Found], what: str) -> Found:
    """Return what the condition returns once that is true; a page that is being left meets none.

    Raises TimeoutException naming what was waited for.
    """

    def look(page: WebDriver) -> Found | None:
        try:
            return condition(page)
        except WebDriverException as err:
            if ABORTED in str(err.msg):
                return None
            raise

    found = WebDriverWait(browser, PATIENCE, ignored_exceptions=LEAVING).until(look, f"{what} did not come")
    assert found
    return found
