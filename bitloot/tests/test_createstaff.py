"""Inviting a member of staff: a mailed link that works once, and nothing secret on the command line."""

import base64
import json
import re
import threading
import time
from io import StringIO
from smtplib import SMTPRecipientsRefused

import pytest
from django.contrib.auth.models import Group, User
from django.core import mail
from django.core.mail.backends.base import BaseEmailBackend
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connections
from django.test import Client
from django_otp.oath import TOTP
from django_otp.plugins.otp_static.models import StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice

from bitloot.staff.models import StaffEvent
from bitloot.tests.staff import make_staff

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery staple"


@pytest.fixture(autouse=True)
def operator(monkeypatch):
    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.setenv("USER", "kim")


@pytest.fixture
def groups():
    return [Group.objects.get_or_create(name=name)[0] for name in ("support", "finance")]


def run(*arguments):
    """Return the exit code and what was printed."""
    out = StringIO()
    try:
        call_command("createstaff", *arguments, stdout=out)
    except CommandError as err:
        return err.returncode, f"{out.getvalue()}{err}"
    return 0, out.getvalue()


def link():
    return re.search(r"/admin/join/\S+", mail.outbox[-1].body)[0]


def open_link(path):
    client = Client()
    page = client.get(path, follow=True)
    client.path = page.redirect_chain[-1][0] if page.redirect_chain else path
    client.page = page.content.decode()
    return client


def code_of(client):
    secret = re.search(r"<code>([A-Z2-7]+)</code>", client.page)[1]
    totp = TOTP(base64.b32decode(secret + "=" * (-len(secret) % 8)))
    totp.time = time.time()
    return f"{totp.token():06}"


def join(client, **fields):
    form = {"new_password1": PASSWORD, "new_password2": PASSWORD, "code": code_of(client), **fields}
    return client.post(client.path, form)


def test_an_invited_member_sets_password_and_authenticator_and_signs_in(groups, settings):
    settings.STAFF_OTP_REQUIRED = True
    code, said = run("ada", "--email", "ada@shop.example", "--group", "support", "--group", "finance")
    assert code == 0
    assert said.startswith("ada is invited (support, finance). The link ends ")
    ada = User.objects.get()
    assert [ada.is_staff, ada.is_superuser, ada.has_usable_password(), ada.email] == [
        True,
        False,
        False,
        "ada@shop.example",
    ]
    assert {group.name for group in ada.groups.all()} == {"support", "finance"}
    assert [message.to for message in mail.outbox] == [["ada@shop.example"]]

    client = open_link(link())
    joined = join(client)
    assert joined.status_code == 200, joined.content
    recovery = re.findall(r"<li><code>(\w+)</code>", joined.content.decode())
    assert sorted(recovery) == sorted(StaticToken.objects.values_list("token", flat=True))
    assert len(recovery) == 10
    form = {"username": "ada", "password": PASSWORD, "code": recovery[0]}
    assert Client().post("/admin/login/", form).status_code == 302
    told = [(row.actor, row.what) for row in StaffEvent.objects.order_by("pk")]
    assert ("kim", "invited: support, finance") in told
    assert ("ada", "password set") in told


def test_the_link_works_once_and_is_printed_nowhere(groups):
    said = run("ada", "--email", "ada@shop.example", "--json")[1]
    assert json.loads(said) == {
        "name": "ada", "email": "ada@shop.example", "groups": [], "link_ends_at": json.loads(said)["link_ends_at"],
    }  # fmt: skip
    token = link().rstrip("/").rpartition("/")[2]
    assert token not in said + repr(list(User.objects.values())) + repr(list(StaffEvent.objects.values()))
    assert join(open_link(link())).status_code == 200
    ended = open_link(link()).page
    assert "This link has ended" in ended
    assert "<h1>Your staff account</h1>" in ended


def test_a_wrong_code_or_weak_password_sets_nothing(groups):
    run("ada", "--email", "ada@shop.example")
    client = open_link(link())
    wrong = "000000" if code_of(client) != "000000" else "111111"
    assert "This is not the code" in join(client, code=wrong).content.decode()
    TOTPDevice.objects.update(throttling_failure_count=0, throttling_failure_timestamp=None)
    weak = join(client, new_password1="short", new_password2="short").content.decode()
    assert "too short" in weak
    assert not User.objects.get().has_usable_password()
    assert not TOTPDevice.objects.filter(confirmed=True).exists()


def test_code_of_a_refused_password_is_not_spent_and_a_recovery_code_may_begin_with_a_capital(groups, settings):
    settings.STAFF_OTP_REQUIRED = True
    run("ada", "--email", "ada@shop.example")
    client = open_link(link())
    code = code_of(client)
    assert "too short" in join(client, code=code, new_password1="short", new_password2="short").content.decode()
    joined = join(client, code=code).content.decode()
    recovery = next(each for each in re.findall(r"<li><code>(\w+)</code>", joined) if each[0].isalpha())
    form = {"username": "ada", "password": PASSWORD, "code": recovery.capitalize()}
    assert Client().post("/admin/login/", form).status_code == 302


def test_two_authenticators_that_were_begun_at_once_keep_nobody_out(groups):
    run("ada", "--email", "ada@shop.example")
    client = open_link(link())
    TOTPDevice.objects.create(user=User.objects.get(), confirmed=False)
    assert join(client).status_code == 200
    assert TOTPDevice.objects.filter(confirmed=True).count() == TOTPDevice.objects.count() == 1


def test_inviting_again_ends_the_older_link_and_changes_the_groups(groups):
    run("ada", "--email", "ada@shop.example", "--group", "support")
    older = link()
    assert run("ada", "--email", "ada@new.example", "--group", "finance")[0] == 0
    assert "This link has ended" in open_link(older).page
    assert join(open_link(link())).status_code == 200
    ada = User.objects.get()
    assert [ada.email, [group.name for group in ada.groups.all()]] == ["ada@new.example", ["finance"]]


def test_a_link_of_an_account_with_a_password_or_that_left_opens_nothing(groups):
    run("ada", "--email", "ada@shop.example")
    User.objects.update(is_active=False)
    assert "This link has ended" in open_link(link()).page


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (("ada", "--email", "nonsense"), 64, "email: Enter a valid email address."),
        (("a da", "--email", "ada@shop.example"), 64, "username: Enter a valid username."),
        (("ada", "--email", ""), 64, "email: the link has to go somewhere."),
        (("ada", "--email", "a@shop.example", "--group", "kings"), 64, "There is no group kings. There are: "),
        (("ada",), 64, "--email"),
        (("BOSS", "--email", "boss@shop.example"), 1, "There is an account boss already. Change it in the admin."),
    ],
)
def test_what_cannot_be_invited_says_why_and_leaves_nothing(groups, arguments, code, why):
    boss = make_staff(superuser=True, password=PASSWORD)
    User.objects.filter(pk=boss.pk).update(username="boss")
    found = run(*arguments)
    assert found[0] == code
    assert why in found[1]
    assert [User.objects.get().check_password(PASSWORD), mail.outbox] == [True, []]


class Refusing(BaseEmailBackend):
    def send_messages(self, messages):
        raise SMTPRecipientsRefused({"ada@shop.example": (550, b"no")})


def test_a_mail_that_is_refused_is_no_success_and_can_be_repeated(groups, settings):
    kept = settings.EMAIL_BACKEND
    settings.EMAIL_BACKEND = f"{__name__}.Refusing"
    code, said = run("ada", "--email", "ada@shop.example")
    assert [code, "run this again" in said] == [1, True]
    settings.EMAIL_BACKEND = kept
    assert run("ada", "--email", "ada@shop.example")[0] == 0
    assert User.objects.count() == 1


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_two_who_use_the_link_at_once_make_one_password(groups):
    run("ada", "--email", "ada@shop.example")
    clients, start, answers = [open_link(link()), open_link(link())], threading.Barrier(2), []
    codes = [code_of(client) for client in clients]

    def use(client, number):
        start.wait(timeout=20)
        password = f"{PASSWORD} {number}"
        form = {"new_password1": password, "new_password2": password, "code": codes[number]}
        answers.append((number, client.post(client.path, form).content.decode()))
        connections.close_all()

    threads = [threading.Thread(target=use, args=(client, number)) for number, client in enumerate(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    won = [number for number, page in answers if "</strong> is set up" in page]
    assert len(won) == 1
    assert User.objects.get().check_password(f"{PASSWORD} {won[0]}")
