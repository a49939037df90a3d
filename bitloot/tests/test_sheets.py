"""The style sheets name no variable that nobody sets: a browser would drop the whole declaration, and say nothing."""

import re

import pytest
from django.contrib.staticfiles import finders

SHEETS = {
    "bitloot/site.css": (),
    "bitloot/admin.css": ("admin/css/base.css", "admin/css/dark_mode.css"),
}


def read(name):
    with open(finders.find(name), encoding="utf-8") as sheet:
        return re.sub(r"/\*.*?\*/", "", sheet.read(), flags=re.DOTALL)


@pytest.mark.parametrize("name", SHEETS)
def test_every_variable_is_set_or_has_a_fallback(name):
    sheet = read(name)
    is_set = set(re.findall(r"(--[\w-]+)\s*:", sheet + "".join(map(read, SHEETS[name]))))
    used = set(re.findall(r"var\(\s*(--[\w-]+)\s*\)", sheet))
    assert used
    assert used <= is_set


def test_nothing_is_shown_before_what_comes_earlier_in_the_page():
    """A page is shown while it arrives: what comes later would push down what is read already."""
    moved = re.findall(r"([^{}]+)\{[^{}]*(?<![\w-])order:\s*-", read("bitloot/site.css"))
    assert [selector.strip() for selector in moved] == [".qr"]  # a script shows its card, the whole of it at once
