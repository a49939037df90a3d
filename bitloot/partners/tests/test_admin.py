"""Staff make, renew and end keys; a secret is on one page, once, and in no log."""

import json
import re

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from bitloot.partners import services
from bitloot.partners.models import ApiKey, Endpoint
from bitloot.partners.tests.factories import bearer, make_endpoint, make_key
from bitloot.staff.models import StaffEvent
from bitloot.tests.commands import run
from bitloot.tests.staff import button_of, make_staff, page_of
from orders.models import Order
from orders.tests.factories import make_order

pytestmark = [pytest.mark.django_db, pytest.mark.once]
ADD = "/admin/partners/apikey/add/"
ASKED = {
    "name": "Corner Shop", "email": "dev@partner.example", "scopes": ["orders:read"], "requests_per_minute": 60,
    "unpaid_per_hour": 5, "expires_at": "",
}  # fmt: skip


def staff(*permissions, **fields):
    client = Client()
    client.force_login(make_staff(*permissions, **fields))
    return client


def shown_key(answer):
    (text,) = set(re.findall(r"blk_[0-9a-f]{8}_[\w-]{43}", answer.content.decode()))
    return text


def test_a_key_is_made_and_shown_once(client):
    boss = staff(superuser=True)
    assert boss.get(ADD).status_code == 200
    made = boss.post(ADD, ASKED)
    text = shown_key(made)
    assert "no-store" in made["Cache-Control"]
    assert client.get("/api/orders", headers=bearer(text)).status_code == 200
    key = ApiKey.objects.get()
    assert [key.scopes, key.requests_per_minute, key.unpaid_per_hour] == [["orders:read"], 60, 5]
    secret = text.split("_", 2)[2]  # it may hold more of them
    kept = f"{list(LogEntry.objects.values())} {list(StaffEvent.objects.values())} {boss.cookies}"
    assert secret not in kept + boss.get(page_of(key)).content.decode()
    event = StaffEvent.objects.get(about__startswith="API key")
    assert (event.actor, event.what) == (LogEntry.objects.get().user.username, "made: orders:read")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("email", "x"),
        ("scopes", ["everything"]),
        ("scopes", []),
        ("unpaid_per_hour", "0"),
        ("expires_at", "2020-01-01"),
    ],
)
def test_a_wrong_form_makes_nothing(field, value):
    answer = staff(superuser=True).post(ADD, {**ASKED, field: value})
    assert field in answer.context["form"].errors
    assert not ApiKey.objects.exists()


def test_a_page_with_a_new_key_that_is_reloaded_makes_no_second_one():
    boss = staff(superuser=True)
    form = {**ASKED, "made_as": boss.get(ADD).context["form"]["made_as"].value()}
    shown_key(boss.post(ADD, form))
    again = boss.post(ADD, form, follow=True)
    key = ApiKey.objects.get()
    assert again.redirect_chain == [(page_of(key), 302)]
    assert "it is made already, and its text was shown once." in again.content.decode()


def renewal(client, page, hours=0):
    return {"hours": hours, "seen": client.get(page).context["form"]["seen"].value()}


def test_a_renewal_that_is_sent_twice_keeps_the_secret_that_it_promised_to_keep(client):
    boss, (key, earlier) = staff(superuser=True), make_key()
    renew = f"/admin/partners/apikey/{key.pk}/renew/"
    sent = renewal(boss, renew, hours=24)
    newer = shown_key(boss.post(renew, sent))
    again = boss.post(renew, sent, follow=True)
    assert "Somebody decided about it meanwhile" in str(next(iter(again.context["messages"])))
    codes = [client.get("/api/orders", headers=bearer(text)).status_code for text in (earlier, newer)]
    assert codes == [200, 200]


def test_a_key_gets_a_new_secret_and_is_ended(client):
    boss, (key, earlier) = staff(superuser=True), make_key()
    renew = f"/admin/partners/apikey/{key.pk}/renew/"
    assert renew in boss.get(page_of(key)).content.decode()
    newer = shown_key(boss.post(renew, renewal(boss, renew)))
    codes = [client.get("/api/orders", headers=bearer(text)).status_code for text in (earlier, newer)]
    assert codes == [401, 200]
    seen = boss.get(button_of(key, "end")).context["seen"]
    boss.post(button_of(key, "end"), {"seen": seen, "reason": "The contract ended."})
    assert client.get("/api/orders", headers=bearer(newer)).status_code == 401
    ended = boss.post(renew, renewal(boss, renew), follow=True)
    assert [str(message) for message in ended.context["messages"]] == [f"{key}: It has ended already."]
    assert renew not in boss.get(page_of(key)).content.decode()


def test_an_endpoint_is_added_and_its_secret_read_with_a_line_in_the_log():
    boss, (key, _) = staff(superuser=True), make_key()
    add = button_of(key, "add-endpoint")
    seen = boss.get(add).context["seen"]
    asked = {"seen": seen, "url": "http://10.0.0.1/", "events": ["order.paid"]}
    assert "url" in boss.post(add, asked).context["form"].errors
    boss.post(add, {**asked, "url": "https://hooks.partner.example/x"})
    endpoint = Endpoint.objects.get()
    secret, where = services.secret_of(endpoint), f"/admin/partners/endpoint/{endpoint.pk}/secret/"
    assert secret not in boss.get(page_of(endpoint)).content.decode()
    assert boss.get(where).status_code == 405
    assert secret in boss.post(where).content.decode().replace("&#x3D;", "=")
    assert LogEntry.objects.latest("pk").change_message == "Read its secret."


def test_limits_are_changed_with_a_row_of_the_log_of_rights():
    boss, (key, _) = staff(superuser=True), make_key()
    form = boss.get(button_of(key, "limits")).context
    assert form["form"].initial["unpaid_per_hour"] == 100
    asked = {"seen": form["seen"], "email": "new@partner.example", "requests_per_minute": "0", "unpaid_per_hour": "7"}
    assert "requests_per_minute" in boss.post(button_of(key, "limits"), asked).context["form"].errors
    boss.post(button_of(key, "limits"), {**asked, "requests_per_minute": "9"})
    key.refresh_from_db()
    assert [key.email, key.requests_per_minute, key.unpaid_per_hour] == ["new@partner.example", 9, 7]
    assert StaffEvent.objects.first().what.startswith("limits: 9 requests a minute, 7 unpaid orders an hour")


def test_each_page_wants_its_permission():
    key, _ = make_key()
    endpoint = make_endpoint(key=key)
    viewer = staff("partners.view_apikey", "partners.view_endpoint")
    pages = [ADD, f"/admin/partners/apikey/{key.pk}/renew/", f"/admin/partners/endpoint/{endpoint.pk}/secret/"]
    assert [viewer.post(page, ASKED).status_code for page in pages] == [403] * 3
    for page, permission in zip(pages, ["add_apikey", "renew_apikey", "read_endpoint_secret"], strict=True):
        allowed = staff("partners.view_apikey", "partners.view_endpoint", f"partners.{permission}")
        fields = renewal(allowed, page) if permission == "renew_apikey" else {}
        assert allowed.post(page, {**ASKED, **fields}).status_code == 200
    shown = viewer.get(page_of(key)).content.decode() + viewer.get(page_of(endpoint)).content.decode()
    assert "/renew/" not in shown
    assert "/secret/" not in shown


def test_the_order_leads_to_its_key_and_the_key_to_its_orders():
    boss, (key, _) = staff(superuser=True), make_key()
    own, other = make_order(email="own@example.org"), make_order(email="other@example.org")
    Order.objects.filter(pk=own.pk).update(placed_with=key.pk)
    assert page_of(key) in boss.get(page_of(own)).content.decode()
    assert page_of(key) not in boss.get(page_of(other)).content.decode()
    link = re.search(r'href="(/admin/orders/order/\?placed_with=[^"]+)"', boss.get(page_of(key)).content.decode())[1]
    listed = boss.get(link).content.decode()
    assert ("own@" in listed, "other@" in listed) == (True, False)  # an address may break behind its @


def test_the_commands_make_and_end_a_key(client, monkeypatch):
    monkeypatch.setenv("USER", "kim")
    monkeypatch.delenv("SUDO_USER", raising=False)
    order = ("create_api_key", "Corner Shop", "--email", "dev@partner.example")
    code, out, _ = run(*order, "--scope", "orders:read", "--webhook", "https://hooks.partner.example/", "--json")
    assert code == 0
    document = json.loads(out)
    assert document["scopes"] == ["orders:read"]
    assert document["webhook"]["secret"] == services.secret_of(Endpoint.objects.get())
    assert client.get("/api/orders", headers=bearer(document["api_key"])).status_code == 200
    end = ("end_api_key", document["api_key"][:12], "--reason", "The contract ended.")
    assert run(*end)[0] == 0
    assert client.get("/api/orders", headers=bearer(document["api_key"])).status_code == 401
    assert run(*end)[0] == 1
    assert set(StaffEvent.objects.values_list("actor", flat=True)) == {"kim"}
    assert "blk_" in run(*order)[1]
    wrong = (["--webhook", "http://10.0.0.1/"], ["--scope", "all"], ["--expires", "2020-01-01"])
    assert [run(*order, *more)[0] for more in wrong] == [64] * 3
    assert run("end_api_key", "blk_00000000", "--reason", "none")[0] == 64
    assert ApiKey.objects.count() == 2
