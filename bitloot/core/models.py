import uuid

from django.db import models
from django.db.models.functions import Now


class Sweep(models.Model):
    """When a periodic task last ended well: beat, broker, worker and the task itself all had to work for that."""

    name = models.CharField(max_length=40, primary_key=True, help_text="Its name in the timetable.")
    ended_at = models.DateTimeField(db_default=Now())

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.name


class Allowance(models.Model):
    """What is counted or rationed for all processes while Redis does not do it: one row for each name."""

    name = models.CharField(max_length=200, primary_key=True)
    used = models.PositiveIntegerField(default=0)
    until = models.FloatField(help_text="Seconds since 1970, by the database's clock: when it limits nothing more.")

    class Meta:
        default_permissions = ()
        indexes = [models.Index(fields=["until"], name="allowance_until")]

    def __str__(self) -> str:
        return self.name


class WorkerSeen(models.Model):
    """A worker process, as it last noted itself."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    host = models.CharField(max_length=100)
    pid = models.PositiveIntegerField()
    version = models.CharField(max_length=40)
    queues = models.CharField(max_length=200)
    started_at = models.DateTimeField(db_default=Now())
    seen_at = models.DateTimeField(db_default=Now())

    class Meta:
        default_permissions = ()
        ordering = ["started_at"]

    def __str__(self) -> str:
        return f"{self.host}, process {self.pid}"
