"""A mistyped address is seen and corrected by whoever placed the order, until it is paid."""

import pytest

from orders.access import make_token, open_order
from orders.addresses import change_address
from orders.exceptions import LinkReplaced
from orders.models import Order
from orders.tests.factories import make_order

pytestmark = pytest.mark.django_db
NEW = "ada@customer.example"


@pytest.fixture
def order() -> Order:
    return make_order(email="aad@customer.example")


def change(client, order, email=NEW, purpose="api"):
    headers = {"Authorization": f"Bearer {make_token(order, purpose)}"}
    asked = {"order_id": str(order.id), "email": email}
    return client.post("/api/orders/email", asked, content_type="application/json", headers=headers)


def shown(client, order, purpose="api"):
    headers = {"Authorization": f"Bearer {make_token(order, purpose)}"}
    body = client.get(f"/api/orders/{order.id}", headers=headers).json()
    return body["email"], body["can_change_email"]


def test_whole_address_is_shown_to_whoever_placed_the_order_and_not_to_a_mailed_link(client, order):
    assert shown(client, order) == ("aad@customer.example", True)
    assert shown(client, order, "mail") == ("a…@customer.example", False)


def test_another_bearer_gets_another_etag(client, order):
    tags = set()
    for purpose in ("api", "mail"):
        headers = {"Authorization": f"Bearer {make_token(order, purpose)}"}
        tags.add(client.get(f"/api/orders/{order.id}", headers=headers)["ETag"])
    assert len(tags) == 2


def test_corrected_address_ends_old_links_and_both_addresses_get_a_mail(client, order):
    old = make_token(order, "mail")
    answer = change(client, order)
    assert answer.status_code == 200
    order.refresh_from_db()
    assert (order.email, open_order(order.pk, answer.json()["access_token"])) == (NEW, order)
    with pytest.raises(LinkReplaced):
        open_order(order.pk, old)
    mails = set(order.emails.values_list("kind", "to"))
    assert {("address_corrected", NEW), ("address_replaced", "aad@customer.example")} <= mails


@pytest.mark.parametrize("fields", [{"status": "fulfilling"}, {"status": "held"}, {"status": "expired"}])
def test_address_stays_once_the_order_is_not_unpaid(client, order, fields):
    Order.objects.filter(pk=order.pk).update(**fields)
    assert _stays(client, order)
    assert shown(client, order)[1] is False


def test_reader_of_a_mailed_link_cannot_take_the_order_over(client, order):
    assert _stays(client, order, purpose="mail")


def test_of_two_changes_with_one_token_the_first_ends_it(order):
    same = Order.objects.get(pk=order.pk)
    change_address(order, email=NEW, purpose="api")
    with pytest.raises(LinkReplaced):
        change_address(same, email="thief@customer.example", purpose="api")
    assert Order.objects.get(pk=order.pk).email == NEW


def test_same_address_is_no_change(client, order):
    assert _stays(client, order, "AAD@customer.example ")


def test_three_changes_are_enough(client, order):
    for number in range(3):
        assert change(client, order, f"ada{number}@customer.example").status_code == 200
        order.refresh_from_db()
    assert _stays(client, order)


def test_what_is_no_address_is_explained(client, order):
    answer = change(client, order, "ada@")
    assert (answer.status_code, list(answer.json()["errors"])) == (422, ["email"])


def _stays(client, order, *args, **kwargs):
    before = Order.objects.filter(pk=order.pk).values("email", "link_generation").get()
    answer = change(client, order, *args, **kwargs)
    after = Order.objects.filter(pk=order.pk).values("email", "link_generation").get()
    return (answer.status_code, answer.json()["code"], before == after) == (409, "address_stays", True)
