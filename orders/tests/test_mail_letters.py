"""Each mail in each language: complete, true to its facts, and with nothing to load."""

import re
import uuid
from decimal import Decimal
from io import StringIO

import pytest
from django.conf import settings
from django.core.management import call_command

from orders.mail_letters import BRING_TOKEN, write
from orders.mail_samples import _ORDER_ID, samples
from orders.models import Email, Order, OrderItem, Product

LETTERS = {(sample.name, sample.language): sample.letter for sample in samples()}
CUSTOMERS = {of: letter for of, letter in LETTERS.items() if of[0].partition("-")[0] not in Email.IN_ENGLISH}


def test_each_kind_has_a_sample_in_each_language():
    written = {(name.partition("-")[0], language) for name, language in LETTERS}
    languages = [language for language, _ in settings.LANGUAGES]
    expected = {(kind, language) for kind in Email.Kind.values for language in languages}
    assert written == expected - {
        (kind, language) for kind in Email.IN_ENGLISH for language in languages if language != "en"
    }


@pytest.mark.parametrize("of", LETTERS)
def test_a_mail_is_whole_and_loads_nothing(of):
    letter = LETTERS[of]
    assert letter.subject
    assert "\n" not in letter.subject
    assert settings.STORE_NAME in letter.text
    assert settings.STORE_NAME in letter.html
    assert not re.search(r"\bsrc=|url\(|@import|<link", letter.html)
    assert not re.search(r"\bNone\b|\(\)|  +\S", letter.text)
    assert letter.html.count('class="button"') == (0 if of[0].partition("-")[0] in Email.WITHOUT_LINK else 1)
    if not of[0].startswith("alert"):
        assert settings.SUPPORT_EMAIL in letter.text


@pytest.mark.parametrize("of", [of for of in CUSTOMERS if of[1] == "en"])
def test_a_mail_differs_between_the_languages_in_every_sentence(of):
    english, german = CUSTOMERS[of], CUSTOMERS[of[0], "de"]
    shared = {line for line in english.text.splitlines() if line} & set(german.text.splitlines())
    # What is left alike: addresses, and the shop's name.
    assert all("//" in line for line in shared), shared
    assert english.subject != german.subject


def test_subjects_carry_the_fact():
    subjects = {of[0]: letter.subject for of, letter in LETTERS.items() if of[1] == "en"}
    assert subjects["underpaid"] == "5.00 EUR missing for Ember Drift and more"
    assert subjects["refund_sent"] == "Refund sent: 0.064 LTC"
    assert subjects["delayed"] == "Delayed: Ember Drift is out of stock at our supplier"
    alert = f"{settings.STORE_NAME}: Order held – Ember Drift and more, order {_ORDER_ID}"
    assert [subjects["alert"], subjects["alert-again"]] == [alert, f"Still open: {alert}"]
    of_kinds = [subject for name, subject in subjects.items() if "-" not in name]
    assert len(set(of_kinds)) == len(Email.Kind.values)


def test_only_what_leads_to_the_order_calls_its_link_private():
    for (name, _), letter in CUSTOMERS.items():
        kind = Email.Kind(name.partition("-")[0])
        assert ("#" in letter.text.replace("#code", "")) == (kind in BRING_TOKEN or kind == Email.Kind.YOUR_ORDERS)


def test_a_german_mail_writes_sums_and_days_as_germans_do():
    letter = LETTERS["delayed", "de"]
    assert "21,47 EUR" in letter.text
    assert "29. November, 22:15 UTC" in letter.text


def test_the_command_writes_the_same_files_each_time(tmp_path):
    for run in ("one", "two"):
        call_command("preview_emails", str(tmp_path / run), stdout=StringIO())
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / run).iterdir()} for run in ("one", "two"))
    assert one == two
    assert len(one) == 2 * len(LETTERS)


def test_text_is_written_as_it_is_and_html_is_escaped():
    order = Order(id=uuid.UUID(int=7), total=Decimal("7.49"), currency="EUR", language="en")
    item = OrderItem(order=order, product=Product(slug="salt"), title="Salt & <Stone>", quantity=1, unit_price=7)
    mail = Email(order=order, kind="delayed", facts={"cause": "out_of_stock", "title": item.title})
    letter = write(mail, [item], link="https://shop.test/orders/7#m.1.abc")
    assert letter.subject == "Delayed: Salt & <Stone> is out of stock at our supplier"
    assert "out of stock of Salt & <Stone>." in letter.text
    assert "Salt &amp; &lt;Stone&gt;" in letter.html
    assert "<Stone>" not in letter.html


def test_an_alert_tells_staff_nothing_that_opens_the_order():
    letter = LETTERS["alert", "en"]
    assert "#" not in letter.text
    assert "kim@example.org" not in letter.html
    assert f"{settings.SITE_URL}/admin/orders/alert/7/change/" in letter.text
