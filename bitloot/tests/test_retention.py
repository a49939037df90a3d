"""What is forgotten, when, and what stays: `prune`, `export_customer`, `erase_customer`, as an operator uses them."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import BytesIO, StringIO

import pytest
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth import get_user_model
from django.contrib.contenttypes.models import ContentType
from django.core import mail as outbox
from django.core.files.storage import storages
from django.core.management import call_command
from django.db import connection, transaction
from django.db.models.functions import Now
from PIL import Image

from bitloot.ops import retention
from bitloot.ops.customers import erase_customer
from bitloot.partners.models import OutgoingWebhook
from bitloot.partners.tests.factories import make_endpoint
from bitloot.tests.commands import run
from bitloot.tests.parallel import at_once, somebody_waits_for_a_lock
from bitloot.tests.s3server import find_weed, running_s3
from bitloot.tests.services import Missing, in_ci
from orders import covers
from orders.choices import AlertKind
from orders.decisions import correct_email, send_again
from orders.erasure import erase_address, is_erased
from orders.models import Alert, Approval, Email, Order, OrderEvent, Product
from orders.tasks import drain_mails
from orders.tests.factories import make_email, make_order, make_product
from payments.models import Payment, Refund
from payments.tests.factories import make_payment, make_refund_address
from storage import services
from storage.models import KeyAccess, KeyDeliveryLog
from storage.tests.factories import OPENER, SERIAL, make_item, make_key
from webhooks.models import WebhookLog
from webhooks.services import store
from webhooks.tests.factories import make_log, received

pytestmark = pytest.mark.django_db
ADDRESS = "Kim.Customer@example.org"


@pytest.fixture(autouse=True)
def operator(monkeypatch):
    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.setenv("USER", "kim")


def pruned(*options):
    code, out, _ = run("prune", "--json", *options)
    assert code == 0
    return {name: entry["rows"] for name, entry in json.loads(out)["pruned"].items() if entry["rows"]}


def age(model, days, column, **which):
    model.objects.filter(**which).update(**{column: Now() - timedelta(days=days)})


def old_log(days=91, **fields):
    log = make_log()
    WebhookLog.objects.filter(pk=log.pk).update(
        **{"status": "processed", "next_attempt_at": None, "received_at": Now() - timedelta(days=days), **fields}
    )
    return log


def test_a_webhook_that_was_sent_is_forgotten_once_it_has_ended():
    endpoint = make_endpoint()
    rows = [OutgoingWebhook.objects.create(endpoint=endpoint, event="webhook.test", body="{}") for _ in range(3)]
    age(OutgoingWebhook, 91, "created_at")
    OutgoingWebhook.objects.exclude(pk=rows[0].pk).update(status="delivered", next_attempt_at=None)
    OutgoingWebhook.objects.filter(pk=rows[1].pk).update(created_at=Now())
    assert pruned() == {"outgoing_webhooks": 1}
    assert {row.pk for row in OutgoingWebhook.objects.all()} == {rows[0].pk, rows[1].pk}


def unpaid(days=31, status="expired", **fields):
    order = make_order(email=ADDRESS, status=status, **fields)
    moment = Now() - timedelta(days=days)
    Order.objects.filter(pk=order.pk).update(created_at=moment, expires_at=moment)
    return order


# --- bodies of webhooks ---


def test_a_body_is_forgotten_and_its_row_stays():
    log = old_log()
    digest = bytes(log.body_sha256)
    assert pruned() == {"webhook_bodies": 1}
    log.refresh_from_db()
    assert (bytes(log.body), log.headers, bytes(log.body_sha256)) == (b"", {}, digest)
    assert (log.external_id, log.status, log.is_body_forgotten) == ("5077125051", "processed", True)
    assert pruned() == {}


@pytest.mark.parametrize(
    "fields",
    [{"received_at": Now() - timedelta(days=89)}, {"status": "failed"}, {"next_attempt_at": Now()}],
    ids=["young", "failed", "due again"],
)
def test_a_body_that_may_be_needed_is_kept(fields):
    log = old_log(**fields)
    assert pruned() == {}
    log.refresh_from_db()
    assert log.body


def test_the_same_webhook_after_its_body_was_forgotten_is_only_counted():
    """Handling it would fail for its missing body, or record over what was done."""
    log = old_log(status="ignored")
    pruned()
    store(received())
    log.refresh_from_db()
    assert (log.status, log.repeats, log.next_attempt_at) == ("ignored", 1, None)


# --- addresses of orders nobody paid ---


def test_the_address_of_an_order_nobody_paid_is_forgotten():
    order = unpaid()
    correct_email(order, actor="kim", email="new@example.org", reason="a typing error")
    Email.objects.update(status="sent", next_attempt_at=None)
    assert pruned() == {"unpaid_emails": 1}
    order.refresh_from_db()
    assert is_erased(order.email)
    assert {mail.to for mail in order.emails.all()} == {order.email}
    written = " ".join(order.events.values_list("message", flat=True)).lower()
    assert [address in written for address in (ADDRESS.lower(), "new@example.org", order.email)] == [False, False, True]
    assert pruned() == {}


@pytest.mark.parametrize("status", sorted(set(Order.Status.values) - {"expired", "cancelled"}))
def test_the_address_of_any_other_order_is_kept(status):
    unpaid(status=status)
    assert pruned() == {}


@pytest.mark.parametrize(
    "fields",
    [{"status": "review"}, {"status": "waiting"}, {"status": "expired", "actually_paid": Decimal("0.0001")}],
    ids=["in review", "still open", "coins came"],
)
def test_the_address_of_an_order_that_money_came_for_is_kept(fields):
    make_payment(unpaid(), next_attempt_at=None, **fields)
    assert pruned() == {}


def test_coins_that_come_just_now_keep_the_address():
    """The batch was chosen before they came; under the order's lock it is looked at again."""
    order = unpaid()
    payment = make_payment(order, status="expired", next_attempt_at=None)
    reads = []

    def coins_come(execute, sql, params, many, context):
        if sql.startswith("SELECT") and 'FROM "orders_order"' in sql:
            reads.append(sql)
            if len(reads) == 3:  # two chose and locked the batch
                Payment.objects.filter(pk=payment.pk).update(actually_paid=1)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(coins_come):
        assert sum(retention.RULES[1].prune()) == 0
    order.refresh_from_db()
    assert order.email == ADDRESS


def test_a_mail_to_an_erased_address_does_not_leave():
    order = unpaid()
    pruned()
    order.refresh_from_db()
    Email.objects.all().delete()
    row = make_email("problem", order=order, reason="Late coins came.")
    drain_mails()
    row.refresh_from_db()
    assert (row.status, row.error, outbox.outbox) == ("failed", "The customer's address was erased.", [])
    assert Alert.objects.get().kind == AlertKind.MAIL_FAILED


# --- mails and openings of keys ---


def test_old_mails_of_orders_that_ended_are_forgotten():
    ended, still_open = make_order(status="fulfilled"), make_order(status="held")
    Email.objects.all().delete()
    young = make_email(order=ended, status="sent", next_attempt_at=None)
    old = [
        make_email(order=order, status=status, next_attempt_at=None)
        for order in (ended, still_open)
        for status in ("sent", "failed")
    ]
    age(Email, 366, "created_at", pk__in=[mail.pk for mail in old])
    assert pruned() == {"mails": 2}
    assert set(Email.objects.values_list("pk", flat=True)) == {young.pk, *(mail.pk for mail in old[2:])}


def test_a_failed_mail_that_staff_have_to_look_at_is_kept():
    order = make_order(status="fulfilled")
    Email.objects.all().delete()
    mail = make_email(order=order, status="failed", next_attempt_at=None)
    Alert.objects.create(kind=AlertKind.MAIL_FAILED, message="x", **Alert.key_of(mail))
    age(Email, 366, "created_at")
    assert pruned() == {}


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_a_mail_that_staff_queue_again_at_the_same_moment_is_kept():
    mail = make_email(order=make_order(status="fulfilled"), status="failed", next_attempt_at=None)
    age(Email, 366, "created_at")
    with ThreadPoolExecutor(1) as thread:
        with transaction.atomic():
            send_again(mail, actor="kim")
            done = thread.submit(at_once, lambda: retention.prune_all(of_owner=True))
            somebody_waits_for_a_lock()
        done.result()
    assert Email.objects.get(pk=mail.pk).status == "queued"


def test_old_openings_are_forgotten_and_the_customer_is_not_told_of_a_first_one_again():
    key = make_key()
    services.reveal(order=key.item.order, keys=[key], by=OPENER)
    age(KeyAccess, 366, "at")
    assert pruned() == {"key_accesses": 1}
    services.reveal(order=key.item.order, keys=[key], by=OPENER)
    assert Email.objects.filter(kind=Email.Kind.KEY_OPENED).count() == 1


# --- the command ---


def test_a_dry_run_counts_and_changes_nothing():
    old_log()
    unpaid()
    assert pruned("--dry-run") == {"webhook_bodies": 1, "unpaid_emails": 1}
    assert pruned("--only", "webhook_bodies") == {"webhook_bodies": 1}
    assert pruned("--dry-run") == {"unpaid_emails": 1}


def test_prune_says_what_it_did():
    unpaid()
    code, out, _ = run("prune", "--only", "unpaid_emails")
    assert (code, out) == (0, "Forgotten: 1 addresses of orders nobody paid, after 30 days.\n")


def test_never_keeps(settings):
    settings.UNPAID_EMAIL_RETENTION_DAYS = 36_500
    unpaid(days=400)
    assert pruned() == {}


def test_a_batch_that_fails_leaves_those_before_it_done():
    orders = [unpaid() for _ in range(3)]
    batches = next(rule for rule in retention.RULES if rule.name == "unpaid_emails").prune(batch=1)
    next(batches)
    batches.close()
    assert sum(is_erased(order.email) for order in Order.objects.filter(pk__in=[o.pk for o in orders])) == 1
    assert pruned("--batch", "1") == {"unpaid_emails": 2}


def test_a_batch_has_to_be_a_number_above_nothing():
    assert run("prune", "--batch", "0")[0] == 64


# --- covers ---


def picture(color):
    file = BytesIO()
    Image.new("RGB", (30, 40), color).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(params=["files", "s3"])
def cover_store(request, settings, tmp_path):
    """Where covers are: files, or a real S3 server that checks signatures."""
    place = {"BACKEND": "storage.objects.EmbeddedFiles", "OPTIONS": {"location": tmp_path}}
    if request.param == "s3":
        place = {"BACKEND": "storage.r2.R2Files", "OPTIONS": request.getfixturevalue("r2_options")}
    settings.STORAGES = {**settings.STORAGES, "covers": place}
    return storages["covers"]


@pytest.fixture(scope="module")
def r2_options():
    try:
        find_weed()
    except Missing as err:
        (pytest.fail if in_ci() else pytest.skip)(str(err))
    with running_s3() as server:
        yield {
            "bucket_name": server.bucket, "endpoint_url": server.endpoint, "access_key": server.access_key,
            "secret_key": server.secret_key,
        }  # fmt: skip


def kept(store):
    return sorted({name.partition("-")[0] for name in store.listdir("covers")[1]})


def days_pass(monkeypatch, days):
    """Look at the covers as if it were later: the time of an object cannot be moved."""
    monkeypatch.setattr(retention.timezone, "now", lambda: datetime.now(UTC) + timedelta(days=days))


def test_covers_that_no_product_has_are_removed_after_a_day(cover_store, monkeypatch):
    sold, replaced, gone = (covers.keep(picture(color)) for color in ("red", "green", "blue"))
    product, other = make_product(picture=replaced), make_product(picture=sold)
    make_product(picture=gone).delete()
    Product.objects.filter(pk=product.pk).update(picture=sold)
    assert pruned() == {}  # an upload may still be on its way to its product
    days_pass(monkeypatch, 1.01)
    assert pruned("--dry-run") == {"covers": 4}
    assert kept(cover_store) == sorted([sold, replaced, gone])
    assert pruned("--only", "covers") == {"covers": 4}
    assert kept(cover_store) == [sold]
    assert pruned() == {}
    assert other.picture == sold


def test_a_cover_that_is_kept_again_is_young_again(cover_store):
    """Otherwise it could be removed between its upload and its product."""
    name = f"covers/{covers.keep(picture('red'))}-800.webp"
    before = cover_store.get_modified_time(name)
    time.sleep(1.1)  # S3 counts seconds
    covers.keep(picture("red"))
    assert cover_store.get_modified_time(name) > before


def test_without_a_cover_there_is_nothing_to_look_at(settings, tmp_path):
    place = {"BACKEND": "storage.objects.EmbeddedFiles", "OPTIONS": {"location": tmp_path}}
    settings.STORAGES = {**settings.STORAGES, "covers": place}
    assert pruned() == {}


def test_a_silent_object_store_keeps_nothing_else_from_being_forgotten(settings):
    options = {"bucket_name": "b", "endpoint_url": "http://127.0.0.1:9", "access_key": "a", "secret_key": "b"}
    settings.STORAGES = {**settings.STORAGES, "covers": {"BACKEND": "storage.r2.R2Files", "OPTIONS": options}}
    unpaid()
    code, out, err = run("prune", "--json")
    assert code == 1
    assert json.loads(out)["pruned"]["unpaid_emails"]["rows"] == 1
    assert "Not all done: files of covers that no product has: list:" in err


def test_the_worker_with_the_small_role_takes_the_covers_only(settings, tmp_path, monkeypatch):
    place = {"BACKEND": "storage.objects.EmbeddedFiles", "OPTIONS": {"location": tmp_path}}
    settings.STORAGES = {**settings.STORAGES, "covers": place}
    covers.keep(picture("red"))
    unpaid()
    days_pass(monkeypatch, 2)
    assert retention.prune_all(of_owner=False) == {"covers": 2}
    assert retention.prune_all(of_owner=True)["unpaid_emails"] == 1


# --- a customer ---


@pytest.fixture
def customer():
    """A delivered order that had another address before, with a refund of what was too much."""
    order = make_order(email="old@example.org")
    correct_email(order, actor="kim", email=ADDRESS, reason="the customer asked")
    order.mark_paid(message="Paid in full.")
    Order.objects.filter(pk=order.pk).update(status="fulfilled")
    order.refresh_from_db()
    payment = make_payment(order, status="finished", actually_paid=1, next_attempt_at=None)
    refund = Refund.objects.create(order=order, payment=payment, status="done", amount=1, currency="btc", reason="x")
    make_refund_address(refund)
    refund.addresses.update(client="198.51.100.0/24")
    key = make_key(make_item(order=order))
    services.reveal(order=order, keys=[key], by=OPENER)
    user = get_user_model().objects.create(username="staff")
    LogEntry.objects.create(
        user=user, content_type=ContentType.objects.get_for_model(Order), object_id=str(order.pk),
        object_repr=str(order), action_flag=CHANGE, change_message=f"Correct the e-mail address. {ADDRESS}. asked",
    )  # fmt: skip
    Email.objects.filter(order=order).update(status="sent", next_attempt_at=None)
    return order


def test_an_export_has_everything_but_the_keys(customer):
    code, out, _ = run("export_customer", ADDRESS.upper())
    (order,) = json.loads(out)["orders"]
    assert code == 0
    assert (order["id"], order["email"], order["status"]) == (str(customer.pk), ADDRESS, "fulfilled")
    assert {name: len(rows) for name, rows in order.items() if isinstance(rows, list)} == {
        "items": 2, "timeline": OrderEvent.objects.filter(order=customer).count(), "payments": 1, "refunds": 1,
        "refund_addresses": 1, "mails": Email.objects.filter(order=customer).count(), "keys": 1, "deliveries": 1,
        "key_accesses": 1,
    }  # fmt: skip
    assert order["payments"][0]["price_amount"] == "24.99"
    assert SERIAL.decode() not in out
    assert not {"wrapped_data_key", "ciphertext", "nonce", "link_generation"} & set(out.replace('"', " ").split())


def test_an_export_of_an_earlier_address_shows_only_what_was_written_there(customer):
    code, out, _ = run("export_customer", "old@example.org")
    document = json.loads(out)
    assert (code, document["orders"]) == (0, [])
    assert {mail["to"] for mail in document["other_mails"]} == {"old@example.org"}


def test_nobody_is_known_by_an_address_that_was_never_used():
    code, _, complaint = run("export_customer", "nobody@example.org")
    assert (code, complaint) == (1, "Nothing is kept about nobody@example.org.")


def everything():
    """Every text of every table, as one would find it in a copy of the database."""
    out = StringIO()
    call_command("dumpdata", stdout=out)
    return out.getvalue().lower()


def test_erasing_leaves_no_trace_of_the_customer(customer):
    before = everything()
    assert all(trace in before for trace in (ADDRESS.lower(), "old@example.org", "198.51.100", OPENER.network))
    assert run("erase_customer", ADDRESS.upper())[:2] == (0, "Erased: the address of 1 orders.\n")
    after = everything()
    for trace in (ADDRESS.lower(), "old@example.org", "198.51.100", OPENER.network):
        assert trace not in after, trace
    delivery = KeyDeliveryLog.objects.get()
    customer.refresh_from_db()
    assert is_erased(customer.email)
    assert (delivery.customer_email, delivery.times_accessed) == (customer.email, 1)
    assert customer.events.last().actor == "kim"
    assert run("erase_customer", ADDRESS)[:2] == (0, "Erased: the address of 0 orders.\n")


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_erasing_waits_for_an_order_of_another_address_before_it_locks_its_rows():
    """Whoever opens a key holds its order and then wants the delivery: each would wait for the other."""
    order = make_key(item=make_item(email="old@example.org")).item.order
    correct_email(order, actor="kim", email="new@example.org", reason="mistyped")
    with ThreadPoolExecutor(1) as thread:
        with transaction.atomic():
            order.lock()
            erased = thread.submit(at_once, lambda: erase_customer("old@example.org", actor="kim"))
            somebody_waits_for_a_lock()
            assert KeyDeliveryLog.objects.select_for_update(nowait=True).get().customer_email == "old@example.org"
        assert erased.result() == [0]
    assert "old@example.org" not in everything()


def test_erasing_leaves_the_books_as_they_were(customer):
    books = run("reconcile", "--json")
    run("erase_customer", ADDRESS)
    assert run("reconcile", "--json") == books


@pytest.mark.parametrize("status", sorted(set(Order.Status.values) - set(retention.ENDED)))
def test_nothing_is_erased_while_an_order_is_open(status, customer):
    make_order(email=ADDRESS, status=status)
    before = everything()
    code, out, complaint = run("erase_customer", ADDRESS, "--json")
    assert (code, json.loads(out)["ok"]) == (1, False)
    assert complaint.startswith("Nothing was erased. ")
    assert everything() == before


def test_nothing_is_erased_while_money_may_come_or_go(customer):
    Refund.objects.update(status="sent")
    assert "has not arrived yet" in run("erase_customer", ADDRESS)[2]
    Refund.objects.update(status="done")
    Payment.objects.update(next_attempt_at=Now())
    assert "Money may still come" in run("erase_customer", ADDRESS)[2]


def asked_to_correct(order, email):
    """Let a correction of the address wait for a second member of staff."""
    about = {"order": order, "about_model": "orders.order", "about_pk": str(order.pk), "decision": "correct-email"}
    user = get_user_model().objects.create(username="grace")
    fields = {"email": email, "reason": f"{email} is right"}
    return Approval.objects.create(**about, label="Correct", fields=fields, digest="", requested_by=user)


def test_nothing_is_erased_while_a_correction_of_its_address_waits(customer):
    asked = asked_to_correct(customer, "right@example.org")
    assert "waits for a second member of staff" in run("erase_customer", ADDRESS)[2]
    Approval.objects.filter(pk=asked.pk).update(status="declined")
    assert run("erase_customer", ADDRESS)[0] == 0


def test_an_address_that_a_declined_correction_named_is_erased(customer):
    asked = asked_to_correct(customer, "right@example.org")
    Approval.objects.filter(pk=asked.pk).update(status="declined")
    assert run("erase_customer", "Right@example.org")[0] == 0
    assert "right@example.org" not in everything()


def test_a_dry_run_erases_nothing(customer):
    before = everything()
    assert run("erase_customer", ADDRESS, "--dry-run")[1] == "To be erased: the address of 1 orders.\n"
    assert everything() == before


def test_erasing_an_address_leaves_others_that_hold_it_in_one_piece():
    order = make_order(email="ada@example.org", status="expired")
    others = "nada@example.org, ada@example.org.uk, x-ada@example.org"
    order.note("staff", f"To {others}, ADA@example.org and <ada@example.org>.")
    erase_address(order, stand_in="gone@erased.invalid")
    said = order.events.get(kind="staff").message
    assert said == f"To {others}, gone@erased.invalid and <gone@erased.invalid>."


def test_an_address_is_erased_in_what_was_typed_however_it_is_written():
    order = make_order(email='"ada"@example.org', status="expired")
    typed = {"reason": 'She wrote:\n"ada"@example.org', "amount": "5", "sure": True}
    user = get_user_model().objects.create(username="kim")
    about = {"order": order, "about_model": "orders.order", "about_pk": str(order.pk), "decision": "cancel"}
    approval = Approval.objects.create(**about, label="Cancel", fields=typed, digest="", requested_by=user)
    erase_address(order, stand_in="gone@erased.invalid")
    approval.refresh_from_db()
    assert approval.fields == {"reason": "She wrote:\ngone@erased.invalid", "amount": "5", "sure": True}
