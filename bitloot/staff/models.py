from django.db import models
from django.db.models.functions import Now


class StaffEvent(models.Model):
    """What changed about an account or a group: who may do what, and who changed that. Written once."""

    at = models.DateTimeField(db_default=Now(), editable=False)
    actor = models.CharField(max_length=150, editable=False, help_text="Who changed it, or the command line.")
    # By name, not by key: the record outlives the account.
    about = models.CharField(max_length=160, editable=False, help_text="The account or group, as it was named then.")
    what = models.CharField(max_length=500, editable=False)

    class Meta:
        ordering = ["-id"]
        verbose_name = "change of rights"
        verbose_name_plural = "changes of rights"

    def __str__(self) -> str:
        return f"{self.about}: {self.what}"


class SignIn(models.Model):
    """One attempt to sign in as staff. The rows are the log, and the counters that lock."""

    class Outcome(models.TextChoices):
        TRIED = "tried"
        GOOD = "good"
        FAILED = "failed"
        LOCKED = "locked"

    name = models.CharField(max_length=150, editable=False, help_text="As it was typed, in small letters.")
    network = models.CharField(max_length=50, editable=False)
    way = models.CharField(max_length=5, editable=False, help_text="The admin's form, or the API.")
    outcome = models.CharField(max_length=6, choices=Outcome.choices, default=Outcome.TRIED, editable=False)
    at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["-id"]
        verbose_name = "sign-in"
        indexes = [
            models.Index(fields=["name", "at"], name="signin_by_name"),
            models.Index(fields=["network", "at"], name="signin_by_network"),
        ]

    def __str__(self) -> str:
        return f"sign-in of {self.name}: {self.outcome}"
