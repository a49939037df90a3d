"""Waiting for a page (tools.dev.browser), without a browser: what its driver may say meanwhile."""

import pytest
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException, WebDriverException

from tools.dev.browser import wait


def saying(*answers):
    """Return a condition that raises or returns these, one each time it is asked."""
    left = list(answers)

    def condition(page):
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return condition


@pytest.mark.parametrize(
    "leaving",
    [
        NoSuchElementException("no such element"),
        StaleElementReferenceException("stale element not found"),
        WebDriverException("aborted by navigation: Inspected target navigated or closed"),
    ],
)
def test_a_page_that_is_being_left_is_looked_at_again(leaving):
    assert wait(None, saying(leaving, "", "found"), "it") == "found"


def test_a_broken_browser_is_no_page_that_is_being_left():
    with pytest.raises(WebDriverException, match="tab crashed"):
        wait(None, saying(WebDriverException("tab crashed"), "found"), "it")
