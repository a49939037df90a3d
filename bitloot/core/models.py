from django.db import models


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
