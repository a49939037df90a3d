import uuid
from datetime import timedelta
from hashlib import sha256
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import F, Q
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
    replay = models.ForeignKey(
        "webhooks.Replay", null=True, on_delete=models.PROTECT, related_name="+", editable=False,
        help_text="The replay whose outcome is not known yet.",
    )  # fmt: skip

    objects = QueueManager()

    class Meta(QueueRow.Meta):
        ordering = ["-id"]
        # Over the digest: PostgreSQL's indexes take no entry as long as a body may be.
        constraints = [models.UniqueConstraint(fields=["provider", "body_sha256"], name="webhook_body_once")]
        indexes = [
            *QueueRow.Meta.indexes,
            models.Index(fields=["external_id"], name="webhook_by_external_id"),
            models.Index(fields=["-received_at"], name="webhook_newest"),
            # In the list's order, which is not that of `received_at`.
            models.Index(fields=["event_type", "-id"], name="webhook_by_type"),
            models.Index(fields=["status", "-id"], name="webhook_by_status"),
        ]
        permissions = [
            ("replay_webhook", "May replay a stored webhook"),
            ("rehearse_webhook", "May have it said what a replay would change"),
            ("replay_webhooks", "May replay all webhooks that match a filter"),
        ]

    def __str__(self) -> str:
        return f"{self.provider} {self.event_type} {self.external_id}"

    @property
    def first_try(self) -> "WebhookAttempt | None":
        """Return, unsaved, the attempt that only this row tells of; nothing if it was not handled at once."""
        if self.processed_at is None:
            return None
        # Due again with an outcome, it was sent once more: that happens to what was ignored.
        done = Verdict.PROCESSED if self.status == self.Status.PROCESSED else Verdict.IGNORED
        return WebhookAttempt(log=self, at=self.processed_at, verdict=done, text=self.outcome)

    @property
    def newest_tries(self) -> "list[WebhookAttempt]":
        kept = list(self.tries.select_related("replay").order_by("-pk")[:100])
        return kept or ([self.first_try] if self.first_try else [])

    @property
    def is_body_forgotten(self) -> bool:
        """Whether retention has emptied the body. Its digest stays, so that the same one is still recognised."""
        return not self.body and bytes(self.body_sha256) != sha256(b"").digest()

    # The first three end the claim in one statement that demands its token: a worker that lost its lease records
    # nothing over the one that took the row up again.
    def mark_done(self, outcome: Outcome) -> None:
        """Record what the handler did. Raises LeaseLost."""
        status = self.Status.IGNORED if outcome.kind is OutcomeKind.IGNORED else self.Status.PROCESSED
        self.release(None, status=status, outcome=outcome.text[:300], processed_at=Now(), replay=None)
        handled.labels(self.provider, status.value).inc()

    def mark_given_up(self, *, outcome: str) -> None:
        """Record that what it waits for never came; nothing failed. Raises LeaseLost."""
        self.release(None, status=self.Status.IGNORED, outcome=outcome[:300], replay=None)

    def mark_failed(self, *, outcome: str, retry_after: timedelta | None = None, **fields: Any) -> None:
        """Record a failure at once, even if it is tried again after `retry_after`. Raises LeaseLost."""
        # While it is tried again, the replay that it is part of stays open: each attempt writes its verdict anew.
        ended = {"replay": None} if retry_after is None else {}
        self.release(retry_after, status=self.Status.FAILED, outcome=outcome[:300], **ended, **fields)
        handled.labels(self.provider, self.Status.FAILED.value).inc()

    def mark_replayed(self, replay: "Replay") -> None:
        """Make the row due as if it had just been received. The caller has locked it, and no worker has it."""
        WebhookLog.objects.filter(pk=self.pk).update(
            status=self.Status.RECEIVED, next_attempt_at=Now(), attempts=0, crashes=0,
            replays=F("replays") + 1, replay=replay,
        )  # fmt: skip


class Verdict(StatusChoices):
    """What one attempt, or one replay, came to."""

    HANDED = "handed", Tone.BUSY  # to the handler, which has not answered yet
    PROCESSED = "processed", Tone.GOOD
    IGNORED = "ignored"
    WAITING = "waiting", Tone.BUSY  # for an answer of the provider
    FAILED = "failed", Tone.BAD
    CRASHED = "crashed", Tone.BAD
    GAVE_UP = "gave_up", Tone.BAD
    LEFT = "left", Tone.LOOK  # not replayed; the text says why
    WOULD = "would_change", Tone.LOOK  # a dry run: what would change
    NOTHING = "no_change"  # a dry run: nothing would change


class WebhookAttempt(models.Model):
    """One run of a webhook's handler and what it came to; only ever added."""

    log = models.ForeignKey(WebhookLog, on_delete=models.PROTECT, related_name="tries")
    at = models.DateTimeField(db_default=Now())
    verdict = models.CharField(max_length=12, choices=Verdict.choices)
    text = models.CharField(max_length=300, help_text="The outcome, or the error.")
    replay = models.ForeignKey("webhooks.Replay", null=True, on_delete=models.PROTECT, related_name="tries")

    class Meta:
        ordering = ["id"]
        verbose_name = "attempt at a webhook"
        verbose_name_plural = "attempts at webhooks"

    def __str__(self) -> str:
        return f"{self.verdict}: {self.text}"


class ReplayRun(QueueRow):
    """Many webhooks replayed, or rehearsed, in the background. The row is the work: a worker takes it part by part."""

    class Status(StatusChoices):
        RUNNING = "running", Tone.BUSY
        FINISHED = "finished", Tone.GOOD
        STOPPED = "stopped", Tone.LOOK

    # Given by the page that asks: the same form sent twice is one run.
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    is_dry = models.BooleanField("dry run", help_text="It only says what would change.")
    wanted = models.JSONField(help_text="Which webhooks, as the filter says.")
    digest = models.CharField(max_length=64)
    actor = models.CharField("by", max_length=150)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    status = models.CharField(max_length=8, choices=Status.choices, default=Status.RUNNING)
    note = models.CharField(max_length=300, blank=True)
    total = models.PositiveIntegerField(help_text="How many matched when it began.")
    done_to = models.BigIntegerField(default=0, help_text="The last webhook that it came to.")
    ends_with = models.BigIntegerField(help_text="The newest webhook when it began.")
    created_at = models.DateTimeField("begun", db_default=Now())
    finished_at = models.DateTimeField("finished", null=True, blank=True)

    objects = QueueManager()

    class Meta(QueueRow.Meta):
        ordering = ["-created_at"]
        verbose_name = "replay of webhooks"
        verbose_name_plural = "replays of webhooks"
        permissions = [("stop_replays", "May stop a replay of many webhooks")]
        constraints = [
            models.UniqueConstraint(
                fields=["digest"], condition=Q(finished_at__isnull=True), name="replay_run_open_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.kind.lower()} {self.pk}"

    @property
    def kind(self) -> str:
        return "Dry run" if self.is_dry else "Replay"

    def mark_finished(self) -> None:
        """Record that every webhook had its turn. Raises LeaseLost."""
        self.release(None, status=self.Status.FINISHED, finished_at=Now())

    def mark_given_up(self, *, note: str) -> None:
        """Record that it cannot continue. Raises LeaseLost."""
        self.release(None, status=self.Status.STOPPED, finished_at=Now(), note=note)

    def mark_stopped(self, *, note: str) -> None:
        """End it where it is, also while a worker has it: that one records nothing more over this."""
        ended = self.release_fields(None) | {"status": self.Status.STOPPED, "finished_at": Now(), "note": note}
        ReplayRun.objects.filter(pk=self.pk).update(**ended)


class Replay(models.Model):
    """One webhook that was replayed or rehearsed, alone or in a run: who asked, and what happened."""

    log = models.ForeignKey(WebhookLog, on_delete=models.PROTECT, related_name="replayed")
    run = models.ForeignKey(ReplayRun, null=True, on_delete=models.PROTECT, related_name="replays")
    actor = models.CharField("by", max_length=150)
    at = models.DateTimeField(db_default=Now())
    verdict = models.CharField(max_length=12, choices=Verdict.choices, default=Verdict.HANDED)
    text = models.TextField(blank=True)

    class Meta:
        ordering = ["id"]
        verbose_name = "replayed webhook"
        constraints = [models.UniqueConstraint(fields=["run", "log"], name="replay_once_in_a_run")]
        indexes = [models.Index(fields=["run", "verdict"], name="replay_by_verdict")]

    def __str__(self) -> str:
        return f"webhook {self.log_id}: {self.verdict}"
