"""The inbox: one statement to store, a wake-up, and a handler that may run again at any time."""

import json
import logging
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from operator import itemgetter
from typing import Any

from django.db import connection, transaction
from django.db.models import F

from bitloot.core import logs, queries, wakeup
from bitloot.core.clock import backoff
from bitloot.core.decisions import Decision, DecisionRefused, demand
from bitloot.core.faults import failpoint
from bitloot.core.providers import ProviderError
from bitloot.core.queue import now_sql
from orders.alerts import close_alert, raise_alert
from orders.choices import AlertKind
from payments.exceptions import UnknownPayment
from payments.models import Payment
from webhooks.choosing import Chosen, chosen
from webhooks.group_commit import Group
from webhooks.handlers import HANDLERS
from webhooks.models import Replay, ReplayRun, Verdict, WebhookAttempt, WebhookLog

logger = logging.getLogger(__name__)

TAMPERED = "The stored body is not the one that was verified, so it is not replayed."
BODY_FORGOTTEN = "Its body was deleted at the end of its retention, so there is nothing to replay."
CRASHED = "Handling it crashed the worker three times."
IN_HAND = "A worker is handling it right now; try again in a moment."
TRIES_AFTER_A_FAILURE = 5
TRIES_WITHOUT_ANSWER = 60

# More than a web process has threads, most often.
MOST_AT_ONCE = 16
_COLUMNS = (
    "provider, body, body_sha256, headers, external_id, event_type, request_id, repeats, status,"
    " outcome, attempts, crashes"
)
_ROW = "(%s, %s, %s, %s, %s, %s, %s, %s, 'received', '', 0, 0)"
# A provider's “resend” is a remedy: what was ignored or failed is due once more, now or when the worker that has it
# lets go (`woken`). What was processed, or is still due for the first time, is only counted.
_AGAIN = """
ON CONFLICT (provider, body_sha256) DO UPDATE SET
    repeats = webhooks_webhooklog.repeats + 1 + EXCLUDED.repeats,
    next_attempt_at = CASE WHEN {ended} AND {free} THEN {now} ELSE webhooks_webhooklog.next_attempt_at END,
    attempts = CASE WHEN {ended} AND {free} THEN 0 ELSE webhooks_webhooklog.attempts END,
    crashes = CASE WHEN {ended} AND {free} THEN 0 ELSE webhooks_webhooklog.crashes END,
    woken = webhooks_webhooklog.woken OR ({ended} AND NOT {free}),
    status = CASE WHEN {ended} AND {free} THEN 'received' ELSE webhooks_webhooklog.status END,
    replay_id = CASE WHEN {ended} AND {free} THEN NULL ELSE webhooks_webhooklog.replay_id END
"""
# Without its body, which retention empties, there is nothing left to handle.
_ENDED = "(webhooks_webhooklog.status IN ('ignored', 'failed') AND length(webhooks_webhooklog.body) > 0)"
_FREE = "(webhooks_webhooklog.claim_token IS NULL)"


class TamperedBody(DecisionRefused):
    """The stored body is not the one that was verified."""


@dataclass(frozen=True)
class Received:
    """A webhook that was verified, as it is stored."""

    provider: str
    body: bytes = field(repr=False)
    headers: dict[str, str]
    external_id: str
    event_type: str
    request_id: uuid.UUID | None = field(default_factory=logs.current_request)


def store(received: Received) -> None:
    """Store a verified webhook and wake the workers; committed on return. The same body again only counts,
    unless it was ignored or failed: then it is due once more.

    One statement, which webhooks that come at the same time share.
    """
    if connection.in_atomic_block:
        _insert([received])  # others must not depend on whether this transaction commits
    else:
        _together(received)
    wakeup.notify("webhooks")


def _insert(webhooks: Sequence[Received]) -> None:
    counted = Counter((sha256(webhook.body).digest(), webhook.provider) for webhook in webhooks)
    # Each body once: ON CONFLICT refuses to touch a row twice in one statement.
    rows = {(sha256(webhook.body).digest(), webhook.provider): webhook for webhook in webhooks}
    params: list[Any] = []
    for (digest, provider), webhook in sorted(rows.items(), key=itemgetter(0)):  # all lock in one order
        headers, repeats = json.dumps(webhook.headers), counted[digest, provider] - 1
        request_id = WebhookLog._meta.get_field("request_id").get_db_prep_value(webhook.request_id, connection)
        # Cut to the columns: a name that is too long is no reason to lose a webhook that was signed.
        params += (provider, webhook.body, digest, headers, webhook.external_id[:64], webhook.event_type[:64])
        params += (request_id, repeats)
    values = ", ".join([_ROW] * len(rows))
    again = _AGAIN.format(ended=_ENDED, free=_FREE, now=now_sql(connection))
    queries.execute(f"INSERT INTO webhooks_webhooklog ({_COLUMNS}) VALUES {values} {again}", params)  # noqa: S608


_together = Group(_insert, most=MOST_AT_ONCE)


def handle_row(log: WebhookLog) -> None:
    """Run the handler of one claimed row and record the outcome; a failure keeps the row for another try.

    A run leaves its own row first (`_note`): if the worker dies before the outcome is recorded, it ran all the same.
    """
    try:
        outcome = HANDLERS[log.provider](log)
        failpoint("webhook.handled")
    except (ProviderError, UnknownPayment) as err:
        _try_later(log, err)
    except Exception as err:
        logger.exception("%s could not be handled", log)
        _fail(log, err)
        return
    else:
        # What was handled at once stands on its row alone, as long as nothing overwrites it: most never have more.
        if log.outcome or log.replay_id is not None:
            _note(log, Verdict(outcome.kind.value), outcome.text)
        log.mark_done(outcome)
        # Only after trouble can there be an alert: the usual row saves the statement.
        if log.attempts or log.replays or log.repeats:
            close_alert(AlertKind.WEBHOOK_FAILED, log, by="automatic: it was handled")


def give_up(log: WebhookLog) -> None:
    """End a row that crashed its worker again and again."""
    with transaction.atomic():
        _note(log, Verdict.CRASHED, CRASHED)
        log.mark_failed(outcome=CRASHED)
        message = f"{log} crashed the worker. Look at the log, then replay it."
        raise_alert(AlertKind.WEBHOOK_FAILED, log, message)


def objection_to_replay(log: WebhookLog) -> str | None:
    if log.is_body_forgotten:
        return BODY_FORGOTTEN
    if _is_tampered(log):
        return TAMPERED
    return None if log.claim_token is None else IN_HAND


def replay(log: WebhookLog, *, actor: str = "", run: ReplayRun | None = None) -> None:
    """Hand the row to its handler once more. Raises TamperedBody, and DecisionRefused while a worker has it."""
    with transaction.atomic():
        # Locked and read anew. Of two replays at once, the second has to find the first one's row and say that it was
        # left, or a run would wait for its verdict for good. And retention may have emptied the body since it was read.
        log = queries.get(WebhookLog, log.pk, lock=True)
        demand(TAMPERED if not log.is_body_forgotten and _is_tampered(log) else None, TamperedBody)
        demand(objection_to_replay(log))
        _keep_first(log)
        before = Replay.objects.filter(log=log, verdict=Verdict.HANDED)
        before.update(verdict=Verdict.LEFT, text="It was replayed once more before its handler ran.")
        log.mark_replayed(Replay.objects.create(log=log, run=run, actor=actor))
    wakeup.notify("webhooks")


def replay_each(wanted: Chosen, *, actor: str) -> Iterator[str | None]:
    """Replay the webhooks that are chosen now, oldest first; yield for each what stands against it, or None."""
    # The list first: a row that was replayed may no longer match the filter.
    for pk in list(chosen(wanted).order_by("pk").values_list("pk", flat=True)):
        try:
            replay(WebhookLog.objects.get(pk=pk), actor=actor)
        except DecisionRefused as err:
            yield str(err)
        else:
            yield None


def _keep_first(log: WebhookLog) -> None:
    """Give the first attempt its row before it is overwritten."""
    if (first := log.first_try) is not None and not log.tries.exists():
        first.save()


def _note(log: WebhookLog, verdict: Verdict, text: str) -> None:
    _keep_first(log)
    queries.insert(WebhookAttempt(log=log, verdict=verdict, text=text[:300], replay_id=log.replay_id))
    if log.replay_id is not None:
        Replay.objects.filter(pk=log.replay_id).update(verdict=verdict, text=text[:300])


def _is_tampered(log: WebhookLog) -> bool:
    return sha256(bytes(log.body)).digest() != bytes(log.body_sha256)


def _try_later(log: WebhookLog, err: Exception) -> None:
    # No alert yet: nothing is wrong with the webhook, and a provider that is away has an alert of its own.
    if log.attempts + 1 < TRIES_WITHOUT_ANSWER:
        _note(log, Verdict.WAITING, str(err))
        log.retry(outcome=f"Waiting: {err}"[:300])
        return
    with transaction.atomic():
        _note(log, Verdict.GAVE_UP, str(err))
        log.mark_given_up(outcome=f"Gave up waiting: {err}")
        payment = Payment.objects.filter(external_id=log.external_id).first() if log.external_id else None
        raise_alert(
            AlertKind.WEBHOOK_FAILED,
            log,
            f"{log} waited for an answer of its provider, which never came: {str(err)[:160]}. Fix the cause, then"
            " replay it.",
            order=payment.order if payment else None,
        )


def _fail(log: WebhookLog, err: Exception) -> None:
    """Show the failure at once, try a few times more, then wait until staff replay it."""
    last = log.attempts + 1 >= TRIES_AFTER_A_FAILURE
    # Further apart than for a provider that is away: a bug does not go away within seconds.
    pause: timedelta | None = None if last else backoff(log.attempts + 3)
    outcome = f"{type(err).__name__}: {err}"
    with transaction.atomic():  # or nobody is told if the worker dies in between
        _note(log, Verdict.FAILED, outcome)
        log.mark_failed(outcome=outcome, retry_after=pause, attempts=F("attempts") + 1)
        raise_alert(
            AlertKind.WEBHOOK_FAILED,
            log,
            f"{log} could not be handled: {type(err).__name__}. Fix it, then replay it.",
        )


REPLAY = Decision(
    name="replay",
    label="Replay: run the handler again",
    permission="webhooks.replay_webhook",
    objection=objection_to_replay,
    carry_out=replay,
    done="handed to its handler again; its status and outcome here show the result within seconds",
)
