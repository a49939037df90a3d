import smtplib
from datetime import timedelta
from io import BytesIO

import pytest
from django.contrib.staticfiles import finders
from django.core import mail as outbox
from django.core.mail.backends.locmem import EmailBackend
from django.db.models.functions import Now
from PIL import Image

from orders import covers, mail
from orders.access import make_token, order_link
from orders.mail_letters import BRING_TOKEN
from orders.mail_samples import FACTS
from orders.models import Alert, Email, OrderEvent
from orders.services import renew_link
from orders.tasks import drain_mails
from orders.tests.database import dying_at
from orders.tests.factories import make_email, make_order, make_product
from sandbox.mailbox import Mailbox
from tools.dev.supervise import free_port, wait_until

pytestmark = pytest.mark.django_db
STATUSES = {  # in which the mail is still true
    "payment_checked": "held",
    "underpaid": "underpaid",
    "expired": "expired",
    "cancelled": "cancelled",
    "partly_ready": "partially_fulfilled",
}


class Server(EmailBackend):
    """The mail server: raises whatever a test puts here."""

    error = None

    def send_messages(self, messages):
        if Server.error is not None:
            raise Server.error
        return super().send_messages(messages)


@pytest.fixture(autouse=True)
def server(settings):
    settings.EMAIL_BACKEND = f"{__name__}.Server"
    Server.error = None
    return Server


def drained(row):
    Email.objects.filter(pk=row.pk).update(next_attempt_at=Now(), claim_token=None)
    drain_mails()
    row.refresh_from_db()
    return row


@pytest.mark.parametrize("kind", sorted(BRING_TOKEN))
def test_a_mail_is_rendered_when_it_is_sent_and_leads_to_the_page(kind):
    order = make_order(status=STATUSES.get(kind, "pending"))
    Email.objects.all().delete()
    row = drained(make_email(kind, order=order, facts=FACTS[kind]))
    (sent,) = outbox.outbox
    assert [row.status, row.error, row.next_attempt_at, row.crashes] == ["sent", "", None, 0]
    assert row.sent_at is not None
    assert sent.to == [order.email]
    ((html, mimetype),) = sent.alternatives
    assert mimetype == "text/html"
    # Up to the second at which the link was made.
    assert order_link(order).rsplit(".", 3)[0] + "." in sent.body
    assert make_token(order, "mail").rsplit(".", 3)[0] + "." in html
    assert sent.subject
    assert "\n" not in sent.subject


def test_an_alert_mail_tells_staff_the_reason_and_holds_no_link_to_the_order():
    row = drained(make_email("alert", to="staff@shop.example", reason="Look at this."))
    sent = outbox.outbox[-1]
    assert [row.status, sent.to] == ["sent", ["staff@shop.example"]]
    assert "Look at this." in sent.body
    assert make_token(row.order, "mail") not in sent.body
    assert make_token(row.order, "api") not in sent.body


def test_no_link_and_no_token_rests_in_the_database():
    order = make_order()
    renew_link(order)
    drained(order.emails.get(kind="fresh_link"))
    secrets = [make_token(order, "api").partition(".")[2], make_token(order, "mail").rpartition(".")[2]]
    stored = [*Email.objects.values(), *OrderEvent.objects.values(), *type(order).objects.values()]
    assert not [secret for secret in secrets if secret in repr(stored)]


def test_a_sent_mail_is_not_sent_again():
    row = drained(make_email())
    before = len(outbox.outbox)
    drain_mails()
    assert [len(outbox.outbox), row.next_attempt_at] == [before, None]


def test_a_refused_address_goes_to_staff_at_once(server):
    row = make_email()
    server.error = smtplib.SMTPRecipientsRefused({row.to: (550, b"no such user CANARY")})
    drained(row)
    alert = Alert.objects.get(about_model="orders.email", about_pk=row.pk)
    assert [row.status, row.error, row.next_attempt_at] == [
        "failed",
        "The mail server refused it for good: SMTPRecipientsRefused 550.",
        None,
    ]
    assert [alert.kind, alert.status, alert.order] == ["mail_failed", "open", row.order]
    assert "CANARY" not in alert.message


@pytest.mark.parametrize(
    "error", [smtplib.SMTPServerDisconnected("gone"), smtplib.SMTPDataError(451, b"later"), ConnectionRefusedError()]
)
def test_a_server_that_is_down_is_tried_again_later(server, error):
    row = make_email()
    server.error = error
    for attempts, pause in ((1, 1), (2, 2), (3, 4)):
        drained(row)
        assert [row.status, row.attempts, row.error.split()[0]] == ["queued", attempts, type(error).__name__]
        due = timedelta(seconds=pause)
        assert Email.objects.filter(pk=row.pk, next_attempt_at__gt=Now() + due - timedelta(seconds=2)).exists()
        assert Email.objects.filter(pk=row.pk, next_attempt_at__lte=Now() + due).exists()
    server.error = None
    assert [drained(row).status, row.error] == ["sent", ""]
    assert not Alert.objects.exists()


def test_after_a_day_a_mail_is_given_up_with_an_alert(server):
    row = make_email()
    Email.objects.filter(pk=row.pk).update(attempts=mail.MAX_ATTEMPTS - 1)
    server.error = smtplib.SMTPServerDisconnected("gone")
    drained(row)
    assert [row.status, row.next_attempt_at] == ["failed", None]
    assert Alert.objects.get(about_model="orders.email", about_pk=row.pk).kind == "mail_failed"


def test_a_mail_that_crashes_its_worker_is_given_up_after_three_times(server):
    row = make_email()
    server.error = ValueError("a bug")
    for crashes in (1, 2, 3):
        assert [drained(row).crashes, row.status] == [crashes, "queued"]
    drained(row)
    assert [row.status, row.error] == ["failed", "Sending it crashed the worker three times."]


def test_a_refused_staff_address_does_not_make_mails_for_ever(server):
    """Each mail that fails raises an alert, and each alert owes staff a mail."""
    make_email()
    server.error = smtplib.SMTPRecipientsRefused({"staff@shop.example": (550, b"no")})
    for _ in range(10):
        Email.objects.filter(status="queued").update(next_attempt_at=Now())
        drain_mails()
    assert not Email.objects.filter(status="queued").exists()
    assert list(Alert.objects.order_by("pk").values_list("about_pk", flat=True)[1:]) != []
    assert Alert.objects.filter(about_pk="mails to staff").count() == 1
    assert Email.objects.filter(kind="alert").count() <= Alert.objects.count()


def test_what_is_given_up_and_its_alert_are_one_step(server):
    row = make_email()
    server.error = smtplib.SMTPRecipientsRefused({row.to: (550, b"no")})
    with dying_at("orders_alert"), pytest.raises(SystemExit):
        drain_mails()
    row.refresh_from_db()
    assert row.status == "queued"


class CountingMailbox(Mailbox):
    """A real mail server that counts who dials and who says goodbye, and hangs up if it is told to."""

    calls = goodbyes = 0
    hang_up_once = False
    speaking = None

    def dismiss(self):
        """Hang up on the client that spoke last."""
        self._server.loop.call_soon_threadsafe(self.speaking.transport.close)
        wait_until(lambda: self.speaking.transport is None, seconds=60, what="the end of the connection")

    async def handle_QUIT(self, server, session, envelope):
        self.goodbyes += 1
        return "221 Bye"

    async def handle_EHLO(self, server, session, envelope, hostname, responses):
        self.calls += 1
        self.speaking = server
        session.host_name = hostname
        return responses

    async def handle_RCPT(self, server, session, envelope, address, options):
        if self.hang_up_once:
            self.hang_up_once = False
            server.transport.close()
        envelope.rcpt_tos.append(address)
        return "250 OK"


@pytest.fixture
def mailbox(settings, monkeypatch):
    settings.EMAIL_BACKEND = "bitloot.core.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", free_port()
    mailbox = CountingMailbox()
    mailbox.listen(settings.EMAIL_HOST, settings.EMAIL_PORT)
    yield mailbox
    mailbox.close()


def owed(order, number):
    Email.objects.all().delete()
    return [make_email("delayed", order=order, facts={"title": f"Number {n}"}) for n in range(number)]


def test_four_mails_share_one_connection_to_the_mail_server(mailbox):
    owed(make_order(), 6)
    assert drain_mails() == 6
    assert [mailbox.taken, mailbox.calls] == [6, 2]
    assert {mail["to"][0] for mail in mailbox.newest()} == {"ada@example.org"}
    assert all("Number" in mail["text"] for mail in mailbox.newest())


def test_a_broken_connection_costs_one_mail_its_try_and_the_next_one_dials_again(mailbox):
    mailbox.hang_up_once = True
    owed(make_order(), 3)
    assert drain_mails() == 3
    assert sorted(Email.objects.values_list("status", "attempts")) == [("queued", 1), ("sent", 0), ("sent", 0)]
    assert [mailbox.taken, mailbox.calls] == [2, 2]


class Moody(Mailbox):
    """A real mail server that answers one command otherwise, as often as it is told."""

    def __init__(self, command, answer, times=99):
        super().__init__()
        self.command, self.answer, self.times = command, answer, times

    def mood(self, command):
        if command != self.command or not self.times:
            return None
        self.times -= 1
        return self.answer

    async def handle_MAIL(self, server, session, envelope, address, options):
        envelope.mail_from = address
        return self.mood("MAIL") or "250 OK"

    async def handle_RCPT(self, server, session, envelope, address, options):
        if (answer := self.mood("RCPT")) is None:
            envelope.rcpt_tos.append(address)
        return answer or "250 OK"

    async def handle_DATA(self, server, session, envelope):
        return self.mood("DATA") or await super().handle_DATA(server, session, envelope)


@pytest.fixture
def moody(settings):
    servers = []

    def listen(*mood):
        settings.EMAIL_BACKEND = "bitloot.core.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", free_port()
        servers.append(Moody(*mood))
        servers[-1].listen(settings.EMAIL_HOST, settings.EMAIL_PORT)
        return servers[-1]

    yield listen
    for server in servers:
        server.close()


TEMPORARY = ["450 4.2.0 Greylisted", "452 4.2.2 out of storage", "421 4.7.0 Too many connections", "451 later"]


@pytest.mark.parametrize("answer", TEMPORARY)
@pytest.mark.parametrize("command", ["MAIL", "RCPT", "DATA"])
def test_a_4xx_to_any_command_passes(moody, command, answer):
    mailbox = moody(command, answer, 2)
    row = make_email()
    Email.objects.exclude(pk=row.pk).delete()
    assert [(drained(row).status, row.attempts) for _ in range(3)] == [("queued", 1), ("queued", 2), ("sent", 2)]
    assert [mailbox.taken, Alert.objects.count()] == [1, 0]


@pytest.mark.parametrize("command", ["MAIL", "RCPT", "DATA"])
def test_a_5xx_to_any_command_is_final(moody, command):
    moody(command, "550 5.1.1 No such user")
    row = drained(make_email())
    assert [row.status, row.next_attempt_at, row.error.endswith(" 550.")] == ["failed", None, True]
    assert Alert.objects.filter(kind="mail_failed", about_pk=row.pk).exists()


def test_a_login_that_is_refused_fails_no_mail_and_is_told_at_once(server):
    row = make_email()
    server.error = smtplib.SMTPAuthenticationError(535, b"wrong password")
    assert [drained(row).status, row.attempts] == ["queued", 1]
    alert = Alert.objects.get(kind="mail_failed", status="open")
    assert [alert.about, "EMAIL_URL" in alert.message] == ["mail server", True]
    server.error = None
    assert drained(row).status == "sent"
    alert.refresh_from_db()
    assert alert.status == "closed"


def test_a_mail_owed_to_an_address_that_was_corrected_goes_to_the_new_one():
    order = make_order()
    row = make_email("key_ready", order=order)
    type(order).objects.filter(pk=order.pk).update(email="right@example.org")
    drained(row)
    assert outbox.outbox[-1].to == ["right@example.org"]


def test_the_address_that_was_replaced_gets_no_link():
    order = make_order()
    drained(make_email("address_replaced", order=order, to="wrong@example.org"))
    (sent,) = [mail for mail in outbox.outbox if mail.to == ["wrong@example.org"]]
    assert "#" not in sent.body
    assert "#" not in sent.alternatives[0][0].split("<body")[1].replace("&#x27;", "'")
    assert str(order.pk) in sent.body


def test_headers_say_that_a_machine_wrote_and_where_answers_go(settings):
    settings.DEFAULT_FROM_EMAIL, settings.SUPPORT_EMAIL = "Shop <shop@mail.shop.example>", "help@shop.example"
    row = make_email("key_ready")
    drained(row)
    sent = next(mail for mail in outbox.outbox if "ready" in mail.subject).message()
    assert [sent["Auto-Submitted"], sent["Reply-To"]] == ["auto-generated", "help@shop.example"]
    assert sent["Message-ID"].endswith("@mail.shop.example>")


def test_a_mail_that_leaves_twice_has_one_id_and_one_that_staff_send_again_another(server):
    row = make_email("key_ready")
    Email.objects.exclude(pk=row.pk).delete()
    drained(row)
    Email.objects.filter(pk=row.pk).update(status="queued", sent_at=None)  # its worker died before it recorded it
    drained(row)
    row.mark_queued_again()
    drained(row)
    first, repeated, again = (mail.message()["Message-ID"] for mail in outbox.outbox)
    assert first == repeated != again


@pytest.mark.parametrize(
    ("kind", "status"),
    [("payment_seen", "paid"), ("underpaid", "paid"), ("expired", "paid"), ("partly_ready", "fulfilled"),
     ("payment_checked", "paid"), ("delayed", "fulfilled")],
)  # fmt: skip
def test_a_mail_that_is_no_longer_true_is_not_sent(kind, status):
    row = make_email(kind, order=make_order(status=status), facts=FACTS[kind])
    Email.objects.exclude(pk=row.pk).delete()
    assert [drained(row).status, row.next_attempt_at, outbox.outbox] == ["overtaken", None, []]


@pytest.mark.parametrize(
    ("status", "outcome"), [("cancelled", "sent"), ("refunded", "sent"), ("refund_due", "overtaken")]
)
def test_coins_of_an_order_that_is_over_are_told_until_the_refund_asks_for_an_address(status, outcome):
    row = make_email("payment_checked", order=make_order(status=status), facts={"ended": True})
    Email.objects.exclude(pk=row.pk).delete()
    assert drained(row).status == outcome
    assert ["so it buys nothing" in mail.body for mail in outbox.outbox] == [True] * (outcome == "sent")
    assert all(mail.subject.endswith("came too late") for mail in outbox.outbox)


def test_a_mail_is_in_the_language_that_its_order_remembers(client):
    product = make_product()
    form = {"email": "ada@example.org", "items": [{"product": product.slug, "quantity": 1}]}
    client.post("/api/orders", form, content_type="application/json", headers={"Accept-Language": "de-AT,en;q=0.5"})
    drain_mails()
    (sent,) = outbox.outbox
    assert sent.subject == f"Ihre Bestellung: {product.title}, 24,99 EUR"
    assert '<html lang="de">' in sent.alternatives[0][0]


@pytest.mark.parametrize(("kind", "path"), [("expired", "/products/product"), ("cancelled", "/")])
def test_what_can_be_ordered_again_leads_to_the_shop_and_brings_no_token(settings, kind, path):
    product = make_product(slug="product", is_active=True)
    order = make_order(product, status=kind)
    type(product).objects.update(is_active=kind == "expired")
    Email.objects.all().delete()
    drained(make_email(kind, order=order))
    (sent,) = outbox.outbox
    assert f":\n{settings.SITE_URL}{path}\n" in sent.body
    assert "#" not in sent.body


def test_a_picture_travels_with_the_mail_and_nothing_is_loaded(tmp_path, settings):
    settings.STATICFILES_DIRS = [tmp_path]
    (tmp_path / "cover.png").write_bytes(b"\x89PNG")
    order = make_order(make_product(cover="cover.png"))
    finders.get_finder.cache_clear()
    drain_mails()
    finders.get_finder.cache_clear()
    sent = outbox.outbox[-1].message()
    assert sent.get_content_type() == "multipart/related"  # or mail programs show it as an attachment
    parts = [part for part in sent.walk() if part.get_content_type() == "image/png"]
    assert [part["Content-ID"] for part in parts] == ["<cover>"]
    assert 'src="cid:cover"' in outbox.outbox[-1].alternatives[0][0]
    assert order.emails.get().status == "sent"


def test_a_picture_that_the_shop_keeps_travels_as_a_jpeg(settings, tmp_path):
    place = {"BACKEND": "storage.objects.EmbeddedFiles", "OPTIONS": {"location": tmp_path}}
    settings.STORAGES = {**settings.STORAGES, "covers": place}
    file = BytesIO()
    Image.new("RGB", (60, 80)).save(file, "PNG")
    kinds = []
    for product in (make_product(picture=covers.keep(file.getvalue())), make_product(picture="a" * 40)):
        make_order(product)
        drain_mails()
        kinds.append({part.get_content_type() for part in outbox.outbox[-1].message().walk()})
    assert ["image/jpeg" in each for each in kinds] == [True, False]  # the second's file is lost; its mail leaves
