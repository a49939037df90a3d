"""Every decision of staff through its page: without its permission, twice, and by two at once.

Each has one effect with one line in the staff log, or none with a line that says so. What may be repeated by pressing a
button again (a look at a provider, a mail) is named.
"""

import itertools

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.db.models.functions import Now
from django.test import Client

from bitloot.core.admin.decisions import DecisionAdmin
from bitloot.core.decisions import SecretField
from bitloot.ops.customers import erase_customer
from bitloot.partners.models import ApiKey, Endpoint
from bitloot.tests.parallel import at_once
from bitloot.tests.staff import LISTS, button_of, list_of, make_rows, make_staff
from fulfillment.models import PriceChange, Reservation, SupplierStock
from orders.models import Approval, Email, Order, OrderItem, Product
from orders.tests.factories import make_order, make_product
from payments.models import Payment, Refund, RefundAddress
from payments.tests.factories import make_payment, make_refund_address
from storage.services import Opener, reveal, store_key
from webhooks.models import ReplayRun

pytestmark = pytest.mark.django_db

PAGES = [page for page in admin.site._registry.values() if isinstance(page, DecisionAdmin)]
DECISIONS = {
    f"{page.opts.model_name}.{decision.name}": (page, decision) for page in PAGES for decision in page.decisions
}
# Pressed again, they are done again, each time with its line: nothing moves by them that is not looked at again.
REPEATABLE = {
    "order.mail_fresh_link", "order.run_delivery", "payment.read_again", "reservation.run_now", "reservation.search",
    "reservation.resend_delivery", "endpoint.send-test", "webhooklog.replay",
}  # fmt: skip
TYPED = {
    "reason": "The customer asked for it.", "transaction_id": "f4184fc596403b9d", "address": "bc1qanother",
    "old_key": "keep", "email": "right@example.org", "requests_per_minute": "9", "unpaid_per_hour": "9",
    "url": "https://hooks.partner.example/new", "events": ["order.paid"],
}  # fmt: skip
NAME_OF = {label.partition(".")[2]: name for label, name in LISTS.items()}


def signed_in(*permissions, **fields):
    client = Client()
    client.user = make_staff(*permissions, **fields)
    client.force_login(client.user)
    return client


# --- a row that the decision is possible for


def no_refund(rows):
    Approval.objects.all().delete()
    RefundAddress.objects.all().delete()
    Refund.objects.all().delete()


def surplus(rows):
    return make_payment(make_order(status="fulfilled"), "finished", pay_amount=2, actually_paid=3)


def share(rows):
    """One key of two was delivered."""
    no_refund(rows)
    order = make_order(make_product(price="10.00"), quantity=2, status="held")
    store_key(item=order.items.get(), supplier_key_id="S-1", plaintext=b"S-1", content_type="text/plain")
    return make_payment(order, "finished", pay_amount=2, actually_paid=2)


def underpaid(rows):
    no_refund(rows)
    Order.objects.update(status="underpaid", paid_at=None)


def without_coins(rows):
    no_refund(rows)
    Payment.objects.update(actually_paid=0)


def codes_are_missing(rows):
    OrderItem.objects.update(quantity=2)
    Reservation.objects.update(status="held", supplier_order_id=None)


def delivered(rows):
    Order.objects.update(status="fulfilled", fulfilled_at=Now())
    Reservation.objects.update(status="delivered")


def two_addresses(rows):
    Refund.objects.update(transaction_id="", status="requested")
    for address in ("bc1qexample", "bc1qanother"):
        make_refund_address(rows.refund, address)


def priced(rows):
    Product.objects.update(platform=rows.rule.platform)
    known = {"price": 5, "quantity": 9, "text_quantity": 9, "asked_at": Now(), "seen_at": Now()}
    SupplierStock.objects.update_or_create(product=rows.item.product, defaults=known)


def ended_dry_run(rows):
    ReplayRun.objects.update(status="finished", wanted={"ids": [rows.log.pk]})


def approvable(rows):
    page = admin.site.get_model_admin(Payment)
    RefundAddress.objects.all().delete()
    Refund.objects.all().delete()
    Approval.objects.update(digest=page.digest(Payment.objects.get(pk=rows.payment.pk)))


PREPARED = {
    "order.cancel": lambda rows: make_order(),
    "order.deliver-by-hand": codes_are_missing,
    "payment.refund": no_refund, "payment.accept": underpaid, "payment.ask": underpaid, "payment.end": without_coins,
    "payment.refund-surplus": surplus, "payment.refund-share": share,
    "refund.sent": two_addresses, "refund.sent-elsewhere": two_addresses,
    "key.replace-by-hand": delivered, "key.rebuy": delivered, "key.shred": delivered,
    "pricerule.apply": priced, "replayrun.replay_these": ended_dry_run, "approval.approve": approvable,
}  # fmt: skip


def possible(name, rows):
    """Return a row for which the decision is possible, in the first state of all in which it is."""
    page, decision = DECISIONS[name]
    row = PREPARED.get(name, lambda rows: None)(rows) or getattr(rows, NAME_OF[page.opts.model_name])
    model = type(row)
    statuses = model.Status.values if hasattr(model, "Status") else [None]
    for status, variation in itertools.product([None, *statuses], VARIATIONS.get(model, [{}])):
        fields = {**variation, **({"status": status} if status else {})}
        if fields:
            model.objects.filter(pk=row.pk).update(**fields)
        fresh = model.objects.get(pk=row.pk)
        if decision.objection(fresh) is None:
            return fresh
    raise AssertionError(f"no state of a {model.__name__} lets staff take “{decision.label}”")


VARIATIONS = {
    Order: [{}, {"reason": "held_by_staff"}],
    Endpoint: [{}, {"is_enabled": False}],
    Reservation: [{}, {"supplier_order_id": None}],
}


def typed(decision, row):
    form = decision.form_for(row) if decision.form_for else decision.form
    if form is None:
        return {}
    initial = dict(decision.initial(row)) if decision.initial else {}
    secret = {name: f"CODE-{name}" for name, field in form.base_fields.items() if isinstance(field, SecretField)}
    known = {name: TYPED[name] for name in form.base_fields if name in TYPED}
    return {name: value for name, value in {**initial, **known, **secret}.items() if value is not None}


def decide(client, row, decision, seen):
    sent = {**typed(decision, row), **({"seen": seen} if seen else {})}
    return client.post(button_of(row, decision.name), sent)


def seen_by(client, row, decision):
    asks = decision.form is not None or decision.form_for is not None
    return client.get(button_of(row, decision.name)).context["seen"] if asks else ""


def lines(row):
    return LogEntry.objects.filter(object_id=str(row.pk))


# --- the three promises


@pytest.mark.once
@pytest.mark.parametrize("name", DECISIONS)
def test_without_the_permission_nothing_happens_and_a_line_says_so(name):
    page, decision = DECISIONS[name]
    row = possible(name, make_rows())
    before = type(row).objects.filter(pk=row.pk).values().get()
    viewer = signed_in(f"{page.opts.app_label}.view_{page.opts.model_name}")
    assert decide(viewer, row, decision, "anything").status_code == 403
    assert lines(row).get().change_message == f"Refused “{decision.label}”: no permission."
    assert type(row).objects.filter(pk=row.pk).values().get() == before


@pytest.mark.once
@pytest.mark.parametrize("name", DECISIONS)
def test_sent_twice_it_has_one_effect_and_one_line(name):
    _, decision = DECISIONS[name]
    row, boss = possible(name, make_rows()), signed_in(superuser=True)
    seen = seen_by(boss, row, decision)
    for _ in range(2):
        assert decide(boss, row, decision, seen).status_code == 302
    assert lines(row).count() in ((1, 2) if name in REPEATABLE else (1,))


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", DECISIONS)
def test_of_two_at_once_one_has_its_effect_and_its_line(name):
    _, decision = DECISIONS[name]
    row, staff = possible(name, make_rows()), [signed_in(superuser=True), signed_in(superuser=True)]
    seen = seen_by(staff[0], row, decision)
    answers = at_once(*(lambda client=client: decide(client, row, decision, seen) for client in staff))
    assert [answer.status_code for answer in answers] == [302, 302]
    assert lines(row).count() in ((1, 2) if name in REPEATABLE else (1,))


# --- what is no decision about one row


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_of_two_who_reprice_the_same_products_at_once_one_does():
    rows = make_rows()
    priced(rows)
    staff = [signed_in(superuser=True), signed_in(superuser=True)]
    asked = {"action": "reprice", "_selected_action": [str(rows.product.pk)], "rule": rows.rule.pk}
    url = list_of("orders.product")
    seen = staff[0].post(url, asked).context["seen"]
    at_once(*(lambda client=client: client.post(url, {**asked, "seen": seen}) for client in staff))
    assert PriceChange.objects.filter(rule=rows.rule.name).count() == 1
    assert lines(rows.product).count() == 1


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_of_two_who_renew_one_api_key_at_once_one_does():
    rows, staff = make_rows(), [signed_in(superuser=True), signed_in(superuser=True)]
    url = f"/admin/partners/apikey/{rows.api_key.pk}/renew/"
    sent = {"hours": 24, "seen": staff[0].get(url).context["form"]["seen"].value()}
    answers = at_once(*(lambda client=client: client.post(url, sent) for client in staff))
    assert sorted(answer.status_code for answer in answers) == [200, 302]
    assert lines(rows.api_key).count() == 1
    assert ApiKey.objects.get(pk=rows.api_key.pk).earlier_digest == rows.api_key.digest


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_key_that_is_opened_while_its_customer_is_erased_opens_and_leaves_no_address():
    by = Opener("api", 1, "203.0.113.0/24")
    for number in range(10):
        order = make_order(email=f"kim{number}@customer.example")
        key = store_key(
            item=order.items.get(), supplier_key_id=f"S-{number}", plaintext=b"S-%d" % number, content_type="text/plain"
        )
        Order.objects.filter(pk=order.pk).update(status="fulfilled")
        at_once(
            lambda order=order, key=key: reveal(order=order, keys=[key], by=by),
            lambda order=order: erase_customer(order.email, actor="kim"),
        )
        assert not Email.objects.filter(to=order.email).exists()
        assert order.emails.filter(kind="key_opened").count() <= 1
