"""What our backend does otherwise than Django's."""

import datetime

import pytest
from django.db import connection

from orders.models import Order
from orders.tests.factories import make_order

pytestmark = [pytest.mark.django_db, pytest.mark.postgres]


def test_times_are_read_by_the_driver_and_mean_what_django_says_they_mean():
    with connection.cursor() as cursor:
        cursor.execute("SELECT '2026-03-29 03:30:00.25+02'::timestamptz, NULL::timestamptz, 'infinity'::text")
        read = cursor.fetchone()
    assert read == (datetime.datetime(2026, 3, 29, 1, 30, 0, 250000, tzinfo=datetime.UTC), None, "infinity")
    assert read[0].utcoffset() == datetime.timedelta(0)


def test_a_cursor_that_stays_at_the_server_reads_the_same_rows():
    orders = [make_order() for _ in range(3)]
    with connection.chunked_cursor() as cursor:
        cursor.execute("SELECT id, created_at FROM orders_order ORDER BY created_at")
        assert cursor.fetchall() == [(order.pk, order.created_at) for order in orders]
    assert list(Order.objects.order_by("created_at").iterator(chunk_size=1)) == orders
