"""“Find my order”, the addresses that lead to an order's page, and the pages that staff write."""

import re

import pytest
from django.conf import settings
from django.contrib.flatpages.models import FlatPage
from django.core import mail as outbox
from django.core.management import call_command

from bitloot.tests.test_pages import UNKNOWN, make_product
from orders import mail
from orders.access import make_token
from orders.models import Email, Order
from orders.services import Line, look_up, place_order

pytestmark = pytest.mark.django_db

KIM = "kim@customer.example"


@pytest.fixture
def order() -> Order:
    make_product()
    return _order(KIM)


def _order(email: str) -> Order:
    return place_order(email=email, lines=[Line(product="ember-drift", quantity=1)]).order


def _find(client, **typed: str):
    return client.post("/orders/find", {"email": KIM, "number": "", **typed})


def _owed(kind: str = Email.Kind.YOUR_ORDERS) -> list[str]:
    return list(Email.objects.filter(kind=kind).order_by("pk").values_list("to", flat=True))


def test_every_page_leads_to_the_form_and_to_the_shops_address(client, settings):
    settings.STORE_NAME, settings.SUPPORT_EMAIL = "Key Corner", "help@corner.example"
    for path in ("/", "/orders/find", f"/orders/{UNKNOWN}", "/pages/terms", "/nowhere"):
        text = client.get(path).content.decode()
        assert '<a href="/orders/find">Find my order</a>' in text
        assert '<a href="mailto:help@corner.example">' in text
        assert re.search(r"<title>[^<]*Key Corner", text)


@pytest.mark.parametrize(
    "typed",
    [
        "{id}",
        "{upper}",
        "{hex}",
        "{short}",
        "Order #{short}.",
        " order {id}. ",
        "https://shop.example/orders/{id}#m.1.2.x",
    ],
)
def test_number_in_any_form_brings_a_fresh_link_and_no_list(client, order, typed):
    number = typed.format(id=order.id, upper=str(order.id).upper(), hex=order.id.hex, short=str(order.id)[:8])
    page = _find(client, number=number)
    assert (page.status_code, "is on its way" in page.content.decode()) == (200, True)
    assert (_owed(Email.Kind.FRESH_LINK), _owed()) == ([KIM], [])


def test_short_number_opens_nobody_elses_order(client, order):
    page = _find(client, number=str(order.id)[:8], email="eve@customer.example")
    assert "is on its way" in page.content.decode()
    assert (_owed(Email.Kind.FRESH_LINK), _owed()) == ([], [])


def test_address_alone_brings_one_mail_with_a_link_to_each_of_its_orders(client, order):
    other, stranger = _order(KIM), _order("ada@customer.example")
    _find(client)
    assert _owed() == [KIM]
    generations = set(Order.objects.values_list("link_generation", flat=True))
    assert generations == {1}  # a list ends no links

    owed = Email.objects.get(kind=Email.Kind.YOUR_ORDERS)
    owed.claim_token = None
    message = mail._message(owed, [], mail._secrets(owed))
    html = message.alternatives[0][0]
    for text in (message.body, html):
        assert f"/orders/{order.id}#m.1." in text
        assert f"/orders/{other.id}#m.1." in text
        assert str(stranger.id) not in text
    assert message.to == [KIM]
    assert outbox.outbox == []


def test_each_spelling_of_the_address_gets_only_its_own_orders(order):
    _order("Kim@customer.example")
    look_up(order_id=None, email="KIM@customer.example")
    assert sorted(_owed()) == ["Kim@customer.example", KIM]
    for owed in Email.objects.filter(kind=Email.Kind.YOUR_ORDERS):
        assert mail._message(owed, [], mail._secrets(owed)).body.count("#m.1.") == 1


def test_answer_is_the_same_for_a_stranger_who_owns_nothing(client, order, django_assert_num_queries):
    known = _find(client).content.decode()
    strange = client.post("/orders/find", {"email": "eve@customer.example", "number": ""}).content.decode()
    assert _blurred(known, KIM) == _blurred(strange, "eve@customer.example")
    assert _owed() == [KIM]
    queries = 1 if settings.REDIS_URL else 2  # the mails, and the limit where Redis does not count it
    with django_assert_num_queries(queries):
        look_up(order_id=None, email="eve@customer.example")
    with django_assert_num_queries(queries):
        look_up(order_id=None, email=KIM)


def _blurred(page: str, email: str) -> str:
    lines = page.replace(email, "…").splitlines()
    return "\n".join(line for line in lines if "csrfmiddlewaretoken" not in line)


def test_an_address_is_mailed_three_lists_an_hour(order, settings):
    settings.THROTTLE_SCALE = 1
    for _ in range(5):
        look_up(order_id=None, email="kim@customer.example ")
    assert len(_owed()) == 3


def test_api_takes_the_address_alone(client, order):
    asked = client.post("/api/orders/lookup", {"email": KIM}, content_type="application/json")
    assert (asked.status_code, _owed()) == (202, [KIM])
    code = client.post("/api/orders/code", {"email": KIM}, content_type="application/json")
    assert code.status_code == 422


@pytest.mark.parametrize("typed", [{"email": "kim"}, {"email": ""}, {"number": "f8e0-3409-and-the-rest"}])
def test_what_cannot_be_looked_up_is_explained_and_kept_in_the_form(client, order, typed):
    page = _find(client, **typed)
    assert page.status_code == 422
    for value in typed.values():
        assert value in page.content.decode()
    assert 'class="field-error"' in page.content.decode()
    assert Email.objects.exclude(kind=Email.Kind.ORDER_RECEIVED).count() == 0


def test_form_counts_with_the_lookups_of_the_api(client, order, settings):
    settings.THROTTLE_SCALE = 0.1
    answers = {_find(client, number=UNKNOWN).status_code for _ in range(5)}
    assert answers == {200, 429}


@pytest.mark.parametrize("ending", ["/", "%23{token}", "/%23{token}", ""])
def test_addresses_that_programs_spoil_lead_to_the_orders_page(client, order, ending):
    token = make_token(order, "mail")
    spoiled = f"/orders/{str(order.id).upper() if not ending else order.id}{ending.format(token=token)}"
    answer = client.get(spoiled)
    assert answer.status_code == 302
    assert answer["Location"] == f"/orders/{order.id}" + (f"#{token}" if "token" in ending else "")


@pytest.mark.parametrize("ending", ["%23//evil.example", "//evil.example", "/%23a%0d%0ab", "/more"])
def test_what_is_no_such_address_stays_unknown(client, order, ending):
    assert client.get(f"/orders/{order.id}{ending}").status_code == 404


@pytest.mark.django_db(transaction=True)
def test_drafts_are_there_again_after_a_test_that_commits():
    """Fails without the receiver in conftest.py: tests in the same process would then depend on their order."""
    call_command("flush", interactive=False, verbosity=0)
    assert FlatPage.objects.filter(url__in=["/terms", "/de/imprint"]).count() == 2


@pytest.mark.parametrize("name", ["terms", "privacy", "imprint"])
def test_drafts_of_the_legal_pages_are_there_until_staff_write_their_own(client, name):
    assert "This is a draft." in client.get(f"/pages/{name}").content.decode()
    FlatPage.objects.filter(url=f"/{name}").update(content="<p>Ours.</p>")
    text = client.get(f"/pages/{name}").content.decode()
    assert ("<p>Ours.</p>" in text, "draft" in text) == (True, False)


def test_there_is_one_site():
    assert settings.SITE_ID == 1
