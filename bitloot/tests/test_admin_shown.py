"""What the admin's pages show, where they lead, and what they never show."""

import re
from datetime import timedelta
from html.parser import HTMLParser

import pytest
from django.apps import apps
from django.contrib import admin
from django.core.cache import caches
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from knox.models import AuthToken

from bitloot.core.admin.base import ReadOnlyInline
from bitloot.core.admin.decisions import DecisionAdmin
from bitloot.core.admin.panels import Panel
from bitloot.staff.site import HEADER, SECTIONS
from bitloot.tests.staff import LISTS, SERIAL, button_of, list_of, make_rows, make_staff, page_of, text
from orders.decisions import CLOSE
from orders.models import Alert, Email, Order, OrderEvent
from orders.tests.factories import make_order
from payments.models import Payment
from storage.models import Key
from webhooks.tests.factories import make_log

EVIL = "<script>alert(1)</script>"

pytestmark = pytest.mark.django_db
OF_AN_ORDER = ["payment", "reservation", "key", "delivery", "item", "email", "alert", "event", "refund", "log"]


def pages_about(name, rows):
    if name == "home":
        return "/admin/", f"/admin/?q={rows.order.pk}"
    return list_of(name), page_of(getattr(rows, LISTS[name]))


@pytest.mark.once
@pytest.mark.parametrize("name", [*LISTS, "home"])
def test_names_and_payloads_are_escaped(boss, name):
    for page in pages_about(name, make_rows(title=EVIL)):
        assert EVIL not in text(boss.get(page))


class Forms(HTMLParser):
    """Notes the action of each form that begins within another one."""

    def __init__(self, page):
        super().__init__()
        self.depth, self.nested = 0, []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        if tag == "form":
            self.nested += [dict(attrs).get("action", "")] if self.depth else []
            self.depth += 1

    def handle_endtag(self, tag):
        self.depth -= tag == "form"


@pytest.mark.once
@pytest.mark.parametrize("name", [*LISTS, "home"])
def test_no_form_stands_within_another(boss, rows, name):
    """Browsers drop the first of those: its button would send the page's own form."""
    for page in pages_about(name, rows):
        assert Forms(text(boss.get(page))).nested == [], page


@pytest.mark.once
def test_no_key_and_nothing_that_opens_one_is_shown_anywhere(boss, rows):
    key = Key.objects.get(pk=rows.key.pk)
    secrets = [bytes(value) for value in (key.ciphertext, key.nonce, key.wrapped_data_key)]
    shapes = [SERIAL.decode(), *(secret.hex() for secret in secrets), *(str(secret)[2:-1] for secret in secrets)]
    for name in LISTS:
        for page in (boss.get(list_of(name)), boss.get(page_of(getattr(rows, LISTS[name])))):
            assert [shape for shape in shapes if shape in text(page)] == []
            assert rows.record.key not in text(page)


def test_what_seals_a_key_is_not_even_read_for_its_pages(boss, rows):
    with CaptureQueriesContext(connection) as queries:
        boss.get(list_of("storage.key"))
        boss.get(page_of(rows.key))
        boss.get(page_of(rows.order))
        boss.get(page_of(rows.delivery))
    read = [query["sql"].partition(" FROM ")[0] for query in queries]
    assert [sql for sql in read if "wrapped_data_key" in sql or '"nonce"' in sql] == []


def test_token_of_the_staff_api_is_not_shown(boss):
    made, token = AuthToken.objects.create(user=boss.user)
    pages = [boss.get(reverse("admin:knox_authtoken_changelist")), boss.get(page_of(made))]
    assert [page.status_code for page in pages] == [200, 200]
    assert all(token not in text(page) for page in pages)


def test_order_page_leads_everywhere(boss, rows):
    page = text(boss.get(page_of(rows.order)))
    for row in (rows.payment, rows.reservation, rows.key, rows.email, rows.alert, rows.refund):
        assert page_of(row) in page
    webhooks = re.search(r'href="(/admin/webhooks/webhooklog/\?[^"]*)"', page)[1].replace("&amp;", "&")
    assert rows.log in boss.get(webhooks).context["cl"].queryset


@pytest.mark.parametrize("start", OF_AN_ORDER)
def test_pages_lead_back_to_the_order(boss, rows, start):
    assert page_of(rows.order) in text(boss.get(page_of(getattr(rows, start))))


@pytest.mark.once
@pytest.mark.parametrize("start", ["order", "payment", "reservation", "item", "log"])
def test_every_link_of_a_page_leads_somewhere(boss, rows, start):
    page = text(boss.get(page_of(getattr(rows, start))))
    links = {link.replace("&amp;", "&") for link in re.findall(r'href="(/admin/[^"]*)"', page)}
    assert {link: boss.get(link).status_code for link in links} == dict.fromkeys(links, 200)


def test_page_of_a_new_order_says_what_is_not_there_yet(boss):
    page = text(boss.get(page_of(make_order())))
    assert "No provider knows of this order yet." in page


def test_first_page_shows_what_needs_a_person(boss, rows):
    Email.objects.update(next_attempt_at=Now() - timedelta(minutes=5))
    make_log(provider="kinguin", body=b"{}", external_id="")
    page = boss.get("/admin/")
    shown = " ".join(text(page).split())
    assert "Ember Drift needs attention." in shown
    assert rows.gate.host in shown
    assert "Is the worker running?" in shown


def test_first_page_says_that_safe_mode_is_set(boss, settings):
    settings.SAFE_MODE = True
    assert "SAFE_MODE is set" in text(boss.get("/admin/"))


def test_home_asks_as_often_for_three_rows_as_for_one(boss, rows, monkeypatch):
    # What is possible is asked for each case that is shown, and for no other.
    monkeypatch.setattr("bitloot.staff.cases.SHOWN", 1)

    def asked():
        caches["local"].clear()
        with CaptureQueriesContext(connection) as queries:
            boss.get("/admin/")
        return [query["sql"] for query in queries]

    asked()  # content types and the like are read once
    one = asked()
    make_rows()
    make_rows()
    three = asked()
    assert len(three) == len(one), three


def header_links(client):
    header = text(client.get("/admin/")).partition('<nav class="lists"')[2].partition("</nav>")[0]
    return re.findall(r"<a[^>]*>([^<>]+?) *<", header)


def test_header_leads_to_the_lists_in_the_order_of_the_work(boss, client):
    work = "Home Orders Payments Refunds Purchases Keys Mails Webhooks Products Approvals Alerts System"
    assert header_links(boss) == work.split()
    client.force_login(make_staff("payments.view_payment", "orders.view_order"))
    assert header_links(client) == ["Home", "Orders", "Payments", "System"]


def test_header_counts_what_waits(boss, rows):
    Order.objects.filter(pk=rows.order.pk).update(status="held")
    header = " ".join(text(boss.get(list_of("orders.product"))).split())
    assert re.search(r">Orders <b class=\"count\" [^>]*>1</b>", header)
    assert re.search(r">Payments</a>", header)


def test_every_list_of_the_header_exists_and_the_others_are_in_system(boss, rows):
    assert [label for label in HEADER if not admin.site.is_registered(apps.get_model(label))] == []
    page = text(boss.get("/admin/system/"))
    assert [name for name in LISTS if list_of(name) not in page] == []


def test_every_list_of_a_section_exists():
    named = [label for section in SECTIONS for label in section.models]
    assert len(set(named)) == len(named)
    assert [label for label in named if not admin.site.is_registered(apps.get_model(label))] == []


def test_panel_asks_for_its_permission_beside_the_lists(client, monkeypatch):
    panel = Panel(
        title="Costs", template="admin/bitloot/live_bar.html", query=lambda _: {}, permission="orders.hold_order"
    )
    monkeypatch.setattr(admin.site.get_model_admin(Order), "panels", (panel,))
    for permissions, is_shown in (
        (["view_order"], False),
        (["hold_order"], False),
        (["view_order", "hold_order"], True),
    ):
        client.force_login(make_staff(*(f"orders.{name}" for name in permissions)))
        assert ("Costs" in [shown["title"] for shown in client.get("/admin/").context["panels"]]) == is_shown


def test_page_is_extended_in_the_order_of_the_places_and_leaves_other_pages_alone(rf):
    class Page(DecisionAdmin):
        fieldsets = ((None, {"fields": ("id",)}),)

    class Late(ReadOnlyInline):
        model, place = Email, 90

    class Early(ReadOnlyInline):
        model, place = Payment, 10

    Page.extend(inlines=[Late], fieldsets=[("Elsewhere", {"fields": ("a",)})], of=Payment, decisions=(CLOSE,))
    Page.extend(inlines=[Early], fieldsets=[("Elsewhere", {"fields": ("b",)})], of=Key)
    page, request = Page(Order, admin.site), rf.get("/")
    request.user = make_staff("payments.view_payment", "storage.view_key")
    assert (page.inlines, page.decisions) == ([Early, Late], (CLOSE,))
    assert page.get_fieldsets(request)[1:] == (("Elsewhere", {"fields": ("a", "b")}),)
    request.user = make_staff("storage.view_key")
    assert page.get_fieldsets(request)[1:] == (("Elsewhere", {"fields": ("b",)}),)
    assert (list(DecisionAdmin.inlines), DecisionAdmin.extra_fieldsets, DecisionAdmin.decisions) == ([], (), ())


def test_page_of_one_app_is_only_its_lists(boss):
    page = text(boss.get("/admin/orders/"))
    assert "live-home" not in page
    assert list_of("orders.order") in page


def test_list_counts_rows_by_status(boss, rows):
    page = boss.get(list_of("fulfillment.reservation"))
    counts = {count["label"]: count["count"] for count in page.context["status_counts"]}
    assert counts["Pending"] == "1"
    assert counts["Held"] == "0"
    only = boss.get(list_of("fulfillment.reservation", status__exact="held"))
    assert only.context["cl"].result_count == 0
    assert "Nothing here matches" in text(only)


def test_live_fetch_leaves_messages_for_the_person(boss, rows):
    boss.post(button_of(rows.alert, "close"))
    assert "it opens again" not in text(boss.get(page_of(rows.alert), headers={"X-Live": "1"}))
    assert "it opens again" in text(boss.get(page_of(rows.alert)))


def test_long_lists_are_counted_and_paged_only_so_far(boss, monkeypatch):
    monkeypatch.setattr("bitloot.core.admin.base.MAX_COUNTED", 60)
    Alert.objects.bulk_create(Alert(kind="test", about_pk=str(number), message="x") for number in range(80))
    page = boss.get(list_of("orders.alert"))
    assert (page.context["cl"].result_count, len(page.context["cl"].result_list)) == (60, 50)
    assert "There are more than 60." in text(page)
    assert len(boss.get(list_of("orders.alert", p=2)).context["cl"].result_list) == 10


def test_long_tables_on_a_page_show_the_newest_rows(boss, rows):
    OrderEvent.objects.bulk_create(
        OrderEvent(order=rows.order, kind="staff", message=f"Fact number {number}.") for number in range(130)
    )
    page = text(boss.get(page_of(rows.order)))
    assert "Fact number 129." in page
    assert "Fact number 30." in page
    assert "Fact number 29." not in page
    assert "These are the newest 100." in page
