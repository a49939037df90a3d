import uuid
from typing import ClassVar

from django.apps import apps
from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from orders.choices import ApprovalStatus
from orders.models.order import Order
from orders.state import StatusRow


class Approval(StatusRow):
    """A decision that one member of staff asked for and another one has to approve before it is carried out."""

    Status = ApprovalStatus
    TIMELINE_KIND = "staff"
    TRANSITIONS: ClassVar[dict[str, frozenset[str]]] = {
        Status.WAITING: frozenset({"approved", "declined"}),
        Status.APPROVED: frozenset(),
        Status.DECLINED: frozenset(),
    }

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    order = models.ForeignKey(Order, on_delete=models.PROTECT, related_name="approvals")
    about_model = models.CharField(max_length=60, help_text="The model of the row it is about, as in payments.payment.")
    about_pk = models.CharField(max_length=40)
    decision = models.CharField(max_length=40, help_text="The decision's name on that row's page.")
    label = models.CharField(max_length=80)
    fields = models.JSONField(default=dict, help_text="What was typed into the decision's form.")
    digest = models.CharField(max_length=64, help_text="Stands for all facts that the form showed.")
    status = models.CharField(max_length=10, choices=ApprovalStatus.choices, default=Status.WAITING, editable=False)
    requested_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    requested_at = models.DateTimeField(db_default=Now(), editable=False)
    approved_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    approved_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        ordering = ["-requested_at"]
        permissions = [
            ("approve_decision", "May approve what another member of staff has asked for"),
            ("decline_decision", "May decline what another member of staff has asked for"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["about_model", "about_pk", "decision"],
                condition=Q(status="waiting"),
                name="approval_waits_once",
            ),
            models.CheckConstraint(condition=Q(status__in=ApprovalStatus.values), name="approval_status_known"),
            models.CheckConstraint(
                condition=~Q(approved_by=models.F("requested_by")) | Q(approved_by__isnull=True),
                name="approval_by_another",
            ),
            models.CheckConstraint(
                condition=~Q(status="approved") | Q(approved_by__isnull=False, approved_at__isnull=False),
                name="approval_names_its_approver",
            ),
        ]

    def __str__(self) -> str:
        return f"approval of “{self.label}”"

    @property
    def about(self) -> models.Model:
        """The row that the decision is about, as it is now."""
        return apps.get_model(self.about_model)._default_manager.get(pk=self.about_pk)
