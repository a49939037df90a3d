from django.db import models
from django.db.models.functions import Now


class Acknowledgement(models.Model):
    """A difference that staff dealt with and that stays in the rows; `reconcile` skips it while its facts are these."""

    kind = models.CharField(max_length=40, editable=False)
    subject = models.CharField(max_length=64, editable=False, help_text="The payment or purchase, by external id.")
    facts = models.CharField(max_length=64, editable=False, help_text="A digest of all that it consists of.")
    order = models.CharField(max_length=36, editable=False)
    message = models.CharField(max_length=500, editable=False, help_text="The difference, as `reconcile` said it.")
    reason = models.CharField(max_length=300, editable=False)
    acknowledged_by = models.CharField(max_length=150, editable=False)
    acknowledged_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["-acknowledged_at"]
        constraints = [models.UniqueConstraint(fields=["kind", "facts"], name="acknowledged_once")]
        permissions = [("export_accounting", "May download what happened to money")]

    def __str__(self) -> str:
        return f"{self.kind} of {self.subject}"
