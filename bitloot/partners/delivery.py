"""Sends outgoing webhooks, signed as Standard Webhooks: https://www.standardwebhooks.com.

The receiver is a stranger: it is reached at public addresses only, and its answer is read no further than it is shown.
"""

import logging
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from threading import Lock

import requests
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from standardwebhooks import Webhook
from urllib3.exceptions import HTTPError

from bitloot.core import wakeup
from bitloot.core.clock import delay
from bitloot.core.logs import Redactor
from bitloot.core.outside import FAILURES, PORTS, InvalidIPAddress, PortRefused, answer_to
from bitloot.partners.credentials import webhook_secrets
from bitloot.partners.exceptions import Gone, NotDelivered
from bitloot.partners.models import SHOWN_RESPONSE, Endpoint, OutgoingWebhook
from orders.alerts import raise_alert
from orders.choices import AlertKind
from orders.models import Email

logger = logging.getLogger(__name__)

# After each try that failed, in seconds: ten tries within three days and four hours.
RETRIES = (60, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
PAUSE = 60  # of an endpoint that failed, so that a dead one with many events costs one try a minute
OFF_AFTER = 3 * 86_400
BUSY_AGAIN = 5
TIMEOUT = (3.05, 10.0)  # to connect, and between two pieces of the answer
READ_BYTES, READ_SECONDS = 4 * SHOWN_RESPONSE, 5.0
AT_ONCE = 3  # of one key, in one process
_scrubbed = Redactor()


class Room:
    """Keeps a receiver whose answers never end from taking every seat: a key has a few at a time."""

    def __init__(self) -> None:
        self._lock, self._taken = Lock(), Counter[object]()

    @contextmanager
    def taken(self, key: object) -> Iterator[bool]:
        """Take a place until the block ends; enter with False if there is none."""
        with self._lock:
            is_mine = self._taken[key] < AT_ONCE
            self._taken[key] += is_mine
        try:
            yield is_mine
        finally:
            with self._lock:
                self._taken[key] -= is_mine


_room = Room()


def send(webhook: OutgoingWebhook) -> None:
    """Send one claimed webhook and record the outcome."""
    endpoint = Endpoint.objects.select_related("api_key").get(pk=webhook.endpoint_id)
    if not endpoint.is_enabled or not endpoint.api_key.is_live:
        webhook.mark_failed(error="Its endpoint is off, or the API key has ended.")
    elif endpoint.pause:
        webhook.release(endpoint.pause)
    else:
        with _room.taken(endpoint.api_key_id) as has_room:
            if has_room:
                _deliver(webhook, endpoint)
            else:
                webhook.release(delay(BUSY_AGAIN))


def give_up(webhook: OutgoingWebhook) -> None:
    """End a webhook that crashed its worker again and again."""
    webhook.mark_failed(error="Sending it crashed the worker three times.")


def _deliver(webhook: OutgoingWebhook, endpoint: Endpoint) -> None:
    try:
        status, response = post(endpoint.url, webhook.body.encode(), signed(webhook, endpoint))
    except NotDelivered as err:
        logger.warning("webhook %s to endpoint %s failed: %s", webhook.message_id, endpoint.pk, err)
        _record_failure(webhook, endpoint, err)
    else:
        webhook.mark_delivered(status=status, response=response)
        endpoint.note_delivered()


def signed(webhook: OutgoingWebhook, endpoint: Endpoint, *, at: datetime | None = None) -> dict[str, str]:
    """Return the headers of one try: the id stays the same for all of them, the moment does not."""
    moment = (at or datetime.now(UTC)).replace(microsecond=0)
    secrets = webhook_secrets(endpoint.pk, endpoint.generations)
    signatures = [Webhook(secret).sign(webhook.message_id, moment, webhook.body) for secret in secrets]
    return {
        "webhook-id": webhook.message_id,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


def post(url: str, body: bytes, headers: dict[str, str]) -> tuple[int, str]:
    """Post once and return the status and the beginning of the answer. Raises NotDelivered unless it is a 2xx."""
    # `identity`: the beginning of the answer is shown as it comes, not unpacked.
    sent = {"Content-Type": "application/json", "User-Agent": "BitLoot", "Accept-Encoding": "identity", **headers}
    # Asked again: the endpoint may be from a time when WEBHOOKS_TO_LOOPBACK was set.
    if not (url.lower().startswith("https://") or settings.WEBHOOKS_TO_LOOPBACK):
        raise NotDelivered("Its address has to begin with https://; nothing was sent.")
    request = requests.Request("POST", url, data=body, headers=sent)
    try:
        with answer_to(request, timeout=TIMEOUT, allow_loopback=settings.WEBHOOKS_TO_LOOPBACK) as response:
            status, shown = response.status_code, _beginning(response)
    except FAILURES as err:
        raise NotDelivered(_in_words(err)) from err
    if status == 410:
        raise Gone("It answered 410: it wants no webhooks any more.", status=status, response=shown)
    if not 200 <= status < 300:
        raise NotDelivered(f"It answered {status}.", status=status, response=shown)
    return status, shown


def _beginning(response: requests.Response) -> str:
    """Return how the answer begins, in one line and without what looks like a secret."""
    raw, deadline = b"", time.monotonic() + READ_SECONDS
    with suppress(HTTPError, OSError):  # its status has come, and that is what counts
        # read1 returns what is there; read would wait for all of it, past the deadline.
        while len(raw) < READ_BYTES and time.monotonic() < deadline and (piece := response.raw.read1(READ_BYTES)):
            raw += piece
    text = raw[:READ_BYTES].decode("utf-8", "replace")
    return _scrubbed("".join(sign if sign.isprintable() else " " for sign in text)).strip()[:SHOWN_RESPONSE]


def _in_words(err: Exception) -> str:
    # Never the error's own text: it repeats the address, which may hold a token.
    known = (
        (InvalidIPAddress, "Its host leads to an address that is not public; nothing was sent."),
        (PortRefused, f"Its port is not {' or '.join(map(str, PORTS))}; nothing was sent."),
        (requests.exceptions.SSLError, "Its certificate is not valid."),
        (requests.Timeout, f"It did not answer within {TIMEOUT[1]:g} seconds."),
        (requests.ConnectionError, "It cannot be reached."),
    )
    return next((words for kind, words in known if isinstance(err, kind)), f"Nothing was sent ({type(err).__name__}).")


def _record_failure(webhook: OutgoingWebhook, endpoint: Endpoint, err: NotDelivered) -> None:
    with transaction.atomic():
        if Endpoint.objects.select_for_update(no_key=True).get(pk=endpoint.pk).url != endpoint.url:
            # The answer of an address that staff have replaced meanwhile says nothing about the new one.
            webhook.release(timedelta(0))
            return
        # The webhook first, and together: if its lease was lost this raises, and nothing counts against the endpoint.
        if isinstance(err, Gone) or webhook.attempts >= len(RETRIES):
            error = str(err) if isinstance(err, Gone) else f"{err} It was tried for three days."
            webhook.mark_failed(error=error, status=err.status, response=err.response)
        else:
            after = delay(RETRIES[webhook.attempts])
            webhook.try_later(after, error=str(err), status=err.status, response=err.response)
        since = endpoint.note_failed(pause=delay(PAUSE))
        if isinstance(err, Gone) or timezone.now() - since >= delay(OFF_AFTER):
            _switch_off(endpoint, since, err)


def _switch_off(endpoint: Endpoint, since: datetime, err: NotDelivered) -> None:
    """Stop sending to an endpoint that fails for good; its owner and staff hear of it."""
    days = max((timezone.now() - since) // timedelta(days=1), 0)
    trouble = str(err) if isinstance(err, Gone) else f"Nothing arrived for {days} days. {err}"
    if not endpoint.switch_off(reason=trouble):
        return
    raise_alert(
        AlertKind.ENDPOINT_OFF,
        endpoint,
        f"Webhooks of {endpoint.api_key.name} are off. {trouble} Their owner was mailed. Press “Switch on again” once"
        " it works, then send again what was given up.",
    )
    Email.objects.create(
        kind=Email.Kind.PARTNER_NOTICE,
        to=endpoint.api_key.email,
        facts={"host": endpoint.host, "key": f"blk_{endpoint.api_key.prefix}…", "trouble": trouble},
    )
    wakeup.notify("orders")
