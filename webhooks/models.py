from datetime import timedelta
from hashlib import sha256
from typing import Any

from django.db import models
from django.db.models import F
from django.db.models.functions import Now
from prometheus_client import Counter

from bitloot.core.choices import StatusChoices, Tone
from bitloot.core.outcome import Outcome, OutcomeKind
from bitloot.core.queue import QueueManager, QueueRow

handled = Counter("bitloot_webhooks_handled", "Webhooks by provider and outcome", ["provider", "status"])


class WebhookLog(QueueRow):
    """The inbox: what a provider sent, byte for byte, stored before it was answered."""

    class Status(StatusChoices):
        RECEIVED = "received", Tone.BUSY
        PROCESSED = "processed", Tone.GOOD
        IGNORED = "ignored"
        FAILED = "failed", Tone.BAD

    class Provider(models.TextChoices):
        NOWPAYMENTS = "nowpayments", "NOWPayments"
        KINGUIN = "kinguin", "Kinguin"

    provider = models.CharField(max_length=12, choices=Provider.choices, editable=False)
    body = models.BinaryField(editable=False)
    body_sha256 = models.BinaryField(max_length=32, editable=False)
    headers = models.JSONField(default=dict, editable=False)
    external_id = models.CharField(max_length=64, blank=True, editable=False)
    event_type = models.CharField(max_length=64, blank=True, editable=False)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.RECEIVED, editable=False)
    outcome = models.CharField(max_length=300, blank=True, editable=False, help_text="The outcome, or what failed.")
    repeats = models.PositiveIntegerField(default=0, db_default=0, editable=False)
    replays = models.PositiveIntegerField(default=0, db_default=0, editable=False)
    received_at = models.DateTimeField(db_default=Now(), editable=False)
    processed_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = QueueManager()

    class Meta(QueueRow.Meta):
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["provider", "body_sha256"], name="webhook_body_once")]
        indexes = [
            *QueueRow.Meta.indexes,
            models.Index(fields=["external_id"], name="webhook_by_external_id"),
            models.Index(fields=["event_type", "-received_at"], name="webhook_by_type"),
            models.Index(fields=["status", "-received_at"], name="webhook_by_status"),
        ]
        permissions = [("replay_webhook", "May replay a stored webhook")]

    def __str__(self) -> str:
        return f"{self.provider} {self.event_type} {self.external_id}"

    @property
    def is_body_forgotten(self) -> bool:
        """Whether retention has emptied the body. Its digest stays, so that the same one is still recognised."""
        return not self.body and bytes(self.body_sha256) != sha256(b"").digest()

    # The first three end the claim in one statement that demands its token: a worker that lost its lease records
    # nothing over the one that took the row up again.
    def mark_done(self, outcome: Outcome) -> None:
        """Record what the handler did. Raises LeaseLost."""
        status = self.Status.IGNORED if outcome.kind is OutcomeKind.IGNORED else self.Status.PROCESSED
        self.release(None, status=status, outcome=outcome.text[:300], processed_at=Now())
        handled.labels(self.provider, status.value).inc()

    def mark_given_up(self, *, outcome: str) -> None:
        """Record that what it waits for never came; nothing failed. Raises LeaseLost."""
        self.release(None, status=self.Status.IGNORED, outcome=outcome[:300])

    def mark_failed(self, *, outcome: str, retry_after: timedelta | None = None, **fields: Any) -> None:
        """Record a failure at once, even if it is tried again after `retry_after`. Raises LeaseLost."""
        self.release(retry_after, status=self.Status.FAILED, outcome=outcome[:300], **fields)
        handled.labels(self.provider, self.Status.FAILED.value).inc()

    def mark_replayed(self) -> bool:
        """Make the row due as if it had just been received. Return False if a worker has it right now."""
        # Compare-and-set on the missing claim: the worker that has it would record over the replay.
        return bool(
            WebhookLog.objects.filter(pk=self.pk, claim_token=None).update(
                status=self.Status.RECEIVED, next_attempt_at=Now(), attempts=0, crashes=0, replays=F("replays") + 1
            )
        )
