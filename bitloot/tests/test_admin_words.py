"""One word for a thing: what staff read of a purchase is never called a reservation."""

import re
from html import unescape

import pytest

from bitloot.tests.staff import list_of, page_of
from fulfillment.models import ReservationAttempt, SupplierCall
from fulfillment.tests.world import paid
from orders.tests.factories import make_product

pytestmark = [pytest.mark.django_db, pytest.mark.once]


def read(client, url):
    """Return what a page shows, without its markup and addresses."""
    answer = client.get(url)
    assert answer.status_code == 200, url
    page = answer.content.decode()
    page = re.sub(r"(?s)<(script|style)\b.*?</\1>", " ", page)
    return unescape(re.sub(r"<[^>]*>", " ", page))


def test_the_admin_calls_a_purchase_a_purchase_everywhere(boss):
    order = paid((make_product(), 1))
    (purchase,) = order.items.get().reservations.all()
    attempt = ReservationAttempt.objects.create(reservation=purchase, number=1, price=1)
    call = SupplierCall.objects.create(reservation=purchase, call="place", outcome="ok", milliseconds=1)
    lists = [
        "fulfillment.reservation",
        "fulfillment.reservationattempt",
        "fulfillment.suppliercall",
        "orders.orderevent",
    ]
    pages = [*map(list_of, lists), *map(page_of, [order, purchase, attempt, call, order.events.last()]), "/admin/"]
    for url in pages:
        text = read(boss, url)
        assert not re.search("reservation", text, re.IGNORECASE), url
