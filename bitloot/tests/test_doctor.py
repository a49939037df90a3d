"""`doctor`: what is well, what is wrong, and what to do about it, against the real thing where there is one."""

import email.utils
import json
import re
import shutil
import ssl
import subprocess
import sys
import time
from collections import namedtuple
from datetime import timedelta
from io import StringIO
from socketserver import BaseRequestHandler, TCPServer, UDPServer

import dns.message
import dns.rcode
import dns.resolver
import dns.rrset
import pytest
import responses
from aiosmtpd.controller import Controller
from django.conf import settings as store_settings
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection
from django.db.models.functions import Now

from bitloot.core.presence import Presence
from bitloot.ops.doctor import LOOKS, Level, examine, finding
from bitloot.ops.doctor.services import DURABLE
from bitloot.ops.doctor.wire import is_near
from bitloot.tests.serving import start_serving
from fulfillment import gate, kinguin
from orders import notifications
from orders.choices import AlertKind
from orders.models import Alert, Email
from orders.tests import test_bounces as bounces
from orders.tests.factories import make_email, make_order
from payments import coins
from payments.models import Coin
from payments.tests.factories import make_payment
from sandbox.mailbox import Mailbox
from storage.models import Key
from storage.objects import key_store
from storage.services import upload
from storage.tests.conftest import use_store
from storage.tests.factories import claim, make_key
from storage.tests.s3stub import running_stub
from tools.dev.devenv import ROOT, process_environment
from tools.dev.supervise import free_port
from webhooks.models import WebhookLog
from webhooks.tests.factories import make_log

pytestmark = pytest.mark.django_db


def seen(about):
    return [(each.level.value, each.message) for each in examine({about: LOOKS[about]})]


def levels(about):
    return {level for level, _ in seen(about)}


def run(*arguments):
    out = StringIO()
    try:
        call_command("doctor", *arguments, stdout=out)
    except CommandError as err:
        return err.returncode, out.getvalue()
    return 0, out.getvalue()


# --- the command ---


def only(*names):
    return [part for name in names for part in ("--only", name)]


def test_exit_codes_tell_wrong_from_to_look_at(settings):
    settings.SAFE_MODE = False
    assert run(*only("purchases", "migrations"))[0] == 0
    settings.SAFE_MODE = True
    code, out = run(*only("purchases"))
    assert code == 2
    assert "look  purchases: SAFE_MODE is set: nothing is bought\n      → Take it out" in out
    settings.KEY_ENCRYPTION_SECRET = ""
    assert run(*only("purchases", "keys"))[0] == 1
    assert run("--only", "weather")[0] == 64


def test_a_document_for_machines(settings):
    settings.SAFE_MODE = True
    code, out = run("--json", *only("purchases", "migrations"))
    document = json.loads(out)
    assert (code, document["ok"], document["wrong"], document["look"]) == (2, True, 0, 1)
    assert {found["about"]: found["level"] for found in document["findings"]} == {
        "purchases": "look",
        "migrations": "ok",
    }
    assert document["findings"][1]["remedy"].startswith("Take it out of the environment")


def test_a_look_that_fails_hides_no_other():
    def breaks():
        raise OSError("disk")
        yield

    found = list(examine({"one": breaks, "two": lambda: iter([finding.ok("fine")])}))
    assert [(each.about, each.level) for each in found] == [("one", Level.WRONG), ("two", Level.OK)]
    assert found[0].message == "could not be looked at (OSError)"


def test_what_is_not_well_comes_with_a_remedy(sandbox):
    for each in examine(LOOKS):
        assert bool(each.remedy) == (each.level is not Level.OK), each


def test_it_runs_as_a_process_and_changes_nothing(tmp_path):
    """Without a migrated database it names what is missing, instead of ending with a traceback."""
    environment = process_environment(
        tmp_path, port=free_port(), sandbox_port=free_port(), DATABASE_URL="", REDIS_URL=""
    )
    command = [sys.executable, "manage.py", "doctor", "--json"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    found = {each["about"]: each for each in json.loads(done.stdout)["findings"]}
    assert done.returncode == 1
    assert (found["migrations"]["level"], found["migrations"]["remedy"]) == (
        "wrong",
        "Run `manage.py migrate`, once the database answers.",
    )
    assert found["alerts"]["message"] == "could not be looked at: no such table: orders_alertchannel"
    assert "Traceback" not in done.stderr
    assert found["disk"]["level"] == "ok" or found["disk"]["remedy"]


def test_a_database_that_does_not_answer_is_named_with_its_reason(tmp_path):
    (tmp_path / "bitloot.sqlite3").write_text("This is no database, and never was one.")
    environment = process_environment(
        tmp_path, port=free_port(), sandbox_port=free_port(), DATABASE_URL="", REDIS_URL=""
    )
    command = [sys.executable, "manage.py", "doctor", "--only", "database", "--only", "purchases"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "database: it cannot be used: file is not a database\n      → Start it; check DATABASE_URL" in done.stdout
    assert "purchases: could not be looked at: file is not a database\n" in done.stdout
    assert "Traceback" not in done.stderr


def test_a_place_of_backups_that_does_not_answer_is_named(settings):
    settings.BACKUP_SECRET, settings.BACKUP_TARGET = "secret", "s3://backups"
    settings.R2_ENDPOINT, settings.R2_ACCESS_KEY_ID, settings.R2_SECRET_ACCESS_KEY = "http://127.0.0.1:1", "id", "key"
    sentence = "s3://backups/ cannot be looked into: The bucket cannot be used: EndpointConnectionError"
    assert seen("backup") == [("wrong", sentence)]


# --- the looks ---


def test_doubtful_settings_are_named(settings):
    settings.DOUBTFUL_SETTINGS = ("R2_BUKET is not a setting of BitLoot; did you mean R2_BUCKET?",)
    settings.DEBUG = False
    assert ("look", settings.DOUBTFUL_SETTINGS[0]) in seen("configuration")
    settings.SECURE_CONTENT_TYPE_NOSNIFF = False
    assert any(message.startswith("security.W006") for _, message in seen("configuration"))


def test_packages_are_compared_with_the_pinned_ones(settings, tmp_path):
    assert levels("versions") <= {"ok", "look"}
    (tmp_path / "requirements.txt").write_text(
        "django==1.0 \\\n    --hash=sha256:00\nnowhere==1 ; sys_platform == 'x'\n"
    )
    settings.BASE_DIR = tmp_path
    level, message = seen("versions")[1]
    assert (level, message.split(":")[0]) == ("look", "1 packages are not the pinned ones")


def test_the_database_is_well():
    # A throw-away PostgreSQL of the tests is as fast as it is forgetful, and the doctor says so.
    ill = [message for level, message in seen("database") if level == "wrong"]
    assert [message for message in ill if not any(name in message for name in DURABLE)] == []
    assert seen("database")[0][1].startswith(f"{connection.vendor} answers in ")


def test_a_broker_that_does_not_answer(settings):
    settings.REDIS_URL = ""
    assert seen("broker") == [("ok", "none: the worker looks for its work twice a second")]
    settings.REDIS_URL = f"redis://127.0.0.1:{free_port()}/0"
    assert seen("broker") == [("wrong", "Redis does not answer (ConnectionError)")]


def test_a_mail_server_that_cannot_be_reached(settings):
    settings.EMAIL_FILE_PATH = None
    settings.EMAIL_BACKEND = "bitloot.core.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", free_port()
    settings.EMAIL_USE_TLS = settings.EMAIL_USE_SSL = False
    assert seen("mail") == [("wrong", "the mail server refuses us, or cannot be reached (ConnectionRefusedError)")]


def test_a_provider_of_mail_is_named(settings):
    settings.EMAIL_FILE_PATH = None
    bounces.use_postmark(settings)
    assert seen("mail") == [
        ("ok", "mails leave over the API of postmark"),
        ("ok", "postmark takes no addresses with letters such as é before the @"),
    ]
    bounces.use(settings, "anymail+mailjet://public:K@api.mailjet.com")
    assert seen("mail") == [("ok", "mails leave over the API of mailjet")]


@pytest.mark.parametrize("smtputf8", [True, False])
def test_a_mail_server_is_asked_whether_it_takes_letters(settings, smtputf8):
    settings.EMAIL_FILE_PATH = None
    settings.EMAIL_BACKEND = "bitloot.core.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", free_port()
    settings.EMAIL_USE_TLS = settings.EMAIL_USE_SSL = False
    server = Controller(Mailbox(), hostname="127.0.0.1", port=settings.EMAIL_PORT, enable_SMTPUTF8=smtputf8)
    server.start()
    try:
        findings = seen("mail")
    finally:
        server.stop()
    refusal = "the mail server takes no addresses with letters such as é before the @: it does not announce SMTPUTF8"
    well = ("ok", "127.0.0.1 takes our name and password")
    assert findings == ([well] if smtputf8 else [well, ("look", refusal)])


def test_providers_and_their_clocks(sandbox):
    sandbox.control("balance", {"balance": 500})
    coins.refresh()
    assert levels("providers") == levels("clocks") == {"ok"}
    sandbox.fault("kinguin.balance", "5xx_before")
    assert levels("providers") == {"ok", "wrong"}


def test_clocks_that_are_apart(sandbox, monkeypatch):
    now = time.time
    monkeypatch.setattr("time.time", lambda: now() + 30)
    assert levels("clocks") == {"look"}
    monkeypatch.setattr("time.time", lambda: now() - 3600)
    assert levels("clocks") == {"wrong"}


@pytest.mark.parametrize("date", ["soon", "Thu, 01 Jan 2026 25:99:99 GMT", ""])
def test_a_clock_that_writes_no_date_hides_no_other(date):
    with responses.RequestsMock() as wire:
        wire.get(f"{store_settings.NOWPAYMENTS_BASE_URL}/status", headers={"Date": date})
        wire.get(store_settings.KINGUIN_BASE_URL, headers={"Date": email.utils.formatdate(usegmt=True)})
        of_providers = [said for _, said in seen("clocks") if "the database" not in said]
    assert [said.startswith("the clock of Kinguin") for said in of_providers] == [True]


def test_a_gate_that_is_stopped():
    gate.stop(kinguin.client().host, reason="tests")
    assert re.search(r": stopped since 20[-0-9]+ [0-9]+:[0-9]+ UTC \(tests\)$", seen("purchases")[0][1])


def test_work_that_waits():
    assert seen("workers")[0] == ("wrong", "none was seen in the last minute")
    Presence().note()
    (there, rest) = seen("workers")
    assert there[0] == "ok"
    assert re.fullmatch(r"1 seen: .+, process \d+ \(version .+\)", there[1])
    assert rest == ("ok", "nothing waits longer than it should")
    mail = make_email()
    Email.objects.filter(pk=mail.pk).update(next_attempt_at=Now() - timedelta(minutes=5))
    assert seen("workers")[1:] == [("wrong", "1 emails wait for over 90 s")]


def test_beat_is_judged_by_the_list_of_coins(sandbox):
    assert levels("beat") == {"wrong"}
    coins.refresh()
    assert seen("beat") == [("ok", "the coins were fetched 0 min ago")]
    Coin.objects.update(refreshed_at=Now() - timedelta(minutes=21))
    assert levels("beat") == {"wrong"}


def test_webhooks_that_stay_away():
    assert levels("webhooks") == {"ok"}
    make_payment(status="finished", finished_at=Now())
    assert seen("webhooks")[0] == ("wrong", "nowpayments has sent none for a week, although there were sales")
    make_log()
    assert seen("webhooks")[0] == ("ok", "nowpayments sent one 0 min ago")
    WebhookLog.objects.update(received_at=Now() - timedelta(days=8))
    assert seen("webhooks")[0][0] == "wrong"


def test_alerts_that_reach_nobody(settings):
    settings.STAFF_EMAIL, settings.ALERT_URL = (), ()
    assert seen("alerts") == [("wrong", "alerts reach nobody")]
    settings.STAFF_EMAIL = ("kim@example.org",)
    channel = "mail to kim@example.org"
    assert seen("alerts") == [("look", f"{channel}: nothing was ever delivered there")]
    notifications.record(channel)
    assert seen("alerts") == [("ok", f"{channel}: the last one arrived 0 min ago")]
    notifications.record(channel, error="refused")
    assert seen("alerts") == [("wrong", f"{channel}: refused")]
    order = make_order()
    Alert.objects.create(kind=AlertKind.ORDER_HELD, message="x", **Alert.key_of(order))
    assert seen("alerts")[-1] == ("look", "1 alerts are open")


def test_keys_that_nobody_can_open():
    assert seen("keys") == [("ok", "every key opens under the current secret")]
    make_key()
    Key.objects.update(master_key_id="elsewhere")
    assert seen("keys") == [("wrong", "keys need the master keys elsewhere, which this process does not have")]


def test_static_files_that_are_missing(settings, tmp_path):
    settings.DEBUG, settings.STATIC_ROOT = False, tmp_path
    assert levels("static files") == {"wrong"}
    (tmp_path / "staticfiles.json").touch()
    assert levels("static files") == {"ok"}


@pytest.mark.parametrize(("free", "level"), [(50, "ok"), (10, "look"), (4, "wrong")])
def test_a_disk_that_fills(monkeypatch, free, level):
    usage = namedtuple("usage", "total used free")(100 * 1024**3, (100 - free) * 1024**3, free * 1024**3)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert levels("disk") == {level}


# --- the certificate, at a server of our own ---


@pytest.fixture
def tls(tmp_path, settings, monkeypatch):
    """Serve a certificate that ends in so many days, from an authority that this process trusts."""
    servers = []

    def serve(days):
        name = tmp_path / f"cert{days}"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key",
             "-out", f"{name}.pem", "-days", str(days), "-subj", "/CN=localhost",
             "-addext", "subjectAltName=DNS:localhost"],
            check=True, capture_output=True,
        )  # fmt: skip
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(f"{name}.pem", f"{name}.key")
        server = TCPServer(("127.0.0.1", 0), BaseRequestHandler)
        server.handle_error = lambda *_: None
        server.socket = context.wrap_socket(server.socket, server_side=True)
        start_serving(server)
        servers.append(server)
        settings.SITE_URL = f"https://localhost:{server.server_address[1]}"
        monkeypatch.setenv("SSL_CERT_FILE", f"{name}.pem")

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(("days", "level"), [(90, "ok"), (20, "look"), (6, "wrong")])
def test_a_certificate_that_ends(tls, days, level):
    tls(days)
    assert [(found, message[-8:]) for found, message in seen("certificate")] == [(level, f"in {days - 1} days"[-8:])]


def test_a_certificate_that_browsers_refuse(tls, monkeypatch):
    tls(90)
    monkeypatch.delenv("SSL_CERT_FILE")
    assert seen("certificate")[0][0] == "wrong"


def test_a_shop_that_cannot_be_reached_from_here(settings):
    settings.SITE_URL = f"https://localhost:{free_port()}"
    assert levels("certificate") == {"look"}
    settings.SITE_URL = store_settings.NOWPAYMENTS_BASE_URL.removesuffix("/v1")
    assert levels("certificate") == {"ok"}


# --- the mail domain, at a name server of our own ---


class NameServer(UDPServer):
    """Answers TXT questions with these records, or not at all."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Question)
        self.records = {}
        start_serving(self)


class Question(BaseRequestHandler):
    def handle(self):
        packet, socket = self.request
        asked = dns.message.from_wire(packet)
        answer = dns.message.make_response(asked)
        name = asked.question[0].name
        texts = self.server.records.get(name.to_text(omit_final_dot=True))
        if texts is None:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        else:
            quoted = [f'"{text[:20]}" "{text[20:]}"' for text in texts]  # long records come in pieces
            answer.answer.append(dns.rrset.from_text(name, 60, "IN", "TXT", *quoted))
        socket.sendto(answer.to_wire(), self.client_address)


@pytest.fixture
def name_server(monkeypatch, settings):
    settings.DEFAULT_FROM_EMAIL, settings.DKIM_SELECTOR = "Shop <orders@mail.shop.example>", ("s1",)
    server = NameServer()
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers, resolver.port = ["127.0.0.1"], server.server_address[1]
    monkeypatch.setattr(dns.resolver, "default_resolver", resolver)
    yield server
    server.shutdown()
    server.server_close()


SPF = "v=spf1 include:mail.example -all"


def test_a_mail_domain_with_all_three_records(name_server):
    name_server.records = {
        "mail.shop.example": [SPF, "google-site-verification=x"],
        "_dmarc.shop.example": ["v=DMARC1; p=quarantine"],  # the organisation's
        "s1._domainkey.mail.shop.example": ["v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQC"],
    }
    assert seen("mail domain") == [
        ("ok", f"SPF: {SPF}"), ("ok", "DMARC: v=DMARC1; p=quarantine"), ("ok", "DKIM: s1 has a key"),
    ]  # fmt: skip


def test_a_mail_domain_without_records(name_server, settings):
    name_server.records = {"s1._domainkey.mail.shop.example": ["v=DKIM1; p="]}  # a key that was taken back
    assert {level for level, _ in seen("mail domain")} == {"wrong"}
    assert len(seen("mail domain")) == 3
    name_server.records = {"mail.shop.example": [SPF, "v=spf1 -all"]}
    assert "has 2 SPF records" in seen("mail domain")[0][1]
    settings.DKIM_SELECTOR = ()
    assert seen("mail domain")[-1] == ("look", "DKIM of mail.shop.example was not looked up")


NONE = "v=DMARC1; p=none"
REJECT = "v=DMARC1; p=reject"


@pytest.mark.parametrize(("sender", "records", "seen_record"), [
    ("mail.shop.co.uk", {"shop.co.uk": [REJECT]}, REJECT),
    ("a.b.shop.co.uk", {"shop.co.uk": [REJECT], "b.shop.co.uk": [NONE]}, REJECT),
    ("a.b.shop.co.uk", {"shop.co.uk": [REJECT], "b.shop.co.uk": [f"{NONE}; psd=n"]}, f"{NONE}; psd=n"),
    ("mail.shop.co.uk", {"mail.shop.co.uk": [NONE], "shop.co.uk": [REJECT]}, NONE),
    # A registry's record, and one of two, are no policy of this shop.
    ("shop.co.uk", {"co.uk": [f"{REJECT}; psd=y"], "uk": [REJECT]}, None),
    ("mail.shop.bank", {"bank": [f"{REJECT};psd = y"]}, None),
    ("shop.co.uk", {"shop.co.uk": [NONE, REJECT]}, None),
    ("shop.co.uk", {"shop.co.uk": ["v=DMARC10; p=none"]}, None),
    # The walk of a long name leaves labels out.
    ("a.b.c.d.e.f.g.h.shop.example", {"d.e.f.g.h.shop.example": [REJECT]}, REJECT),
    ("a.b.c.d.e.f.g.h.shop.example", {"c.d.e.f.g.h.shop.example": [REJECT]}, None),
])  # fmt: skip
def test_the_dmarc_record_that_counts_is_found_up_the_labels(name_server, settings, sender, records, seen_record):
    settings.DEFAULT_FROM_EMAIL = f"orders@{sender}"
    name_server.records = {f"_dmarc.{name}": texts for name, texts in records.items()}
    expected = ("ok", f"DMARC: {seen_record}") if seen_record else ("wrong", f"{sender} has no DMARC record")
    assert expected in seen("mail domain")


def test_dns_that_does_not_answer_is_said_aloud(name_server):
    name_server.shutdown()
    name_server.server_close()
    dns.resolver.default_resolver.timeout = 0.1
    ((level, message),) = seen("mail domain")
    assert (level, "were not looked up: LifetimeTimeout" in message or "NoNameservers" in message) == ("look", True)


# --- what crosses networks


@pytest.mark.parametrize(
    ("host", "near"),
    [("", True), ("/var/run/postgresql", True), ("127.0.0.1", True), ("10.0.0.5", True), ("fd00::5", True),
     ("8.8.8.8", False), ("2001:4860:4860::8888", False), ("no-such-host.invalid", False)],
)  # fmt: skip
def test_what_is_near_may_be_reached_in_clear_text(host, near):
    assert is_near(host) is near


def test_redis_over_a_public_network_needs_tls(settings):
    assert levels("wire") == {"ok"}
    settings.REDIS_URL = "redis://:word@8.8.8.8:6379/0"
    assert seen("wire")[-1] == ("wrong", "Redis at 8.8.8.8 is reached in clear text over a public network")
    settings.REDIS_URL = "rediss://:word@8.8.8.8:6379/0"
    assert seen("wire")[-1] == ("ok", "Redis is reached over TLS")


def test_every_sentinel_is_looked_at(settings):
    settings.REDIS_URL = "sentinel://:word@127.0.0.1,8.8.8.8:5/0?master=shop"
    assert seen("wire")[-2:] == [
        ("ok", "Redis is reached in clear text, on this machine or inside of a private network"),
        ("wrong", "Redis at 8.8.8.8 is reached in clear text over a public network"),
    ]


# --- keys that only the object store has ---


def test_keys_that_are_gone_from_the_bucket_are_named(settings):
    with running_stub() as stub:
        use_store(settings, "r2.R2Storage", stub.options)
        there, gone = make_key(), make_key()
        for key in (there, gone):
            upload(claim(key))
        assert seen("stored keys") == [("ok", "every key that only the object store has is there")]
        key_store().delete(gone.object_name)
        assert seen("stored keys") == [("wrong", f"1 keys are gone from the object store, the first is {gone.pk}")]
        stub.fail("GET", "503", "503")
        assert levels("stored keys") == {"wrong"}  # not known is not well
