import re
from typing import Any

from django.apps import apps
from django.contrib.admin.utils import quote
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.urls import NoReverseMatch, reverse

from bitloot.core import queries
from bitloot.core.choices import StatusChoices, Tone
from bitloot.core.queue import QueueManager, QueueRow
from orders.choices import AlertKind
from orders.models.order import Order

# A reason as rows hold it: "[out_of_stock] …", "… needs attention: partially_paid. …".
_CODE = re.compile(r"^\[\w+\] |(?<=needs attention: )[a-z_]+\. ")


class Alert(models.Model):
    """Something that staff have to look at: one open row per kind and thing it is about, however often it happens."""

    class Status(StatusChoices):
        OPEN = "open", Tone.BAD
        CLOSED = "closed"

    kind = models.CharField(max_length=40, choices=AlertKind.choices)
    about_model = models.CharField(
        max_length=60, blank=True, help_text="The model of the row it is about, as in payments.payment; or nothing."
    )
    about_pk = models.CharField(max_length=200, help_text="That row's id; without a row, a name such as object store.")
    order = models.ForeignKey(Order, null=True, blank=True, on_delete=models.PROTECT, related_name="alerts")
    message = models.CharField(max_length=500)
    status = models.CharField(max_length=8, choices=Status.choices, default=Status.OPEN)
    times = models.PositiveIntegerField(default=1)
    opened_at = models.DateTimeField(db_default=Now(), editable=False)
    notices = models.PositiveSmallIntegerField(default=0, editable=False, help_text="How often staff were told of it.")
    notify_at = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="When they are told next, if it is open then."
    )
    last_at = models.DateTimeField(db_default=Now(), editable=False)
    closed_at = models.DateTimeField(null=True, blank=True, editable=False)
    closed_by = models.CharField(max_length=150, blank=True)

    class Meta:
        ordering = ["-status", "-last_at"]  # “open” comes after “closed” in the alphabet
        permissions = [("close_alert", "May close an alert")]
        indexes = [models.Index(fields=["-status", "-last_at"], name="alert_by_status")]
        constraints = [
            models.UniqueConstraint(
                fields=["kind", "about_model", "about_pk"], condition=Q(status="open"), name="alert_open_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.about}"

    @property
    def said(self) -> str:
        """Return the message for people, without the reason's code that tells alerts of one row apart."""
        return _CODE.sub("", self.message)

    @property
    def about(self) -> str:
        """What it is about, in words; the row itself is not read."""
        if not self.about_model:
            return self.about_pk
        return f"{apps.get_model(self.about_model)._meta.verbose_name} {self.about_pk}"

    @property
    def about_path(self) -> str:
        """The admin page of the row it is about, or "" where there is none."""
        if not self.about_model:
            return ""
        page = self.about_model.replace(".", "_")
        try:
            return reverse(f"admin:{page}_change", args=[quote(self.about_pk)])
        except NoReverseMatch:
            return ""

    @staticmethod
    def key_of(about: models.Model | str) -> dict[str, str]:
        """Return the columns that name what an alert is about: a row, or a well-known name where there is no row.

        Model and primary key never change, unlike the row's name: a payment is renamed when the provider's id arrives.
        """
        if isinstance(about, str):
            return {"about_model": "", "about_pk": about}
        return {"about_model": about._meta.label_lower, "about_pk": str(about.pk)}

    def close(self, *, by: str) -> bool:
        """Close this alert. Return False if it was closed before."""
        return self._close({"pk": self.pk}, by) == 1

    @classmethod
    def close_open(cls, kind: str, about: models.Model | str, *, by: str) -> int:
        """Close the open alert of this kind about this row or name; return how many were open."""
        return cls._close({"kind": kind, **cls.key_of(about)}, by)

    @classmethod
    def _close(cls, which: dict[str, Any], by: str) -> int:
        # Compare-and-set on OPEN: of two that close it the second neither counts nor renames who closed it.
        is_open = {**which, "status": cls.Status.OPEN}
        return queries.update(cls, is_open, {"status": cls.Status.CLOSED, "closed_at": Now(), "closed_by": by})


class Notification(QueueRow):
    """A notice of an alert that is owed to one channel of ALERT_URL."""

    class Status(StatusChoices):
        QUEUED = "queued", Tone.BUSY
        SENT = "sent", Tone.GOOD
        OVERTAKEN = "overtaken"  # the alert was closed before it was said once more
        FAILED = "failed", Tone.BAD

    alert = models.ForeignKey(Alert, on_delete=models.PROTECT, related_name="notifications")
    number = models.PositiveSmallIntegerField(default=0, help_text="0 when it opened, then once more while it is open.")
    channel = models.CharField(max_length=60, help_text="The service and a mark; the URL itself holds secrets.")
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.QUEUED, editable=False)
    error = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    sent_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = QueueManager()

    class Meta(QueueRow.Meta):
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["alert", "number", "channel"], name="notification_once")]

    def __str__(self) -> str:
        return f"{self.alert} to {self.channel}"

    @property
    def is_overtaken(self) -> bool:
        return self.number > 0 and self.alert.status == Alert.Status.CLOSED

    # As with Email: the statement that ends the claim demands its token.
    def mark_sent(self) -> None:
        """Record that the service took it. Raises LeaseLost."""
        self.release(None, status=self.Status.SENT, sent_at=Now(), error="")

    def mark_overtaken(self) -> None:
        """Record that it is no longer true and was not sent. Raises LeaseLost."""
        self.release(None, status=self.Status.OVERTAKEN, error="")

    def mark_failed(self, *, error: str) -> None:
        """Record that it will not be sent. Raises LeaseLost."""
        self.release(None, status=self.Status.FAILED, error=error[:300])


class AlertChannel(models.Model):
    """When an alert last arrived somewhere, and what went wrong since: a silent channel looks like a calm shop."""

    name = models.CharField(max_length=280, primary_key=True)
    delivered_at = models.DateTimeField(null=True, blank=True)
    failed_at = models.DateTimeField(null=True, blank=True)
    error = models.CharField(max_length=300, blank=True, help_text="Empty once something arrived again.")

    def __str__(self) -> str:
        return self.name
