"""The admin's product form: what would be noticed only by a customer who paid is refused before."""

from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser

import pytest
from django.db import connection, transaction
from django.urls import reverse

from bitloot.tests.parallel import at_once, somebody_waits_for_a_lock
from bitloot.tests.staff import make_staff
from orders.models import Product
from orders.tests.factories import make_product

pytestmark = pytest.mark.django_db
KNOWN, UNKNOWN = "64b000000000000000000001", "64b0000000000000000000ff"


def filled(**fields):
    return {
        "title": "Ember Drift", "slug": "ember-drift", "is_active": "on", "key_type": "text", "price": "9.99",
        "max_cost": "8.50", "min_margin": "0.50", "stock_wait_hours": "12", "supplier_product_id": KNOWN, **fields,
    }  # fmt: skip


def add(boss, **fields):
    """Post the form; return the errors by field and the messages of the next page."""
    answer = boss.post(reverse("admin:orders_product_add"), filled(**fields), follow=True)
    form = answer.context.get("adminform")
    return form.form.errors if form else {}, [str(message) for message in answer.context["messages"]]


def test_every_field_that_decides_is_on_the_form(boss, sandbox):
    errors, messages = add(boss)
    assert errors == {}
    assert len(messages) == 1
    product = Product.objects.get()
    assert (str(product.min_margin), product.stock_wait_hours) == ("0.50", 12)


def test_a_cost_above_the_price_is_refused(boss, sandbox):
    errors, _ = add(boss, max_cost="12.00")
    assert errors == {"max_cost": ["This is more than the price: every such key would be sold at a loss."]}
    assert not Product.objects.exists()


@pytest.mark.parametrize("product_id", ["../../v1/balance", "not-a-kinguin-id", "1949", KNOWN.upper() + "X"])
def test_an_id_that_kinguin_cannot_have_is_refused(boss, sandbox, product_id):
    errors, _ = add(boss, supplier_product_id=product_id)
    assert list(errors) == ["supplier_product_id"]
    assert "24 digits" in errors["supplier_product_id"][0]


def test_a_product_that_the_supplier_does_not_have_is_not_put_on_sale(boss, sandbox):
    errors, _ = add(boss, supplier_product_id=UNKNOWN)
    assert errors["supplier_product_id"][0].startswith("Kinguin has no such product")
    fields = filled(supplier_product_id=UNKNOWN)
    del fields["is_active"]
    answer = boss.post(reverse("admin:orders_product_add"), fields, follow=True)
    assert any(str(message).startswith("Saved, but: Kinguin has no") for message in answer.context["messages"])
    product = Product.objects.get()
    assert product.is_active is False
    page = reverse("admin:orders_product_change", args=[product.pk])
    again = boss.post(page, filled(supplier_product_id=UNKNOWN))
    assert again.context["adminform"].form.errors["supplier_product_id"][0].startswith("Kinguin has no such product")


def test_a_silent_supplier_stops_nobody_but_is_said(boss, sandbox):
    sandbox.fault("kinguin.product", "5xx_before")
    errors, messages = add(boss)
    assert errors == {}
    assert any(message.startswith("Saved, but: We could not ask the supplier") for message in messages)
    assert Product.objects.get().is_active


def test_a_product_that_is_sold_out_can_still_be_edited(boss, sandbox):
    add(boss)
    product = Product.objects.get()
    Product.objects.update(supplier_product_id=UNKNOWN)
    page = reverse("admin:orders_product_change", args=[product.pk])
    assert boss.post(page, filled(supplier_product_id=UNKNOWN, price="11.99")).status_code == 302
    product.refresh_from_db()
    assert str(product.price) == "11.99"


@pytest.mark.django_db(transaction=True)
def test_the_supplier_is_asked_with_no_transaction_open(boss, sandbox, at):
    """On SQLite the whole shop could write nothing until they answer."""
    open_ones = []
    at("http.before_send", lambda: open_ones.append(connection.in_atomic_block))
    add(boss)
    assert open_ones == [False]


def test_nobody_who_may_only_look_asks_the_supplier(client, sandbox, at):
    asked = []
    at("http.before_send", lambda: asked.append(1))
    client.force_login(make_staff("orders.view_product"))
    assert client.post(reverse("admin:orders_product_add"), filled()).status_code == 403
    assert asked == []


class Shown(HTMLParser):
    """What a browser sends back of a form, with some fields typed over."""

    def __init__(self, page, **typed):
        super().__init__()
        self.sent, self._area = {}, None
        self.feed(page)
        self.sent |= typed

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag == "textarea":
            self._area, self.sent[given["name"]] = given["name"], ""
        elif tag == "select":
            self._select = given.get("name")
        elif tag == "option" and "selected" in given:
            self.sent[self._select] = given["value"]
        elif tag == "input" and given.get("name") and (given.get("type") != "checkbox" or "checked" in given):
            self.sent[given["name"]] = given.get("value", "")

    def handle_data(self, data):
        if self._area:
            self.sent[self._area] += data

    def handle_endtag(self, tag):
        self._area = None if tag == "textarea" else self._area


def test_what_nobody_typed_over_stays_as_a_rule_made_it_since_the_form_was_opened(boss, sandbox):
    add(boss)
    product = Product.objects.get()
    page = reverse("admin:orders_product_change", args=[product.pk])
    opened = boss.get(page).content.decode().partition('id="product_form"')[2]
    Product.objects.update(price="12.49", max_cost="6.00", platform="PC Steam", is_active=False)
    assert boss.post(page, Shown(opened, description="Embers.").sent).status_code == 302
    product.refresh_from_db()
    assert (str(product.price), str(product.max_cost), product.platform) == ("12.49", "6.00", "PC Steam")
    assert (product.description, product.is_active) == ("Embers.", False)
    assert boss.post(page, Shown(opened, price="13.99").sent).status_code == 302
    product.refresh_from_db()
    assert (str(product.price), str(product.max_cost)) == ("13.99", "6.00")


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_form_that_is_saved_while_a_rule_changes_the_price_keeps_the_rules_price(boss):
    product = make_product()
    page = reverse("admin:orders_product_change", args=[product.pk])
    opened = boss.get(page).content.decode().partition('id="product_form"')[2]
    with ThreadPoolExecutor(1) as thread:
        with transaction.atomic():
            Product.objects.update(price="26.49")
            saved = thread.submit(at_once, lambda: boss.post(page, Shown(opened, description="Embers.").sent))
            somebody_waits_for_a_lock()
        assert saved.result()[0].status_code == 302
    product.refresh_from_db()
    assert (str(product.price), product.description) == ("26.49", "Embers.")
