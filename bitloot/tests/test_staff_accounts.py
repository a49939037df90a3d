"""What staff see of their own account, who else may end their sessions, and the trace that changed rights leave."""

import hashlib
import re
from contextlib import nullcontext

import pytest
import requests
import responses
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, Permission
from django.contrib.auth.password_validation import validate_password
from django.contrib.sessions.models import Session
from django.core import mail
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from knox.models import AuthToken

from bitloot.staff.models import StaffEvent
from bitloot.tests.staff import make_staff
from orders.mail import send
from orders.models import Email

pytestmark = pytest.mark.django_db
PASSWORD = "a long password of ours"
SESSIONS = reverse("admin:sessions_session_changelist")


def sign_in(user, address="203.0.113.7", agent="Firefox"):
    client = Client(REMOTE_ADDR=address, headers={"User-Agent": agent})
    answer = client.post("/admin/login/", {"username": user.username, "password": PASSWORD})
    assert answer.status_code == 302, answer.content
    client.user = user
    return client


def key_of(client):
    from bitloot.core.sessions import at_rest

    return at_rest(client.session.session_key)


def end(client, key):
    """Press “Delete” and confirm; return the status of the answer."""
    return client.post(reverse("admin:sessions_session_delete", args=[key]), {"post": "yes"}).status_code


def notices(user):
    return list(Email.objects.filter(kind="staff_notice", to=user.email).values_list("reason", flat=True))


# --- sessions ---


def test_everybody_sees_their_own_sessions_and_only_them():
    ada, kim = make_staff(password=PASSWORD), make_staff(password=PASSWORD)
    here, _, _ = sign_in(ada), sign_in(ada, "198.51.100.7", "Chrome"), sign_in(kim, agent="Safari of Kim")
    page = here.get(SESSIONS).content.decode()
    assert all(each in page for each in ("203.0.113.0/24", "198.51.100.0/24", "Firefox", "Chrome"))
    assert "Safari of Kim" not in page


def test_a_session_of_ones_own_is_ended_at_once_and_leaves_a_row():
    ada = make_staff(password=PASSWORD)
    here, there = sign_in(ada), sign_in(ada, "198.51.100.7")
    assert end(here, key_of(there)) == 302
    assert there.get("/admin/").status_code == 302
    assert here.get("/admin/").status_code == 200
    assert "a session from 198.51.100.0/24 was ended" in StaffEvent.objects.get(what__contains="session").what
    assert StaffEvent.objects.get(what__contains="session").actor == ada.username
    assert LogEntry.objects.filter(user=ada).count() == 1
    assert end(here, key_of(there)) in (302, 404)  # twice: nothing more
    assert StaffEvent.objects.filter(what__contains="session").count() == 1


def test_the_present_session_is_left_by_logging_out():
    here = sign_in(make_staff(password=PASSWORD))
    assert end(here, key_of(here)) == 403
    assert here.get("/admin/").status_code == 200


def test_page_of_a_session_says_whose_it_is_and_ends_it():
    ada = make_staff(password=PASSWORD)
    here, there = sign_in(ada), sign_in(ada, "198.51.100.7")
    name = f"Session of {ada.username} from 198.51.100.0/24"
    url = reverse("admin:sessions_session_change", args=[key_of(there)])
    page = here.get(url).content.decode()
    delete = reverse("admin:sessions_session_delete", args=[key_of(there)])
    assert (f"<h1>{name}</h1>" in page, delete in page) == (True, True)
    asked = here.get(delete).content.decode()
    assert (f"<h1>{name}</h1>" in asked, "End this session" in asked) == (True, True)
    ended = here.post(delete, {"post": "yes"}, follow=True)
    assert ended.redirect_chain == [(SESSIONS, 302)]
    assert "1 session ended: whoever works there has to sign in again." in ended.content.decode()
    own = here.get(reverse("admin:sessions_session_change", args=[key_of(here)])).content.decode()
    assert "deletelink" not in own


def test_present_session_that_was_ticked_among_others_stays_and_the_others_end():
    ada = make_staff(password=PASSWORD)
    here, there = sign_in(ada), sign_in(ada, "198.51.100.7")
    ticked = {"action": "end", "_selected_action": [key_of(here), key_of(there)], "index": "0"}
    said = [str(message) for message in here.post(SESSIONS, ticked, follow=True).context["messages"]]
    assert said == [
        "1 session ended: whoever works there has to sign in again.",
        "1 left as it was: to end the present one, log out; those of others need a permission.",
    ]
    assert there.get("/admin/").status_code == 302
    assert StaffEvent.objects.get(what__contains="session").actor == ada.username


def test_sessions_of_others_need_the_permissions():
    ada = sign_in(make_staff(password=PASSWORD))
    for permissions, seen, status in (
        ((), False, 302), (("sessions.view_session",), True, 403),
        (("sessions.view_session", "sessions.delete_session"), True, 302),
    ):  # fmt: skip
        boss = sign_in(make_staff(*permissions, password=PASSWORD), agent="Boss")
        assert ("Firefox" in boss.get(SESSIONS).content.decode()) == seen
        assert end(boss, key_of(ada)) == status
        assert Session.objects.filter(pk=key_of(ada)).exists() == (status != 302 or not seen)
    assert ada.get("/admin/").status_code == 302


def test_everybody_ends_their_own_tokens_and_only_them():
    ada, kim = make_staff(password=PASSWORD), make_staff()
    (mine, _), (other, _) = AuthToken.objects.create(ada), AuthToken.objects.create(kim)
    client = sign_in(ada)
    page = client.get(reverse("admin:knox_authtoken_changelist")).content.decode()
    assert mine.token_key in page
    assert other.token_key not in page
    for token in (mine, other):
        client.post(reverse("admin:knox_authtoken_delete", args=[token.pk]), {"post": "yes"})
    assert list(AuthToken.objects.values_list("user", flat=True)) == [kim.pk]


# --- a new network ---


def test_owner_hears_of_a_sign_in_from_a_new_network_once():
    ada = make_staff(password=PASSWORD)
    type(ada).objects.filter(pk=ada.pk).update(email="ada@shop.example")
    ada.refresh_from_db()
    sign_in(ada)
    assert notices(ada) == []  # the first one is no news
    sign_in(ada, "203.0.113.99")
    assert notices(ada) == []
    for _ in range(2):
        sign_in(ada, "198.51.100.7")
    (said,) = notices(ada)
    assert f"The account {ada.username} has signed in from a network that is new to it, 198.51.100.0/24." in said


def test_notice_is_a_mail_with_the_sentence_and_the_way_to_the_sessions():
    owed = Email.objects.create(kind="staff_notice", to="ada@shop.example", reason="Something has changed.")
    (mine,) = Email.objects.claim(10)
    assert mine == owed
    send(mine)
    (sent,) = mail.outbox
    assert sent.to == ["ada@shop.example"]
    for body in (sent.body, sent.alternatives[0][0]):
        assert "Something has changed." in body
        assert "/admin/sessions/session/" in body


# --- changed rights ---


def told(user):
    return [(row.actor, row.what) for row in StaffEvent.objects.filter(about__contains=user.username).order_by("pk")]


def test_changed_rights_are_rows_log_lines_and_mails(caplog):
    boss, ada = make_staff(superuser=True), make_staff()
    StaffEvent.objects.all().delete()
    ada.email = "ada@shop.example"
    ada.save()
    group = Group.objects.create(name="night shift")
    client = Client()
    client.force_login(boss)
    form = {"username": ada.username, "email": ada.email, "is_active": "on", "is_staff": "on", "is_superuser": "on",
            "groups": [group.pk], "user_permissions": [Permission.objects.get(codename="hold_order").pk],
            "date_joined_0": "2026-01-01", "date_joined_1": "12:00:00"}  # fmt: skip
    assert client.post(reverse("admin:auth_user_change", args=[ada.pk]), form).status_code == 302
    assert told(ada) == [
        ("the command line", "e-mail address changed"),
        (boss.username, "made superuser"),
        (boss.username, "groups given: night shift"),
        (boss.username, "permissions given: orders.hold_order"),
    ]
    assert f"rights of user {ada.pk} changed: groups given: night shift" in caplog.messages
    assert len(notices(ada)) == 3
    client.post(reverse("admin:auth_user_change", args=[ada.pk]), {**form, "groups": [], "user_permissions": []})
    assert told(ada)[4:] == [
        (boss.username, "groups taken: night shift"), (boss.username, "permissions taken: orders.hold_order"),
    ]  # fmt: skip


def test_an_account_that_begins_as_superuser_leaves_a_row():
    call_command("createsuperuser", "--no-input", username="kim", email="kim@shop.example", verbosity=0)
    assert told(get_user_model().objects.get(username="kim")) == [("the command line", "made superuser")]


def test_a_changed_group_is_a_row():
    group = Group.objects.create(name="night shift")
    group.permissions.add(Permission.objects.get(codename="hold_order"))
    group.user_set.add(ada := make_staff())
    group.delete()
    rows = list(StaffEvent.objects.order_by("pk").values_list("about", "what"))
    assert rows == [
        ("group night shift", "permissions given: orders.hold_order"),
        (f"user {ada.username}", "group given: night shift"),
        ("group night shift", "deleted"),
    ]


def test_rights_that_are_cleared_or_given_from_the_other_side_are_rows():
    hold = Permission.objects.get(codename="hold_order")
    group = Group.objects.create(name="night shift")
    ada = make_staff()
    ada.groups.add(group)
    group.user_set.clear()
    hold.user_set.add(ada)
    ada.user_permissions.clear()
    hold.group_set.add(group)
    hold.group_set.clear()
    hold.group_set.clear()
    assert [what for _, what in told(ada)] == [
        "groups given: night shift", "group taken: night shift",
        "permission given: orders.hold_order", "permissions taken: orders.hold_order",
    ]  # fmt: skip
    rows = StaffEvent.objects.filter(about="group night shift").order_by("pk")
    assert [row.what for row in rows] == ["permission given: orders.hold_order", "permission taken: orders.hold_order"]


def test_a_new_password_is_a_row_and_a_mail_without_it():
    ada = make_staff()
    ada.email = "ada@shop.example"
    ada.set_password("CANARY long password")
    ada.save()
    assert told(ada)[-1][1] == "password set"
    assert notices(ada)[-1] == f"Your account {ada.username} has a new password."
    assert "CANARY" not in repr(list(StaffEvent.objects.values())) + repr(list(Email.objects.values()))


def test_signing_in_changes_no_rights():
    ada = make_staff(password=PASSWORD)
    before = StaffEvent.objects.count()
    sign_in(ada)
    assert StaffEvent.objects.count() == before


@pytest.mark.once
@pytest.mark.parametrize(
    ("password", "is_taken"),
    [
        ("password1234", False), ("Password123!", False), ("P@ssw0rd1234", False), ("administrator", False),
        ("manchester2019", False), ("dragonball1990", False), ("qwertyuiop123", False), ("adalovelace1815", False),
        ("adalovelaceadalovelace", False),
        ("tugboat quartz lemming ferry", True), ("kX9-vv2q-T7pe", True), ("kX9-vv2q-T7pe" * 9, True),
    ],
)  # fmt: skip
def test_a_password_that_lists_lead_to_is_refused(password, is_taken):
    """Fails without zxcvbn: Django's own list takes most of these."""
    user = get_user_model()(username="adalovelace", email="adalovelace@staff.example")
    with nullcontext() if is_taken else pytest.raises(ValidationError):
        validate_password(password, user)


BREACHED = "tugboat quartz lemming ferry"


@pytest.fixture
def have_i_been_pwned(settings):
    settings.AUTH_PASSWORD_VALIDATORS = [{"NAME": "bitloot.staff.passwords.RefusesBreached"}]
    with responses.RequestsMock() as wire:
        yield wire


@pytest.mark.once
def test_a_breached_password_is_refused_and_five_digits_are_sent(have_i_been_pwned):
    digest = hashlib.sha1(BREACHED.encode()).hexdigest().upper()
    known = f"{'0' * 35}:7\r\n{digest[5:]}:3\r\n"
    asked = have_i_been_pwned.get(f"https://api.pwnedpasswords.com/range/{digest[:5]}", body=known)
    with pytest.raises(ValidationError, match="has appeared in a data breach"):
        validate_password(BREACHED)
    assert asked.call_count == 1
    assert digest[5:] not in repr([(call.request.url, call.request.headers) for call in asked.calls])


@pytest.mark.once
def test_another_password_with_these_digits_is_taken(have_i_been_pwned):
    have_i_been_pwned.get(re.compile("https://api.pwnedpasswords.com/range/"), body=f"{'0' * 35}:7")
    validate_password(BREACHED)


@pytest.mark.once
@pytest.mark.parametrize("answer", [{"status": 503}, {"body": requests.ConnectTimeout("…/range/ABCDE timed out")}])
def test_a_password_can_be_set_while_the_service_is_down(have_i_been_pwned, caplog, answer):
    have_i_been_pwned.get(re.compile("https://api.pwnedpasswords.com/range/"), **answer)
    validate_password(BREACHED)
    assert "our own lists only" in caplog.text
    assert "/range/" not in caplog.text
