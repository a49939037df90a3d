from django.db import models
from django.db.models.functions import Now


class PageVersion(models.Model):
    """What a text page of the shop said from a moment on; without text, that it was taken away. Rows are only added."""

    url = models.CharField(max_length=100, editable=False)
    text = models.TextField(editable=False, blank=True)
    sha256 = models.CharField(max_length=64, editable=False)
    valid_from = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["-id"]
        verbose_name = "version of a page"
        verbose_name_plural = "versions of pages"
        indexes = [models.Index(fields=["url", "-id"], name="pageversion_newest")]

    def __str__(self) -> str:
        return f"{self.url} of {self.valid_from:%d %B %Y}"
