"""The inbox: one statement to store, a wake-up, and a handler that may run again at any time."""

import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from operator import itemgetter
from typing import Any

from django.db import connection, transaction
from django.db.models import F
from django.db.models.functions import Now

from bitloot.core import queries, wakeup
from bitloot.core.clock import backoff
from bitloot.core.faults import failpoint
from bitloot.core.providers import ProviderUnavailable
from orders.alerts import close_alert, raise_alert
from payments.exceptions import UnknownPayment
from webhooks.group_commit import Group
from webhooks.handlers import HANDLERS
from webhooks.models import WebhookLog

logger = logging.getLogger(__name__)

TRIES_AFTER_A_FAILURE = 5
TRIES_WITHOUT_ANSWER = 60

# More than a web process has threads, most often.
MOST_AT_ONCE = 16
_COLUMNS = "provider, body, body_sha256, headers, external_id, event_type, repeats, status, outcome, attempts, crashes"
_ROW = "(%s, %s, %s, %s, %s, %s, %s, 'received', '', 0, 0)"
_AGAIN = (
    "ON CONFLICT (provider, body_sha256) DO UPDATE SET repeats = webhooks_webhooklog.repeats + 1 + EXCLUDED.repeats"
)


class TamperedBody(Exception):
    """The stored body is not the one that was verified."""


@dataclass(frozen=True)
class Received:
    """A webhook that was verified, as it is stored."""

    provider: str
    body: bytes = field(repr=False)
    headers: dict[str, str]
    external_id: str
    event_type: str


def store(received: Received) -> None:
    """Store a verified webhook and wake the workers; it is committed when this returns. The same body again is only counted.

    One statement, which webhooks that come at the same time share.
    """
    if connection.in_atomic_block:
        _insert([received])  # others must not depend on what becomes of this transaction
    else:
        _together(received)
    wakeup.notify("webhooks")


def _insert(webhooks: Sequence[Received]) -> None:
    counted = Counter((sha256(webhook.body).digest(), webhook.provider) for webhook in webhooks)
    rows = {(sha256(webhook.body).digest(), webhook.provider): webhook for webhook in webhooks}
    params: list[Any] = []
    for (digest, provider), webhook in sorted(rows.items(), key=itemgetter(0)):  # all lock in one order
        headers, repeats = json.dumps(webhook.headers), counted[digest, provider] - 1
        params += (provider, webhook.body, digest, headers, webhook.external_id[:64], webhook.event_type[:64], repeats)
    values = ", ".join([_ROW] * len(rows))
    queries.execute(f"INSERT INTO webhooks_webhooklog ({_COLUMNS}) VALUES {values} {_AGAIN}", params)  # noqa: S608


_together = Group(_insert, most=MOST_AT_ONCE)


def process(log: WebhookLog) -> None:
    """Run the handler of one claimed row and record what came of it; a failure keeps the row for another try."""
    try:
        outcome = HANDLERS[log.provider](log)
        failpoint("webhook.handled")
    except (ProviderUnavailable, UnknownPayment) as err:
        _try_later(log, err)
    except Exception as err:
        logger.exception("%s could not be handled", log)
        _fail(log, err)
        return
    else:
        ignored = outcome.startswith("ignored")
        status = WebhookLog.Status.IGNORED if ignored else WebhookLog.Status.PROCESSED
        log.release(None, status=status, outcome=outcome[:300], processed_at=Now())
        if log.attempts or log.replays:
            close_alert("webhook_failed", f"webhook {log.pk}", by="the machine: it was handled")


def give_up(log: WebhookLog) -> None:
    """End a row that crashed its worker again and again."""
    with transaction.atomic():
        log.release(None, status=WebhookLog.Status.FAILED, outcome="Handling it crashed the worker three times.")
        message = f"{log} crashed the worker. Look at the log, then replay it."
        raise_alert("webhook_failed", f"webhook {log.pk}", message)


def replay(log: WebhookLog) -> bool:
    """Hand the row to its handler once more. Return False if a worker is at it right now.

    Raises TamperedBody if the body is not the one that was verified.
    """
    if sha256(bytes(log.body)).digest() != bytes(log.body_sha256):
        raise TamperedBody(str(log))
    replayed = WebhookLog.objects.filter(pk=log.pk, claim_token=None).update(
        status=WebhookLog.Status.RECEIVED,
        next_attempt_at=Now(),
        attempts=0,
        crashes=0,
        replays=F("replays") + 1,
    )
    wakeup.notify("webhooks")
    return bool(replayed)


def _try_later(log: WebhookLog, err: Exception) -> None:
    if log.attempts + 1 < TRIES_WITHOUT_ANSWER:
        log.retry(outcome=f"Waiting: {err}"[:300])
    else:
        log.release(None, status=WebhookLog.Status.IGNORED, outcome=f"Gave up waiting: {err}"[:300])


def _fail(log: WebhookLog, err: Exception) -> None:
    """Show the failure at once, try a few times more, then wait for a person to replay it."""
    last = log.attempts + 1 >= TRIES_AFTER_A_FAILURE
    pause: timedelta | None = None if last else backoff(log.attempts + 3)
    outcome = f"{type(err).__name__}: {err}"[:300]
    with transaction.atomic():  # or nobody is told if the worker dies in between
        log.release(pause, status=WebhookLog.Status.FAILED, outcome=outcome, attempts=F("attempts") + 1)
        raise_alert(
            "webhook_failed",
            f"webhook {log.pk}",
            f"{log} could not be handled: {type(err).__name__}. Mend it, then replay it.",
        )
