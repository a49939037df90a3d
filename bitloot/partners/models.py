import uuid
from datetime import datetime, timedelta
from typing import Any, Self
from urllib.parse import urlsplit

from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Coalesce, Now
from django.utils import timezone

from bitloot.core.choices import StatusChoices, Tone
from bitloot.core.clients import ApiClient
from bitloot.core.queue import QueueManager, QueueRow
from orders.models import Order

SHOWN_RESPONSE = 500  # characters of what a receiver answered
SECRET_OVERLAP = timedelta(hours=24)
_SEEN_EVERY = timedelta(minutes=1)


class KeyQuerySet(models.QuerySet["ApiKey"]):
    def live(self) -> Self:
        return self.filter(Q(expires_at=None) | Q(expires_at__gt=Now()), ended_at=None)

    def note_use(self, key: "ApiKey") -> None:
        """Keep when the key was last used, to the minute: most requests write nothing."""
        if key.last_used_at is None or timezone.now() - key.last_used_at > _SEEN_EVERY:
            self.filter(pk=key.pk).update(last_used_at=Now())


class ApiKey(models.Model):
    """What a shop built on the API proves itself with. Only a digest of the secret is kept; `prefix` names the row."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=80, help_text="Whose it is, and for what.")
    email = models.EmailField(max_length=254, help_text="Who hears of it when its webhooks stop.")
    prefix = models.CharField(max_length=8, unique=True, editable=False)
    # SHA-256 of 256 random bits: there is nothing to guess, so nothing has to be slow or keyed.
    digest = models.CharField(max_length=64, editable=False)
    earlier_digest = models.CharField(max_length=64, blank=True, editable=False)
    earlier_until = models.DateTimeField(null=True, blank=True, editable=False)
    scopes = models.JSONField(default=list)
    requests_per_minute = models.PositiveIntegerField(default=600, validators=[MinValueValidator(1)])
    unpaid_per_hour = models.PositiveIntegerField(
        "unpaid orders per hour",
        default=100,
        validators=[MinValueValidator(1)],
        help_text="Orders of the last hour that nobody paid yet, instead of the limit of each address.",
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField(null=True, blank=True, help_text="Empty: it does not expire.")
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    ended_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = KeyQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        verbose_name = "API key"
        permissions = [
            ("end_apikey", "May end an API key"),
            ("renew_apikey", "May give an API key a new secret"),
        ]

    def __str__(self) -> str:
        return f"{self.name} (blk_{self.prefix}…)"

    @property
    def is_live(self) -> bool:
        return self.ended_at is None and (self.expires_at is None or self.expires_at > timezone.now())

    @property
    def client(self) -> ApiClient:
        """The key as the rooms below know it."""
        return ApiClient(
            id=self.pk,
            email=self.email,
            scopes=frozenset(self.scopes),
            requests_per_minute=self.requests_per_minute,
            unpaid_per_hour=self.unpaid_per_hour,
        )


class Endpoint(models.Model):
    """Where a key's events go. Its secret is derived (see bitloot.partners.credentials), so no row holds it."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    api_key = models.ForeignKey(ApiKey, on_delete=models.PROTECT, related_name="endpoints", editable=False)
    url = models.CharField(max_length=500, help_text="https, on an address that the whole internet reaches.")
    events = models.JSONField(default=list)
    is_enabled = models.BooleanField(default=True, editable=False)
    off_reason = models.CharField(max_length=300, blank=True, editable=False)
    generation = models.PositiveIntegerField(default=1, editable=False, help_text="Of its secret.")
    renewed_at = models.DateTimeField(null=True, blank=True, editable=False)
    failing_since = models.DateTimeField(null=True, blank=True, editable=False)
    paused_until = models.DateTimeField(null=True, blank=True, editable=False)
    delivered_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["-created_at"]
        verbose_name = "webhook endpoint"
        permissions = [
            ("switch_endpoint_off", "May switch a webhook endpoint off"),
            ("switch_endpoint_on", "May switch a webhook endpoint on again"),
            ("test_endpoint", "May send a test event"),
            ("renew_endpoint_secret", "May give a webhook endpoint a new secret"),
            ("read_endpoint_secret", "May read a webhook endpoint's secret"),
        ]

    def __str__(self) -> str:
        return f"{self.host} of {self.api_key.name}"

    @property
    def host(self) -> str:
        """Where it is; the rest of the address may hold a token."""
        return urlsplit(self.url).netloc

    @property
    def generations(self) -> list[int]:
        """The generations of the secret to sign with: for a day after a renewal, the earlier one as well."""
        both = self.renewed_at is not None and timezone.now() - self.renewed_at < SECRET_OVERLAP
        return [self.generation, self.generation - 1] if both else [self.generation]

    @property
    def pause(self) -> timedelta:
        """How much longer nothing is sent there, because it just failed."""
        left = timedelta(0) if self.paused_until is None else self.paused_until - timezone.now()
        return max(left, timedelta(0))

    def note_delivered(self) -> None:
        Endpoint.objects.filter(pk=self.pk).update(delivered_at=Now(), failing_since=None, paused_until=None)

    def note_failed(self, *, pause: timedelta) -> datetime:
        """Record a failure and rest for a while; return since when nothing arrives there."""
        failing = {"failing_since": Coalesce("failing_since", Now()), "paused_until": Now() + pause}
        Endpoint.objects.filter(pk=self.pk).update(**failing)
        self.refresh_from_db(fields=["failing_since", "paused_until"])
        return self.failing_since or timezone.now()

    def switch_off(self, *, reason: str) -> bool:
        """Send nothing there any more. Return False if it was off."""
        rows = Endpoint.objects.filter(pk=self.pk, is_enabled=True)
        return rows.update(is_enabled=False, off_reason=reason[:300], paused_until=None) == 1

    def switch_on(self) -> bool:
        """Send there again. Return False if it was on."""
        fresh = {"is_enabled": True, "off_reason": "", "failing_since": None, "paused_until": None}
        return Endpoint.objects.filter(pk=self.pk, is_enabled=False).update(**fresh) == 1


class OutgoingWebhook(QueueRow):
    """One event that is owed to one endpoint, and how that went."""

    class Status(StatusChoices):
        QUEUED = "queued", Tone.BUSY
        DELIVERED = "delivered", Tone.GOOD
        FAILED = "failed", Tone.BAD

    ENDED = (Status.DELIVERED, Status.FAILED)

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    endpoint = models.ForeignKey(Endpoint, on_delete=models.PROTECT, related_name="webhooks", editable=False)
    order = models.ForeignKey(Order, null=True, on_delete=models.PROTECT, related_name="+", editable=False)
    event = models.CharField(max_length=40, editable=False)
    # As it was owed: each try says the same, however the order has moved since.
    body = models.TextField(editable=False)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.QUEUED, editable=False)
    response_status = models.PositiveSmallIntegerField(null=True, editable=False)
    response = models.CharField(
        max_length=SHOWN_RESPONSE, blank=True, editable=False, help_text="How its answer began; secrets are hidden."
    )
    error = models.CharField(max_length=300, blank=True, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    sent_at = models.DateTimeField(null=True, editable=False, help_text="The last try.")

    objects = QueueManager()

    class Meta(QueueRow.Meta):
        ordering = ["-created_at"]
        indexes = [
            *QueueRow.Meta.indexes,
            models.Index(fields=["endpoint", "-created_at"], name="outgoing_by_endpoint"),
            models.Index(fields=["status", "-created_at"], name="outgoing_by_status"),
        ]
        permissions = [("redeliver_webhook", "May send an outgoing webhook once more")]

    def __str__(self) -> str:
        return f"{self.event} {self.pk}"

    @property
    def message_id(self) -> str:
        """The same for every try, so that a receiver knows a repeat."""
        return f"msg_{self.pk.hex}"

    # As with Email: the statement that ends the claim demands its token.
    def mark_delivered(self, *, status: int, response: str) -> None:
        """Record that the endpoint took it. Raises LeaseLost."""
        self.release(None, status=self.Status.DELIVERED, error="", **self._answered(status, response))

    def mark_failed(self, *, error: str, status: int | None = None, response: str = "") -> None:
        """Record that it is not tried again. Raises LeaseLost."""
        self.release(None, status=self.Status.FAILED, error=error[:300], **self._answered(status, response))

    def try_later(self, after: timedelta, *, error: str, status: int | None, response: str) -> None:
        """Record a try that failed. Raises LeaseLost."""
        answered = self._answered(status, response)
        self.release(after, attempts=F("attempts") + 1, error=error[:300], **answered)

    def mark_queued_again(self) -> bool:
        """Make one that has ended due as if it were new. Return False if it is not one of those."""
        # Compare-and-set: of two who press the button at once only one sends it again.
        ended = {"pk": self.pk, "status__in": self.ENDED, "claim_token": None}
        fields = {"status": self.Status.QUEUED, "attempts": 0, "crashes": 0, "error": "", "next_attempt_at": Now()}
        return OutgoingWebhook.objects.filter(**ended).update(**fields) == 1

    @staticmethod
    def _answered(status: int | None, response: str) -> dict[str, Any]:
        return {"response_status": status, "response": response, "sent_at": Now()}
