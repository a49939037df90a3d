"""Mailboxes with letters beyond ASCII before the @: from the order to a real mail server, and where none takes them."""

import unicodedata

import pytest
from aiosmtpd.controller import Controller
from django.core.exceptions import ValidationError
from django.core.mail import EmailMessage, get_connection
from django.db.models.functions import Now

from bitloot.core.decisions import DecisionRefused
from bitloot.ops.customers import erase_customer, export_customer
from orders import decisions
from orders.access import make_token
from orders.erasure import is_erased
from orders.mailboxes import is_mailed_too_often, validate_mailbox
from orders.models import Alert, Email, Order
from orders.tasks import drain_mails
from orders.tests.factories import make_order, make_product
from sandbox.mailbox import Mailbox
from tools.dev.supervise import free_port

pytestmark = pytest.mark.django_db

YAMADA = "山田@例え.jp"
ON_THE_WIRE = "山田@xn--r8jz45g.jp"
JURGEN = "jürgen@example.de"
TYPED = unicodedata.normalize("NFD", "JÜRGEN@example.de")  # as some keyboards write it: u, then two dots


class Server(Mailbox):
    """A real mail server, with or without SMTPUTF8."""

    calls = 0

    async def handle_EHLO(self, server, session, envelope, hostname, answer):
        self.calls += 1
        session.host_name = hostname
        return answer

    def listen(self, host, port, *, smtputf8):
        self._server = Controller(self, hostname=host, port=port, enable_SMTPUTF8=smtputf8)
        self._server.start()

    @property
    def envelopes(self):
        return list(self._newest)


@pytest.fixture
def serve(settings):
    servers = []

    def listen(*, smtputf8):
        settings.EMAIL_BACKEND = "bitloot.core.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", free_port()
        settings.EMAIL_USE_TLS = settings.EMAIL_USE_SSL = False
        servers.append(Server())
        servers[-1].listen(settings.EMAIL_HOST, settings.EMAIL_PORT, smtputf8=smtputf8)
        return servers[-1]

    yield listen
    for server in servers:
        server.close()


def ask(client, path, order, email, **headers):
    asked = {"order_id": str(order.pk), "email": email}
    return client.post(path, asked, content_type="application/json", headers=headers)


def place(client, email):
    body = {"email": email, "items": [{"product": make_product().slug, "quantity": 1}]}
    return client.post("/api/orders", body, content_type="application/json")


# --- delivery ---


@pytest.mark.parametrize(
    ("email", "on_the_wire"),
    [
        (YAMADA, ON_THE_WIRE),
        (JURGEN, JURGEN),
        ('"山,田"@example.jp', '"山,田"@example.jp'),
        ("ö" * 60 + "@example.de", "ö" * 60 + "@example.de"),
    ],
)
def test_letters_reach_the_server_as_they_are(serve, email, on_the_wire):
    server = serve(smtputf8=True)
    order = make_order(email=email)
    assert drain_mails() == 1
    (envelope,) = server.envelopes
    assert [envelope.rcpt_tos, envelope.smtp_utf8] == [[on_the_wire], True]
    headers, _, body = envelope.content.partition(b"\r\n\r\n")
    assert f"To: {on_the_wire}" in headers.decode().replace("\r\n ", "").splitlines()
    assert b"=?" not in headers.partition(b"To: ")[2].partition(b"\r\n")[0]
    assert str(order.pk).encode() in body
    assert order.emails.get().status == "sent"


def test_mails_of_both_kinds_share_one_connection(serve):
    server = serve(smtputf8=True)
    connection = get_connection()
    messages = [EmailMessage("Hello", "Hello", to=[to]) for to in ("kim@example.org", YAMADA, '"kim,o"@c.example')]
    assert connection.send_messages(messages) == 3
    assert [(envelope.rcpt_tos[0], envelope.smtp_utf8) for envelope in server.envelopes] == [
        ("kim@example.org", False),
        ('"kim,o"@c.example', False),
        (ON_THE_WIRE, True),
    ]
    assert [server.calls, connection.connection] == [1, None]  # it dialled itself, so it hangs up


def test_server_without_smtputf8_fails_the_mail_at_once_and_staff_hear_what_to_do(serve):
    server = serve(smtputf8=False)
    order = make_order(email=YAMADA)
    drain_mails()
    mail = order.emails.get(kind="order_received")
    assert [mail.status, mail.next_attempt_at, server.taken] == ["failed", None, 0]
    assert mail.error == "Our mail server does not take addresses with letters such as é or 用 before the @."
    alert = Alert.objects.get(kind="mail_failed")
    assert [alert.status, alert.order, alert.about_pk] == ["open", order, str(mail.pk)]
    assert mail.error in alert.message
    assert "Check the address with the customer and correct it on the order" in alert.message


def test_the_next_customer_hears_it_at_once_and_others_are_not_bothered(client, serve):
    serve(smtputf8=False)
    assert place(client, YAMADA).status_code == 201
    drain_mails()
    answer = place(client, JURGEN)
    assert answer.status_code == 422
    (sentence,) = answer.json()["errors"]["email"]
    assert "letters such as é" in sentence
    product = make_product()
    page = client.post("/checkout", {"product": product.slug, "quantity": "1", "email": JURGEN})
    assert sentence in page.content.decode()
    with pytest.raises(DecisionRefused, match="letters such as é"):
        decisions.correct_email(make_order(), email=JURGEN, actor="kim", reason="They asked.")
    assert place(client, "kim@bücher.example").status_code == 201


def test_a_mail_that_leaves_after_all_opens_the_door_again(client, serve):
    serve(smtputf8=False)
    mail = make_order(email=YAMADA).emails.get()
    drain_mails()
    assert place(client, JURGEN).status_code == 422
    serve(smtputf8=True)
    decisions.send_again(Email.objects.get(pk=mail.pk), actor="kim")
    drain_mails()
    assert Email.objects.get(pk=mail.pk).status == "sent"
    assert place(client, JURGEN).status_code == 201


def test_what_a_provider_does_not_take_is_refused_and_not_tried(client, settings):
    order = make_order(email=YAMADA)
    settings.EMAIL_TAKES_LETTERS = False  # the shop has moved to another provider
    assert place(client, JURGEN).status_code == 422
    drain_mails()
    mail = order.emails.get(kind="order_received")
    assert [mail.status, mail.error[:15]] == ["failed", "Our mail server"]


# --- everywhere else ---


@pytest.mark.parametrize(
    "email",
    ["山\u00a0田@example.jp", "山\u202e田@example.jp", "山\n田@example.jp", "山 田@example.jp", "山@田@example.jp",
     "山(田)@example.jp", "山田@localhost", "@例え.jp", "\ud800@example.jp"],
)  # fmt: skip
def test_what_no_mailbox_has_is_refused(email):
    with pytest.raises(ValidationError):
        validate_mailbox(email)


def test_one_mailbox_is_one_however_it_is_typed(client, settings):
    answer = place(client, TYPED)
    assert answer.status_code == 201
    order = Order.objects.get()
    assert order.email == unicodedata.normalize("NFC", TYPED) == "JÜRGEN@example.de"
    settings.THROTTLE_SCALE = 1
    spellings = [JURGEN, TYPED, "jürgen+1@EXAMPLE.de", unicodedata.normalize("NFD", JURGEN)]
    assert [is_mailed_too_often(spellings[n % 4]) for n in range(41)] == [False] * 40 + [True]
    assert is_mailed_too_often("jurgen@example.de") is False


def test_a_domain_in_its_own_letters_counts_with_the_ascii_one(settings):
    settings.THROTTLE_SCALE = 1
    spellings = ["kim@bücher.example", "kim@xn--bcher-kva.example"]
    assert [is_mailed_too_often(spellings[n % 2]) for n in range(41)] == [False] * 40 + [True]


def test_links_codes_and_lists_find_the_order(client):
    order = make_order(email=JURGEN)
    typed = unicodedata.normalize("NFD", JURGEN)
    Email.objects.all().delete()
    ask(client, "/api/orders/lookup", order, typed)
    ask(client, "/api/orders/code", order, typed)
    client.post("/api/orders/lookup", {"email": typed}, content_type="application/json")
    client.post("/orders/find", {"email": typed, "number": str(order.pk)[:8]})
    client.post("/orders/find", {"email": typed, "number": ""})
    assert sorted(Email.objects.values_list("kind", "to")) == [
        ("access_code", JURGEN),
        ("fresh_link", JURGEN),
        ("fresh_link", JURGEN),
        ("your_orders", JURGEN),
        ("your_orders", JURGEN),
    ]


def test_customer_and_staff_correct_an_address(client):
    order = make_order(email="jurgen@example.de")
    answer = ask(client, "/api/orders/email", order, TYPED, Authorization=f"Bearer {make_token(order, 'api')}")
    assert answer.status_code == 200
    order.refresh_from_db()
    assert order.email == "JÜRGEN@example.de"
    form = decisions.CorrectionForm({"email": unicodedata.normalize("NFD", YAMADA), "reason": "They asked for it."})
    assert form.is_valid()
    decisions.correct_email(order, actor="kim", **form.cleaned_data)
    order.refresh_from_db()
    assert order.email == YAMADA
    with pytest.raises(DecisionRefused, match="has this address already"):
        decisions.correct_email(order, actor="kim", **form.cleaned_data)


def test_export_and_erasure_by_address():
    order = make_order(email=JURGEN, status="cancelled")
    Email.objects.update(status="sent", next_attempt_at=None, sent_at=Now())
    moved = make_order(email=JURGEN)
    decisions.correct_email(moved, email="kim@example.org", actor="kim", reason="Another mailbox.")
    typed = unicodedata.normalize("NFD", JURGEN)
    known = export_customer(typed)
    assert [known["email"], [row["id"] for row in known["orders"]]] == [JURGEN, [order.pk]]
    assert {row["to"] for row in known["other_mails"]} == {JURGEN}
    assert erase_customer(typed, actor="kim") == 1
    order.refresh_from_db()
    assert is_erased(order.email)
    assert not Email.objects.filter(to=JURGEN).exists()
    assert JURGEN not in repr(list(moved.events.values()))
