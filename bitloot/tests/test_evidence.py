"""The evidence about an order: complete, chained, on paper as well, and without anything that opens a key."""

import copy
import json
import re
import zlib
from base64 import a85decode
from hashlib import sha256
from threading import Thread

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.flatpages.models import FlatPage
from django.db import connection
from django.urls import reverse
from django.utils.html import strip_tags

from bitloot.evidence.chain import problems
from bitloot.evidence.models import PageVersion
from bitloot.evidence.pack import pack_of
from bitloot.evidence.pdf import pdf_of
from bitloot.evidence.terms import keep_texts
from bitloot.tasks import look_around
from bitloot.tests.staff import SERIAL, do, make_rows, make_staff, page_of
from orders.access import make_token
from orders.decisions import HOLD
from orders.models import Order
from orders.tests.factories import make_order
from payments.models import Payment
from storage.models import Key

pytestmark = pytest.mark.django_db


@pytest.fixture
def rows():
    return make_rows(title="Ember & Drift → żółć 星")


@pytest.fixture
def pack(rows):
    return pack_of(rows.order, actor="kim")


def on_paper(pdf):
    """The text that the PDF draws, page by page, as its fonts are coded."""
    streams = re.findall(rb"stream\r?\n(.*?)endstream", pdf, re.S)
    drawn = b""
    for stream in streams:
        try:
            drawn += zlib.decompress(a85decode(stream.strip().removesuffix(b"~>")))
        except (ValueError, zlib.error):
            continue
    return drawn


def test_pack_holds_what_a_dispute_is_about(rows, pack):
    found = {entry["kind"] for entry in pack["entries"]}
    assert found == {
        "pack", "order", "item", "event", "payment", "refund", "refund_address", "mail", "purchase",
        "purchase_attempt", "supplier_call", "key", "delivery", "reveal", "webhook", "terms",
    }  # fmt: skip
    payment = next(entry for entry in pack["entries"] if entry["kind"] == "payment")
    assert payment["facts"]["pay_amount"] == payment["facts"]["actually_paid"] == "0.00123"
    assert payment["facts"]["pay_address"] == rows.payment.pay_address
    moments = [entry["at"] for entry in pack["entries"][1:]]
    assert moments == sorted(moments)


def test_decisions_of_staff_are_in_it(rows, client):
    client.force_login(make_staff("orders.view_order", HOLD.permission))
    url = reverse("admin:orders_order_decide", args=[rows.order.pk, "hold"])
    client.post(url, {"seen": client.get(url).context["seen"], "reason": "The bank called."})
    pack = pack_of(rows.order, actor="kim")
    (decision,) = [entry["facts"] for entry in pack["entries"] if entry["kind"] == "decision"]
    assert decision["what"] == "Hold. The bank called."


# --- the terms


def terms_in(order):
    entry = pack_of(order, actor="kim")["entries"][-1]
    assert entry["kind"] == "terms"
    return entry["facts"]


def save_page(client, page, text):
    sent = {"url": page.url, "title": page.title, "content": text, "sites": [1]}
    assert client.post(page_of(page), sent).status_code == 302


def test_terms_are_those_that_stood_when_the_order_was_placed(client):
    client.force_login(make_staff(superuser=True))
    page = FlatPage.objects.get(url="/terms")
    before = make_order()
    save_page(client, page, "<p>No returns.</p>")
    after = make_order()
    save_page(client, page, "<p>No returns at all.</p>")
    first, second = terms_in(before), terms_in(after)
    assert (first["text"], first["as_when_ordered"]) == (strip_tags(page.content), True)
    assert first["sha256"] == sha256(page.content.encode()).hexdigest()
    assert (second["text"], second["page"], second["as_when_ordered"]) == ("No returns.", "/terms", True)
    assert first["changed_at"] == second["valid_from"]
    assert second["changed_at"] is not None
    assert terms_in(make_order())["changed_at"] is None


def test_terms_are_in_the_language_of_the_order_as_long_as_they_were_translated(client):
    german = FlatPage.objects.get(url="/de/terms")
    assert terms_in(make_order(language="de"))["text"] == strip_tags(german.content)
    client.force_login(make_staff(superuser=True))
    client.post(reverse("admin:flatpages_flatpage_delete", args=[german.pk]), {"post": "yes"})
    assert terms_in(make_order(language="de"))["page"] == "/terms"
    assert terms_in(make_order(language="en"))["page"] == "/terms"


def test_terms_that_were_changed_past_the_admin_are_kept_by_beat():
    FlatPage.objects.filter(url="/terms").update(content="Changed in a shell.")
    assert terms_in(make_order())["text"] != "Changed in a shell."
    look_around()
    assert terms_in(make_order())["text"] == "Changed in a shell."
    assert keep_texts() == 0


def test_terms_that_nobody_kept_are_not_said_to_be_those_of_then(client):
    order = make_order()
    Order.objects.filter(pk=order.pk).update(created_at="2020-01-01T00:00:00Z")
    facts = terms_in(order)
    assert (facts["as_when_ordered"], bool(facts["text"])) == (False, True)
    PageVersion.objects.all().delete()
    assert terms_in(order) == {"text": "", "as_when_ordered": False}


def test_pages_taken_away_in_the_list_are_kept_as_gone(client):
    client.force_login(make_staff(superuser=True))
    pages = FlatPage.objects.filter(url__endswith="/terms")
    do(client, "flatpages.flatpage", "delete_selected", *pages, post="yes")
    assert [version.text for version in PageVersion.objects.order_by("-pk")[:2]] == ["", ""]
    assert terms_in(make_order())["as_when_ordered"] is False


# --- one moment


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_what_is_written_meanwhile_is_not_in_it():
    """Otherwise the pack could show a payment that the order's own status knows nothing of."""
    rows = make_rows()
    before = pack_of(rows.order, actor="kim")["entries"][1:]
    written = []

    def write():
        rows.order.note("order", "Meanwhile.")
        Payment.objects.filter(pk=rows.payment.pk).update(status="refunded")
        connection.close()

    def writes_once(execute, sql, *arguments):
        if "payments_payment" in sql and not written:
            written.append(sql)
            thread = Thread(target=write)
            thread.start()
            thread.join()
        return execute(sql, *arguments)

    with connection.execute_wrapper(writes_once):
        meanwhile = pack_of(rows.order, actor="kim")["entries"][1:]
    assert written
    assert [entry["facts"] for entry in meanwhile] == [entry["facts"] for entry in before]
    assert "Meanwhile." in json.dumps(pack_of(rows.order, actor="kim"))


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_the_order_itself_is_of_the_same_moment():
    rows = make_rows()
    stale = Order.objects.get(pk=rows.order.pk)
    Order.objects.filter(pk=stale.pk).update(email="right@example.org")
    assert pack_of(stale, actor="kim")["entries"][1]["facts"]["email"] == "right@example.org"


# --- what is not in it


def test_nothing_that_opens_a_key_is_in_it_or_on_paper(rows, pack):
    key = Key.objects.get(pk=rows.key.pk)
    sealed = [bytes(value) for value in (key.ciphertext, key.nonce, key.wrapped_data_key)]
    tokens = [make_token(rows.order, kind) for kind in ("api", "mail")]
    canaries = [SERIAL.decode(), key.object_name, *tokens, *(value.hex() for value in sealed)]
    written = json.dumps(pack)
    assert [canary for canary in canaries if canary in written] == []
    assert not re.search(r"https?://[^\"]*#|Signature=|/orders/[0-9a-f-]+#", written)
    drawn = on_paper(pdf_of(pack))
    assert [canary for canary in canaries if canary.encode() in drawn] == []
    assert rows.payment.pay_address.encode() in drawn  # so a canary would be seen


def test_pack_as_it_was_made_is_whole(pack):
    assert list(problems(json.loads(json.dumps(pack)))) == []


@pytest.mark.parametrize(
    ("forge", "told"),
    [
        (lambda pack: pack["entries"][2]["facts"].update(quantity=9), "Entry 3 was changed"),
        (lambda pack: pack["entries"].pop(4), "Entry 5 is missing"),
        (lambda pack: pack["entries"].pop(), "The last entry was changed, or entries after it were left out"),
        (lambda pack: pack["entries"][-1]["facts"].update(text="x"), "The last entry was changed"),
        (lambda pack: pack["entries"].insert(3, pack["entries"][3]), "Entry 5 is missing, or not in its place"),
        (lambda pack: pack["entries"][0]["facts"].update(order=1.5e400), "Entry 1 holds what no pack can hold"),
        (lambda pack: pack.update(entries=[]), "The last entry was changed"),
        (lambda pack: pack.update(format="other"), "not a pack"),
    ],
)
def test_pack_that_was_touched_is_found_out(pack, forge, told):
    forged = copy.deepcopy(pack)
    forge(forged)
    (problem,) = problems(forged)
    assert told in problem


def test_paper_has_the_digest_of_the_file_and_a_long_text_runs_over_pages(rows):
    FlatPage.objects.filter(url="/terms").update(content="<p>" + "Many words. " * 3000 + "</p>")
    keep_texts()
    PageVersion.objects.update(valid_from=rows.order.created_at)
    pack = pack_of(rows.order, actor="kim")
    pdf = pdf_of(pack)
    assert pdf.count(b"/Type /Page\n") > 5
    assert pdf == pdf_of(pack)


def test_buttons_bring_both_files_and_the_staff_log_has_the_digest(rows, client):
    client.force_login(make_staff("orders.view_order", "orders.export_evidence"))
    assert "Evidence as PDF" in client.get(page_of(rows.order)).content.decode()
    url = reverse("admin:orders_order_evidence", args=[rows.order.pk])
    file, paper = client.post(url, {"format": "json"}), client.post(url, {"format": "pdf"})
    assert list(problems(json.loads(file.content))) == []
    assert paper.content.startswith(b"%PDF-")
    assert paper["Content-Disposition"] == f'attachment; filename="order-{rows.order.pk}.pdf"'
    digest = json.loads(file.content)["digest"]
    assert LogEntry.objects.filter(change_message=f"Evidence downloaded (json), digest {digest}").count() == 1


def test_evidence_needs_its_permission_and_a_press(rows, client):
    client.force_login(make_staff("orders.view_order"))
    url = reverse("admin:orders_order_evidence", args=[rows.order.pk])
    assert client.get(url).status_code == 405
    assert client.post(url).status_code == 403
    assert LogEntry.objects.get().change_message == "Refused “Evidence”: no permission."
    assert "Evidence as PDF" not in client.get(page_of(rows.order)).content.decode()


def test_accounting_is_downloaded_with_its_permission(rows, client):
    url = reverse("admin:accounting_export")
    client.force_login(make_staff("accounting.view_acknowledgement"))
    assert client.get(url).status_code == 403
    client.force_login(make_staff("accounting.export_accounting"))
    assert url in client.get(reverse("admin:system")).content.decode()
    assert client.get(url).status_code == 200
    today = rows.order.created_at.date()
    asked = {"since": today, "until": today, "kinds": ["order", "refund"]}
    answer = client.post(url, asked)
    lines = b"".join(answer.streaming_content).decode().splitlines()
    assert answer["Content-Type"] == "text/csv"
    assert [line.split(",")[1] for line in lines] == ["kind", "order"]
    wrong = client.post(url, {**asked, "until": "2020-01-01"})
    assert "This day is before the first one." in wrong.content.decode()
