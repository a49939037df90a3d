"""Our mails as a weapon: many to one mailbox, some to hosts of our own network."""

import pytest
from django.core import mail as outbox

from orders.models import Email, Order
from orders.tasks import drain_mails
from orders.tests.factories import make_product

pytestmark = pytest.mark.django_db


def place(client, email, product):
    body = {"email": email, "items": [{"product": product.slug, "quantity": 1}]}
    return client.post("/api/orders", body, content_type="application/json", REMOTE_ADDR="203.0.113.7")


@pytest.mark.parametrize(
    "email",
    ["root@localhost", "a@[10.0.0.1]", "a@[IPv6:::1]", "a@127.0.0.1", "a@intranet", "a@b.example\n", "a b@c.example",
     "a@b@c.example", "@c.example", '"a"b@c.example', '"a\nb"@c.example',
     "root@localhost.localdomain", "root@db.Internal", "root@printer.local", "a@-ü.example", "a@c.example\u200b",
     "a@c\u00ad.example", "a@c.exa\ufe0fmple", "a@ｃ.example"],
)  # fmt: skip
def test_address_that_leads_nowhere_or_inside_is_refused(client, email):
    answer = place(client, email, make_product())
    assert answer.status_code == 422 or Order.objects.get().email == "a@b.example"  # stripped
    assert Order.objects.exclude(email="a@b.example").count() == 0


@pytest.mark.parametrize(
    "email",
    [
        "a..b@docomo.ne.jp",
        "kim.@ezweb.ne.jp",
        '"kim,o"@c.example',
        "kim@bücher.example",
        "kim@straße.example",
        "用户@例え.jp",
    ],
)
def test_address_that_mail_servers_take_is_written_to(client, email):
    product = make_product()
    assert place(client, email, product).status_code == 201
    page = client.get("/checkout", {"product": product.slug}).context["form"]
    sent = {"product": product.slug, "quantity": "1", "email": email}
    assert client.post("/checkout", sent | {"idempotency_key": page.initial["idempotency_key"]}).status_code == 303
    drain_mails()
    assert set(Email.objects.values_list("status", flat=True)) == {"sent"}
    assert len(outbox.outbox) == 2
    assert outbox.outbox[0].message()["To"]


def test_a_mail_goes_to_the_host_that_was_typed(client):
    """Not to strasse.example, as by Django's own way of writing hosts."""
    assert place(client, "kim@straße.example", make_product()).status_code == 201
    drain_mails()
    assert outbox.outbox[0].message()["To"] == "kim@xn--strae-oqa.example"


def test_plus_addresses_are_one_mailbox(client, settings):
    settings.THROTTLE_SCALE = 1
    product = make_product()
    answers = [place(client, f"kim+{number}@gmail.com", product).status_code for number in range(43)]
    assert answers == [201] * 40 + [422] * 3
    assert place(client, "kim@gmail.com", product).status_code == 422
    assert place(client, "lee@gmail.com", product).status_code == 201


def test_spellings_of_one_mailbox_are_counted_as_one(client, settings):
    settings.THROTTLE_SCALE = 0.1  # four an hour for a mailbox
    spellings = [
        "kim@gmail.com",
        "k.im@gmail.com",
        '"kim"@gmail.com',
        '"k\\im"@gmail.com',
        "KI.M+x@gmail.com",
        '"kim+y"@gmail.com',
    ]
    product = make_product()
    assert [place(client, spelling, product).status_code for spelling in spellings] == [201] * 4 + [422] * 2


def test_domain_has_a_limit_and_the_large_ones_have_none(client, settings):
    settings.THROTTLE_SCALE = 0.1  # 30 an hour for a domain, and 6 a minute for an address
    product = make_product()

    def order(host, number):
        body = {"email": f"kim{number}@{host}", "items": [{"product": product.slug, "quantity": 1}]}
        address = f"198.51.100.{number}"
        return client.post("/api/orders", body, content_type="application/json", REMOTE_ADDR=address).status_code

    assert [order("victim.example", number) for number in range(32)] == [201] * 30 + [422] * 2
    assert {order("gmail.com", number) for number in range(32)} == {201}
