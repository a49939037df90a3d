from django.db import models
from django.db.models.functions import Now

from bitloot.core.queue import QueueManager, QueueRow


class WebhookLog(QueueRow):
    """The inbox: what a provider sent, byte for byte, stored before it was answered."""

    class Status(models.TextChoices):
        RECEIVED = "received"
        PROCESSED = "processed"
        IGNORED = "ignored"
        FAILED = "failed"

    class Provider(models.TextChoices):
        NOWPAYMENTS = "nowpayments"
        KINGUIN = "kinguin"

    provider = models.CharField(max_length=12, choices=Provider.choices, editable=False)
    body = models.BinaryField(editable=False)
    body_sha256 = models.BinaryField(max_length=32, editable=False)
    headers = models.JSONField(default=dict, editable=False)
    external_id = models.CharField(max_length=64, blank=True, editable=False)
    event_type = models.CharField(max_length=64, blank=True, editable=False)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.RECEIVED, editable=False)
    outcome = models.CharField(max_length=300, blank=True, editable=False, help_text="What came of it, or what failed.")
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
