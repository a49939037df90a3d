"""Staff with the permissions that a test needs, and one order with a row of every model hanging on it."""

import itertools
from decimal import Decimal
from types import SimpleNamespace

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.urls import reverse

from bitloot.evidence.models import PageVersion
from bitloot.partners.models import OutgoingWebhook
from bitloot.partners.tests.factories import make_endpoint
from bitloot.partners.tests.factories import make_key as make_api_key
from fulfillment.models import (
    ForeignPurchase,
    PriceChange,
    PriceRule,
    Reservation,
    ReservationAttempt,
    SupplierCall,
    SupplierGate,
    SupplierStock,
)
from orders.alerts import raise_alert
from orders.models import AccessCode, AlertChannel, Approval, Email, IdempotencyRecord, Notification
from orders.tests.factories import make_paid_order, make_product
from payments.models import Coin, Payment, Refund, RefundAddress
from storage.models import KeyAccess, KeyDeliveryLog
from storage.services import store_key
from webhooks.models import Replay, ReplayRun, WebhookAttempt
from webhooks.tests.factories import ipn, make_log

SERIAL = b"CANARY-KKKK-LLLL-MMMM"
ADDRESS = "bc1qexampleexampleexampleexampleexampleee"
# Each list with the name of its row in make_rows.
LISTS = {
    "orders.product": "product",
    "orders.order": "order",
    "orders.orderitem": "item",
    "orders.orderevent": "event",
    "orders.email": "email",
    "orders.alert": "alert",
    "orders.approval": "approval",
    "orders.idempotencyrecord": "record",
    "orders.notification": "notification",
    "orders.alertchannel": "channel",
    "orders.accesscode": "code",
    "payments.coin": "coin",
    "payments.payment": "payment",
    "payments.refund": "refund",
    "payments.refundaddress": "refund_address",
    "fulfillment.reservation": "reservation",
    "fulfillment.reservationattempt": "permit",
    "fulfillment.suppliercall": "call",
    "fulfillment.suppliergate": "gate",
    "fulfillment.supplierstock": "stock",
    "fulfillment.foreignpurchase": "foreign",
    "fulfillment.pricerule": "rule",
    "fulfillment.pricechange": "price_change",
    "storage.key": "key",
    "storage.keydeliverylog": "delivery",
    "storage.keyaccess": "access",
    "webhooks.webhooklog": "log",
    "partners.apikey": "api_key",
    "partners.endpoint": "endpoint",
    "partners.outgoingwebhook": "outgoing",
    "webhooks.webhookattempt": "attempt",
    "webhooks.replayrun": "run",
    "webhooks.replay": "replay",
    "evidence.pageversion": "page_version",
}
_numbers = itertools.count(1)


def make_staff(*permissions, superuser=False, password=None):
    """Make a login for the admin with permissions like "orders.view_order"."""
    name = f"staff{next(_numbers)}"
    user = get_user_model().objects.create_user(name, password=password, is_staff=True)
    user.is_superuser = superuser
    user.save()
    for permission in permissions:
        app, _, codename = permission.partition(".")
        user.user_permissions.add(Permission.objects.get(content_type__app_label=app, codename=codename))
    return user


def make_rows(title="Ember Drift", **order_fields):
    """Make an order and one row of every model about it."""
    number = next(_numbers)
    product = make_product(title=title)
    order = make_paid_order(product, email=f"kim{number}@customer.example", **order_fields)
    item = order.items.get()
    payment = Payment.objects.create(
        order=order, external_id=str(5_077_125_000 + number), status="finished", price_amount=order.total,
        price_currency="eur", pay_currency="btc", pay_amount=Decimal("0.00123"), actually_paid=Decimal("0.00123"),
        pay_address=f"{ADDRESS}{number}", payin_extra_id=f"{number:09}", evidence={"status": "finished"},
    )  # fmt: skip
    reservation = Reservation.objects.get(item=item)
    Reservation.objects.filter(pk=reservation.pk).update(supplier_order_id=f"SUPPLIER{number}")
    reservation.refresh_from_db()
    key = store_key(
        item=item, supplier_key_id=f"ecommerce:{number}", plaintext=SERIAL + b"-%d" % number, content_type="text/plain"
    )
    refund = Refund.objects.create(
        order=order, payment=payment, amount=Decimal("0.001"), currency="btc", transaction_id=f"tx{number:062}",
        reason=title,
    )  # fmt: skip
    api_key, _ = make_api_key(name=title)
    endpoint = make_endpoint(key=api_key)
    alert = raise_alert("payment_review", payment, f"{title} needs attention.", order=order)
    log = make_log(body=ipn(payment_id=int(payment.external_id), title=title), external_id=payment.external_id)
    run = ReplayRun.objects.create(
        is_dry=True, wanted={"search": title}, digest=f"{number:064}", actor=title, total=1, ends_with=log.pk
    )
    replay = Replay.objects.create(log=log, run=run, actor=title, verdict="would_change", text=title)
    return SimpleNamespace(
        product=product, order=order, item=item, payment=payment, reservation=reservation, key=key,
        event=order.events.first(),
        email=Email.objects.create(order=order, kind="delayed", to=order.email, facts={"title": title}),
        approval=Approval.objects.create(
            order=order, about_model="payments.payment", about_pk=str(payment.pk), decision="refund",
            label="Refund all", fields={"reason": title}, digest="0" * 64, requested_by=make_staff(),
        ),
        alert=alert,
        notification=Notification.objects.create(alert=alert, channel=f"json {number}", error=title),
        channel=AlertChannel.objects.create(name=f"json {number}", error=title),
        record=IdempotencyRecord.objects.create(
            route="orders", key=f"secret-idempotency-{number}", body_sha256="0" * 64, object_id=order.pk
        ),
        code=AccessCode.objects.create(order=order, kind="mail"),
        coin=Coin.objects.create(code=f"coin{number}", name=title),
        refund=refund,
        refund_address=RefundAddress.objects.create(
            refund=refund, address=f"theirs{number}", extra_id=f"memo{number}", client="192.0.2.0/24"
        ),
        permit=ReservationAttempt.objects.create(reservation=reservation, number=1, detail=title),
        call=SupplierCall.objects.create(
            reservation=reservation, call="quote", outcome="ok", milliseconds=7, detail=title
        ),
        foreign=ForeignPurchase.objects.create(
            supplier_order_id=f"FOREIGN{number}", reason=title, acknowledged_by="kim"
        ),
        stock=SupplierStock.objects.create(product=product, quantity=number),
        rule=PriceRule.objects.create(name=f"{title} {number}", platform=f"Platform {number}", margin=20),
        price_change=PriceChange.objects.create(product=product, actor="kim", rule=title, new_price=product.price),
        gate=SupplierGate.objects.create(host=f"supplier{number}.example", reason=title),
        delivery=KeyDeliveryLog.objects.get(key=key),
        access=KeyAccess.objects.create(key=key, order=order, token="mail", generation=1, network="203.0.113.0/24"),
        api_key=api_key,
        endpoint=endpoint,
        outgoing=OutgoingWebhook.objects.create(endpoint=endpoint, order=order, event="order.paid", body="{}"),
        log=log, run=run, replay=replay,
        page_version=PageVersion.objects.create(url=f"/page{number}", text=title, sha256=f"{number:064}"),
        attempt=WebhookAttempt.objects.create(log=log, verdict="failed", text=title, replay=replay),
    )  # fmt: skip


def list_of(name, **query):
    return reverse(f"admin:{name.replace('.', '_')}_changelist", query=query or None)


def page_of(row):
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])


def button_of(row, name):
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_decide", args=[row.pk, name])


def press(client, row, name):
    """Press a button of the row's page; return the messages that the next page shows."""
    answer = client.post(button_of(row, name), follow=True)
    assert answer.status_code == 200, answer.content
    return [str(message) for message in answer.context["messages"]]


def do(client, name, action, *rows, **fields):
    """Run an action on rows of a list; return the messages that the next page shows."""
    ticked = {"action": action, "_selected_action": [str(row.pk) for row in rows], "index": "0"}
    answer = client.post(list_of(name), {**ticked, **fields}, follow=True)
    assert answer.status_code == 200, answer.content
    return [str(message) for message in answer.context["messages"]]


def text(answer):
    return answer.content.decode()
