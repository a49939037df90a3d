"""The runbook inside the admin: every alert and reason leads to its row, also in the image."""

import re
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib import admin
from django.urls import reverse

from bitloot.core.admin import runbook
from bitloot.core.admin.formatting import why
from bitloot.tests.shipped import build
from bitloot.tests.staff import make_rows, make_staff, page_of
from fulfillment.choices import HoldReason
from orders.choices import AlertKind
from orders.models import Alert
from payments.choices import ReviewReason

pytestmark = [pytest.mark.django_db, pytest.mark.once]


def test_page_shows_the_document_with_a_place_for_each_row(client):
    client.force_login(make_staff())
    page = client.get(reverse("admin:runbook")).content.decode()
    document = (Path(settings.BASE_DIR) / runbook.PLACE).read_text()
    places = {
        f"{section}-{name}" for _, section, cells in runbook.rows(document) for name in runbook.names_in(cells[0])
    }
    assert len(places) > 100
    assert set(re.findall(r'<a id="([\w-]+)"></a>', page)) == places
    assert "| ---" not in page
    links = re.findall(r'href="([^"]+)"', page.partition('<article id="content-main"')[2].partition("</article>")[0])
    assert [link for link in links if not link.startswith(("#", "http"))] == []
    assert [link for link in links if link.startswith("#") and f'id="{link[1:]}"' not in page] == []


def test_page_is_for_staff(client):
    assert client.get(reverse("admin:runbook")).status_code == 302


def test_every_alert_leads_to_its_row():
    page = admin.site.get_model_admin(Alert)
    alerts = [Alert(kind=kind, message="[out_of_stock] It waits.") for kind in AlertKind]
    assert [alert.kind for alert in alerts if not page.ways(alert)] == []
    assert page.ways(Alert(kind="low_balance"))[0][1].endswith("/runbook/#alert-low_balance")
    said = page.what_to_do(Alert(kind="reservation", message="[out_of_stock] It waits."))
    assert "#reservation-out_of_stock" in said
    assert "Raise the cap to buy now" in said


def test_reason_links_to_its_row_and_one_without_a_row_stays_words():
    link = why("child_payment", [ReviewReason])
    assert 'href="/admin/runbook/#review-child_payment"' in link
    assert '<span class="why"' in why("no_answer", [ReviewReason])
    linked = [reason for reason in HoldReason if runbook.url_of(reason, *runbook.REASONS)]
    assert len(linked) > len(HoldReason) // 2


def test_alerts_page_shows_the_remedy_and_the_home_page_leads_there(client):
    rows = make_rows()
    client.force_login(make_staff(superuser=True))
    assert "/admin/runbook/#alert-payment_review" in client.get(page_of(rows.alert)).content.decode()


def test_image_holds_what_the_page_shows(tmp_path):
    build("shop", tmp_path)
    assert (tmp_path / runbook.PLACE).read_bytes() == (Path(settings.BASE_DIR) / runbook.PLACE).read_bytes()
