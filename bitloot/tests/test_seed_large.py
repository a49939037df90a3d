"""seed_large stores batches, each whole or not at all, and continues with those that are missing."""

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from orders.models import Order, OrderEvent
from payments.models import Payment, Refund
from storage.models import KeyDeliveryLog
from webhooks.choosing import found_by
from webhooks.models import WebhookLog


class Died(Exception):
    pass


def dying_in_the_second_batch():
    """Let the connection break when a batch's last table is written and another batch is there."""

    def wrapper(execute, sql, params, many, context):
        is_last = sql.replace('"', "").startswith(f"INSERT INTO {WebhookLog._meta.db_table}")
        if is_last and Order.objects.count() > 500:
            raise Died
        return execute(sql, params, many, context)

    return connection.execute_wrapper(wrapper)


def test_whole_batches_are_made_and_an_interrupted_run_is_continued(db, settings):
    settings.DEBUG = True
    with dying_in_the_second_batch(), pytest.raises(Died):
        call_command("seed_large", "--orders", "1000")
    kept = set(Order.objects.values_list("pk", flat=True))
    assert len(kept) == 500
    call_command("seed_large", "--orders", "1000")
    ended = Order.objects.filter(status__in=["fulfilled", "expired", "cancelled", "refunded"])
    assert kept < set(ended.values_list("pk", flat=True))
    assert (ended.count(), OrderEvent.objects.filter(order__in=ended).count()) == (1000, 5000)
    connection.check_constraints()

    before = Order.objects.count()
    call_command("seed_large", "--orders", "1000")
    assert Order.objects.count() == before
    check_that_rows_belong_together()


def check_that_rows_belong_together():
    delivery = KeyDeliveryLog.objects.select_related("key__item", "order").first()
    order = delivery.order
    payment = Payment.objects.get(order=order)
    assert delivery.key.item.order_id == order.pk
    assert delivery.customer_email == order.email == order.emails.first().to
    assert order.created_at < payment.created_at < payment.finished_at < order.fulfilled_at < delivery.key.viewed_at
    found = [log for condition in found_by(str(order.pk)) for log in WebhookLog.objects.filter(condition)]
    assert sorted(log.event_type for log in found) == ["confirming", "finished", "order.status"]
    assert all(log.external_id in bytes(log.body).decode() for log in found)
    assert len(Refund.objects.filter(status="done").first().address) == 42


def test_it_is_for_development(db, settings):
    settings.DEBUG = False
    with pytest.raises(CommandError, match="seed_large is for development"):
        call_command("seed_large")
    assert not Order.objects.exists()
