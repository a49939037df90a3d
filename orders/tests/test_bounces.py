"""Mail over a provider's API: how it leaves, how it is refused, and what the provider says of it later."""

import hashlib
import hmac
import json
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from urllib.parse import quote_plus, urlsplit

import boto3
import pytest
import responses
from django.contrib.staticfiles import finders
from django.db.models.functions import Now
from django.utils import translation
from moto import mock_aws
from moto.core import DEFAULT_ACCOUNT_ID
from moto.ses import ses_backends

from bitloot.mail_providers import PROVIDERS
from orders.models import Alert, Email, OrderEvent
from orders.services import correct_address
from orders.tasks import drain_mails
from orders.tests.factories import make_email, make_order, make_product

pytestmark = [pytest.mark.django_db, pytest.mark.once]

SECRET = "5f2a9c7be1804d36"
API = "https://api.postmarkapp.com/email"
ACCEPTED = {"To": "kim@example.org", "SubmittedAt": "2026-11-29T12:00:00Z", "MessageID": "b7bc2f4a", "ErrorCode": 0}
ACCEPTED |= {"Message": "OK"}
INACTIVE = {
    "ErrorCode": 406,
    "Message": "You tried to send to recipient(s) that have been marked as inactive. Found inactive addresses:"
    " kim@example.org. Inactive recipients are ones that have generated a hard bounce or a spam complaint.",
}


@pytest.fixture(autouse=True)
def postmark(settings):
    use_postmark(settings)
    with responses.RequestsMock(assert_all_requests_are_fired=False) as wire:
        yield wire


def use_postmark(settings):
    use(settings, "anymail+postmark://token:server-token@api.postmarkapp.com")


def use(settings, email_url):
    """Send mail as this EMAIL_URL says."""
    url = urlsplit(email_url)
    provider = PROVIDERS[url.scheme]
    settings.MAIL_SHOWS_PICTURES, settings.EMAIL_TAKES_LETTERS = provider.shows_pictures, provider.takes_letters
    settings.EMAIL_BACKEND, settings.EMAIL_WEBHOOK_VIEW = provider.backend, provider.webhook
    settings.ANYMAIL = provider.settings(url) | provider.webhook_settings(SECRET)


def event(mail, record="Bounce", **changes):
    """Return what Postmark sends of a mail."""
    at = {"Bounce": "BouncedAt", "SpamComplaint": "BouncedAt", "Delivery": "DeliveredAt"}[record]
    who = "Recipient" if record == "Delivery" else "Email"
    kind = {"Bounce": "HardBounce", "SpamComplaint": "SpamComplaint"}.get(record)
    body = {"RecordType": record, "MessageID": "b7bc2f4a", who: mail.to, at: "2026-11-29T12:00:05Z"}
    return body | {"Type": kind, "Metadata": {"mail": str(mail.pk)}, "ServerID": 23, "Tag": ""} | changes


def tell(client, body, *, secret=SECRET, user="bitloot"):
    basic = b64encode(f"{user}:{secret}".encode()).decode()
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.post("/api/webhooks/mail", sent, "application/json", headers={"Authorization": f"Basic {basic}"})


@pytest.fixture
def mail():
    order = make_order(email="kim@example.org")
    Email.objects.all().delete()
    return make_email("key_ready", order=order, to=order.email, status="sent", next_attempt_at=None)


def sent(row):
    Email.objects.exclude(pk=row.pk).delete()
    Email.objects.filter(pk=row.pk).update(status="queued", next_attempt_at=Now(), claim_token=None)
    drain_mails()
    row.refresh_from_db()
    return row


def alerts(status="open"):
    return list(Alert.objects.filter(status=status).values_list("kind", "about_model", "times"))


def test_a_mail_leaves_over_the_api_and_carries_its_number(mail, postmark):
    postmark.post(API, json=ACCEPTED)
    assert sent(mail).status == "sent"
    (call,) = postmark.calls
    body = json.loads(call.request.body)
    assert call.request.headers["X-Postmark-Server-Token"] == "server-token"
    assert [body["To"], body["Metadata"]] == ["kim@example.org", {"mail": str(mail.pk)}]
    assert {"Auto-Submitted", "Message-ID"} <= {header["Name"] for header in body["Headers"]}


TAKEN = {
    "anymail+brevo://key:K@api.brevo.com": ("https://api.brevo.com/v3/smtp/email", {"messageId": "<b7bc@brevo>"}),
    "anymail+mailgun://api:K@api.eu.mailgun.net": (
        "https://api.eu.mailgun.net/v3/shop.example/messages",
        {"id": "<b7bc@shop.example>", "message": "Queued. Thank you."},
    ),
    "anymail+mailjet://public:K@api.mailjet.com": (
        "https://api.mailjet.com/v3.1/send",
        {
            "Messages": [
                {"Status": "success", "To": [{"Email": "kim@example.org", "MessageID": 7}], "Cc": [], "Bcc": []}
            ]
        },
    ),
    "anymail+postmark://token:K@api.postmarkapp.com": (API, ACCEPTED),
    "anymail+resend://key:K@api.resend.com": ("https://api.resend.com/emails", {"id": "b7bc"}),
}


@pytest.fixture
def picture(settings, tmp_path):
    """A cover that travels with the mail."""
    settings.STATICFILES_DIRS = [tmp_path]
    (tmp_path / "cover.png").write_bytes(b"\x89PNG")
    finders.get_finder.cache_clear()
    yield "cover.png"
    finders.get_finder.cache_clear()


@pytest.mark.parametrize("email_url", TAKEN)
def test_every_provider_takes_a_whole_mail_with_its_picture(settings, postmark, picture, email_url):
    use(settings, email_url)
    settings.DEFAULT_FROM_EMAIL = "Schlüssel <shop@shop.example>"
    address, answer = TAKEN[email_url]
    postmark.post(address, json=answer)
    order = make_order(make_product(cover=picture), email="kim@example.org")
    assert sent(order.emails.get()).status == "sent"
    body = postmark.calls[0].request.body
    body = body if isinstance(body, bytes) else body.encode()
    assert str(order.id).encode() in body
    assert (base64_of(b"\x89PNG") in body or b"\x89PNG" in body) == settings.MAIL_SHOWS_PICTURES


@pytest.mark.parametrize("email_url", ["anymail+brevo://key:K@api.brevo.com", "anymail+mailgun://api:K@api.eu.mailgun.net",
                                       "anymail+mailjet://public:K@api.mailjet.com"])  # fmt: skip
def test_letters_before_the_at_reach_the_providers_that_take_them(settings, postmark, email_url):
    use(settings, email_url)
    settings.DEFAULT_FROM_EMAIL = "shop@shop.example"
    address, answer = TAKEN[email_url]
    postmark.post(address, json=answer)
    assert sent(make_order(email="山田@例え.jp").emails.get()).status == "sent"
    body = postmark.calls[0].request.body
    body = body if isinstance(body, bytes) else body.encode()
    to = "山田@xn--r8jz45g.jp"
    assert any(form in body for form in (to.encode(), to.encode("unicode-escape"), quote_plus(to).encode()))


def base64_of(data):
    return b64encode(data).rstrip(b"=")


@mock_aws
def test_amazon_takes_a_whole_mail_with_its_picture(settings, picture):
    use(settings, "anymail+ses://AKIA1:K@eu-central-1")
    boto3.client("ses", "eu-central-1").verify_domain_identity(
        Domain=settings.DEFAULT_FROM_EMAIL.partition("@")[2].strip(">")
    )
    order = make_order(make_product(cover=picture), email="kim@example.org")
    assert sent(order.emails.get()).status == "sent"
    message = ses_backends[DEFAULT_ACCOUNT_ID]["eu-central-1"].sent_messages[0]
    assert str(order.id) in message.raw_data


def test_a_refused_reader_is_final_and_a_busy_provider_is_not(mail, postmark):
    postmark.post(API, status=503)
    assert [sent(mail).status, mail.error, alerts()] == ["queued", "AnymailRequestsAPIError 503", []]
    postmark.replace("POST", API, status=422, json=INACTIVE)
    assert [sent(mail).status, alerts()] == ["failed", [("mail_failed", "orders.email", 1)]]
    assert "AnymailRecipientsRefused" in mail.error


def test_a_refused_key_fails_no_mail_and_is_told_at_once(mail, postmark):
    postmark.post(API, status=401, json={"ErrorCode": 10, "Message": "The server token you provided is invalid."})
    assert [sent(mail).status, alerts()] == ["queued", [("mail_failed", "", 1)]]
    postmark.replace("POST", API, json=ACCEPTED)
    assert [sent(mail).status, alerts()] == ["sent", []]


@pytest.mark.parametrize(
    ("record", "changes", "line", "error"),
    [
        ("Bounce", {}, "Our mail to you came back. Is the e-mail address right?", "It came back (bounced)."),
        ("Bounce", {"Type": "BadEmailAddress"}, "Our mail to you came back. Is the", "It came back (invalid)."),
        ("SpamComplaint", {}, "A mail of ours was reported as spam. The next", "Its reader called it spam."),
    ],
)
def test_what_comes_back_marks_the_order_once(client, mail, record, changes, line, error):
    for _ in range(3):
        assert tell(client, event(mail, record, **changes)).status_code == 200
    (noted,) = OrderEvent.objects.filter(order=mail.order, kind="mail")
    assert noted.message.startswith(line)
    with translation.override("de"):
        assert "E-Mail" in noted.message_for_reader
    alert = Alert.objects.get(status="open")
    assert [alert.kind, alert.about_pk, alert.times] == ["mail_bounced", str(mail.order_id), 1]
    assert error in alert.message
    mail.refresh_from_db()
    assert [mail.status, mail.error] == ["sent", error]


@pytest.mark.parametrize("changes", [{"Type": "Transient"}, {"RecordType": "Open"}, {"RecordType": "New"}])
def test_what_says_nothing_of_the_address_changes_nothing(client, mail, changes):
    assert tell(client, event(mail, **changes)).status_code == 200
    assert [alerts(), OrderEvent.objects.filter(kind="mail").count()] == [[], 0]


def test_a_later_delivery_closes_it_and_the_late_news_of_an_earlier_one_does_not(client, mail):
    tell(client, event(mail))
    now = datetime.now(UTC)
    tell(client, event(mail, "Delivery", DeliveredAt=(now - timedelta(hours=1)).isoformat()))
    assert alerts() == [("mail_bounced", "orders.order", 1)]
    tell(client, event(mail, "Delivery", DeliveredAt=(now + timedelta(seconds=5)).isoformat()))
    assert alerts() == []


def test_a_corrected_address_closes_it_and_the_old_one_is_no_news(client, mail):
    tell(client, event(mail))
    correct_address(mail.order, email="ada@example.org", actor="kim", reason="Mistyped.")
    assert alerts() == []
    farewell = Email.objects.get(kind="address_replaced")
    for row in (mail, farewell):
        tell(client, event(row, "SpamComplaint"))
    assert alerts() == []


def test_a_mail_to_staff_that_comes_back_is_told_to_staff(client, mail):
    alert = make_email("alert", order=None, to="staff@shop.example", status="sent", next_attempt_at=None)
    tell(client, event(alert))
    assert alerts() == [("mail_bounced", "", 1)]
    tell(client, event(alert, "Delivery", DeliveredAt="2099-01-01T00:00:00Z"))
    assert alerts() == []


@pytest.mark.parametrize("number", ["", "0", "x", "9" * 30, None, "²"])
def test_a_mail_that_is_not_ours_is_ignored(client, mail, number):
    assert tell(client, event(mail, Metadata={"mail": number})).status_code == 200
    assert alerts() == []


@pytest.mark.parametrize("access", [{"secret": "wrong"}, {"user": "bit"}, {"secret": SECRET + " "}])
def test_without_our_secret_nothing_is_read(client, mail, access):
    assert tell(client, event(mail), **access).status_code == 401
    assert tell(client, b"{", **access).status_code == 401
    assert client.post("/api/webhooks/mail", event(mail), "application/json").status_code == 401
    assert alerts() == []


@pytest.mark.parametrize(("key", "status"), [(SECRET, 200), ("another key", 401)])
def test_mailgun_signs_what_it_tells(client, mail, settings, key, status):
    use(settings, "anymail+mailgun://api:K@api.eu.mailgun.net")
    stamp, token = "1796000000", "5f2a9c7be1804d36"
    signature = hmac.new(key.encode(), f"{stamp}{token}".encode(), hashlib.sha256).hexdigest()
    failed = {"event": "failed", "severity": "permanent", "reason": "bounce", "recipient": mail.to, "timestamp": 1796e6}
    failed |= {"user-variables": {"mail": str(mail.pk)}, "message": {"headers": {"message-id": "b7bc@shop.example"}}}
    body = {"signature": {"timestamp": stamp, "token": token, "signature": signature}, "event-data": failed}
    assert client.post("/api/webhooks/mail", body, "application/json").status_code == status
    assert alerts() == [("mail_bounced", "orders.order", 1)] * (status == 200)


def test_broken_json_is_refused_and_without_a_provider_there_is_no_such_address(client, mail, settings):
    assert [tell(client, body).status_code for body in (b"{", b"\xff")] == [400, 400]
    settings.EMAIL_WEBHOOK_VIEW = ""
    assert tell(client, event(mail)).status_code == 404
