"""A staff account is the weapon: guessing passwords, stolen tokens, one's own rights."""

import logging
import re
import time
from datetime import timedelta
from io import StringIO
from urllib.parse import parse_qs, urlsplit

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.db.models import F
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django_otp.oath import TOTP
from django_otp.plugins.otp_static.models import StaticDevice
from django_otp.plugins.otp_totp.models import TOTPDevice
from knox.models import AuthToken

from bitloot.staff import sign_in
from bitloot.staff.models import SignIn
from bitloot.tests.staff import make_staff
from orders.models import Alert
from webhooks.tests.factories import make_log

pytestmark = pytest.mark.django_db
PASSWORD = "a long password of ours"


def enter(client, user, password=PASSWORD, **fields):
    return client.post("/admin/login/", {"username": user.username, "password": password, **fields})


def ask_token(client, user, password=PASSWORD, **fields):
    body = {"name": user.username, "password": password, **fields}
    return client.post("/api/admin/login", body, content_type="application/json")


def staff_api(client, token, path="webhook-logs", method="get"):
    return getattr(client, method)(f"/api/admin/{path}", headers={"Authorization": f"Token {token}"}).status_code


def enrol(user):
    """Give the account a device as the command does; return a code of the moment and a recovery code."""
    out = StringIO()
    call_command("staff_device", user.username, stdout=out)
    url = re.search(r"otpauth://\S+", out.getvalue())[0]
    secret = parse_qs(urlsplit(url).query)["secret"][0]
    import base64

    totp = TOTP(base64.b32decode(secret + "=" * (-len(secret) % 8)))
    totp.time = time.time()
    return f"{totp.token():06}", out.getvalue().strip().rpartition(" ")[2]


# --- guessing ---


def test_many_names_from_one_network_are_refused(client):
    for number in range(sign_in.TRIES_OF_NETWORK):
        ask_token(client, make_staff_like(f"name{number}"), "guess")
    refused = ask_token(client, make_staff(password=PASSWORD))
    assert [refused.status_code, refused.json()["code"]] == [429, "too_many_tries"]


def make_staff_like(name):
    return get_user_model()(username=name)


def guess_from_many_networks(user, number):
    for network in range(number):
        enter(Client(REMOTE_ADDR=f"198.51.{network}.7"), user, "guess")


def later(seconds):
    """Let this time pass for the tries that were made."""
    SignIn.objects.update(at=F("at") - timedelta(seconds=seconds))


def test_many_addresses_for_one_name_wait_longer_and_longer():
    user = make_staff(password=PASSWORD)
    guess_from_many_networks(user, sign_in.TRIES_WITHOUT_PAUSE)
    pauses = []
    for number in range(8):
        enter(Client(REMOTE_ADDR=f"203.0.{number}.7"), user, "guess")
        page = enter(Client(REMOTE_ADDR="192.0.2.7"), user).content.decode()
        pauses.append(int(re.search(r"Wait (\d+) seconds", page)[1]))
        later(pauses[-1] + 1)
    assert pauses == [2, 4, 8, 16, 32, 60, 60, 60]


def test_nobody_is_locked_out_by_strangers():
    user = make_staff(password=PASSWORD)
    assert enter(Client(REMOTE_ADDR="203.0.113.7"), user).status_code == 302
    guess_from_many_networks(user, 40)
    stranger = Client(REMOTE_ADDR="192.0.2.7")
    assert "Wait" in enter(stranger, user).content.decode()
    # From where they have been before they don't have to wait, and from elsewhere a minute at most.
    assert enter(Client(REMOTE_ADDR="203.0.113.99"), user).status_code == 302
    later(sign_in.LONGEST_PAUSE + 1)
    assert enter(stranger, user).status_code == 302


def test_tries_that_were_refused_do_not_prolong_the_pause():
    user = make_staff(password=PASSWORD)
    guess_from_many_networks(user, sign_in.TRIES_WITHOUT_PAUSE + 5)  # a pause of 32 seconds
    for _ in range(4):
        later(8)
        enter(Client(REMOTE_ADDR="192.0.2.7"), user)
    assert SignIn.objects.filter(outcome="locked").count() >= 3
    assert enter(Client(REMOTE_ADDR="192.0.2.7"), user).status_code == 302


def test_addresses_of_one_ipv6_network_are_one():
    user = make_staff(password=PASSWORD)
    for number in range(10):
        enter(Client(REMOTE_ADDR=f"2001:db8::{number + 1:x}"), user, "guess")
    assert "Too many wrong passwords" in enter(Client(REMOTE_ADDR="2001:db8::ffff"), user).content.decode()


def test_lock_does_not_depend_on_the_cache(client, settings):
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}
    user = make_staff(password=PASSWORD)
    for _ in range(10):
        enter(client, user, "guess")
    assert "Too many wrong passwords" in enter(client, user).content.decode()


def test_locked_try_checks_no_password_and_alerts_once(client, settings):
    user = make_staff(password=PASSWORD)
    for _ in range(10):
        ask_token(client, user, "guess")
    settings.PASSWORD_HASHERS = []  # any check would crash now
    assert {ask_token(client, user).status_code for _ in range(3)} == {429}
    alert = Alert.objects.get(kind="staff_locked")
    assert [alert.status, alert.times] == ["open", 3]


def test_each_try_is_a_row_and_a_log_line_without_what_was_typed(client, caplog):
    user = make_staff(password=PASSWORD)
    with caplog.at_level(logging.INFO):
        ask_token(client, user, "CANARY-GUESS")
        ask_token(client, user)
    rows = list(SignIn.objects.order_by("id").values_list("name", "way", "network", "outcome"))
    assert rows == [(user.username, "api", "127.0.0.0/24", outcome) for outcome in ("failed", "good")]
    lines = [line for line in caplog.messages if line.startswith("staff sign-in")]
    assert len(lines) == 2
    assert "CANARY" not in caplog.text
    assert user.username not in " ".join(lines)


# --- the second factor ---


@pytest.mark.parametrize("way", [enter, ask_token])
def test_password_alone_does_not_come_in(client, settings, way):
    settings.STAFF_OTP_REQUIRED = True
    user = make_staff("webhooks.view_webhooklog", password=PASSWORD)
    assert way(client, user).status_code in (200, 401)  # no device, no way in
    code, _ = enrol(user)
    for wrong in ("", "000000" if code != "000000" else "111111", "nonsense"):
        way(client, user, code=wrong)
        assert client.get("/admin/").status_code == 302
    assert not AuthToken.objects.exists()


def test_code_of_the_moment_comes_in_once_and_so_does_a_recovery_code(client, settings):
    settings.STAFF_OTP_REQUIRED = True
    user = make_staff(password=PASSWORD)
    code, recovery = enrol(user)
    assert enter(client, user, code=code).status_code == 302
    assert client.get("/admin/").status_code == 200
    assert ask_token(Client(), user, code=code).status_code == 401
    assert ask_token(Client(), user, code=recovery).status_code == 200
    assert ask_token(Client(), user, code=recovery).status_code == 401


def test_session_without_the_second_factor_stays_outside(client, settings):
    settings.STAFF_OTP_REQUIRED = True
    client.force_login(make_staff(superuser=True))
    assert client.get("/admin/").status_code == 302


# --- how long it lasts ---


def test_session_ends_half_an_hour_after_the_last_page(client):
    client.force_login(make_staff())
    client.get("/admin/")
    session = Session.objects.get()
    assert 1790 <= (session.expire_date - timezone.now()).total_seconds() <= 1800
    Session.objects.update(expire_date=timezone.now() + timezone.timedelta(minutes=5))
    client.get("/admin/", headers={"X-Live": "1"})  # a page that refreshes itself keeps nobody signed in
    assert (Session.objects.get().expire_date - timezone.now()).total_seconds() < 301
    client.get("/admin/")
    assert (Session.objects.get().expire_date - timezone.now()).total_seconds() > 1700
    Session.objects.update(expire_date=timezone.now())
    assert client.get("/admin/").status_code == 302


def test_token_ends_by_logout_and_by_a_new_password(client):
    user = make_staff("webhooks.view_webhooklog", password=PASSWORD)
    tokens = [ask_token(client, user).json()["token"] for _ in range(4)]
    assert AuthToken.objects.filter(expiry=None).count() == 0
    assert staff_api(client, tokens[0], "logout", "post") == 204
    assert [staff_api(client, token) for token in tokens] == [401, 200, 200, 200]
    assert staff_api(client, tokens[1], "logoutall", "post") == 204
    assert {staff_api(client, token) for token in tokens} == {401}
    token = ask_token(client, user).json()["token"]
    user.refresh_from_db()
    user.set_password("another long password")
    user.save()
    assert staff_api(client, token) == 401


def test_customers_account_gets_no_token(client):
    user = get_user_model().objects.create_user("eve", password=PASSWORD)
    assert ask_token(client, user).status_code == 401


# --- one's own rights ---


def test_nobody_makes_a_token_for_somebody_else(client):
    client.force_login(make_staff(superuser=True))
    assert client.get(reverse("admin:knox_authtoken_add")).status_code == 403
    client.force_login(make_staff("knox.add_authtoken", "knox.change_authtoken", "knox.view_authtoken"))
    assert client.post(reverse("admin:knox_authtoken_add"), {"user": make_staff().pk}).status_code == 403
    assert not AuthToken.objects.exists()


def test_change_user_makes_nobody_superuser_and_touches_no_superuser(client):
    me, boss = make_staff("auth.change_user", "auth.view_user"), make_staff(superuser=True, password=PASSWORD)
    client.force_login(me)
    page = reverse("admin:auth_user_change", args=[me.pk])
    sent = {"username": me.username, "is_active": "on", "is_staff": "on", "is_superuser": "on",
            "user_permissions": "1", "date_joined_0": "2026-01-01", "date_joined_1": "12:00:00"}  # fmt: skip
    client.post(page, sent)
    me.refresh_from_db()
    assert [me.is_superuser, me.user_permissions.count()] == [False, 2]
    for path in (reverse("admin:auth_user_password_change", args=[boss.pk]),):
        new = {"password1": "stolen long password", "password2": "stolen long password", "usable_password": "true"}
        assert client.post(path, new).status_code == 403
    boss.refresh_from_db()
    assert boss.check_password(PASSWORD)


def test_replay_over_rest_leaves_the_line_of_the_admin(client):
    user = make_staff("webhooks.replay_webhook", password=PASSWORD)
    log = make_log()
    token = ask_token(client, user).json()["token"]
    assert staff_api(client, token, f"webhook-logs/{log.pk}/replay", "post") == 202
    entry = LogEntry.objects.get()
    assert [entry.user, entry.object_id] == [user, str(log.pk)]


def test_no_page_shows_the_second_factor_of_anybody(client):
    boss = make_staff(superuser=True)
    _, spare = enrol(make_staff())
    client.force_login(boss)
    for model in (TOTPDevice, StaticDevice):
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        device = model.objects.get()
        pages = [client.get(reverse(f"{name}_changelist")), client.get(reverse(f"{name}_change", args=[device.pk]))]
        assert {page.status_code for page in pages} == {200}
        said = "".join(page.content.decode() for page in pages)
        assert device.user.username in said
        assert spare not in said
        assert getattr(device, "key", spare) not in said
        assert client.post(reverse(f"{name}_change", args=[device.pk]), {"name": "mine"}).status_code == 403
