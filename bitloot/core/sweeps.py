"""The periodic tasks: when each last ended well, and which of them should have ended again since."""

from collections.abc import Iterator
from datetime import timedelta

from django.conf import settings
from django.db.models.functions import Now
from django.utils import timezone

from bitloot.core.models import Sweep

# A restart, a lost message or a slow provider may cost a few rounds, and is no news.
ROUNDS = 3
PATIENCE = timedelta(minutes=10)


def ended(task: str) -> None:
    """Record that a periodic task ended well; other tasks count for nothing."""
    for name, entry in settings.CELERY_BEAT_SCHEDULE.items():
        if entry["task"] == task:
            Sweep.objects.update_or_create(name=name, defaults={"ended_at": Now()})


def late() -> Iterator[tuple[str, timedelta]]:
    """Yield the sweeps that are late, and how long ago they ended; one never seen is waited for from now on."""
    seen = Sweep.objects.in_bulk()
    for name, entry in settings.CELERY_BEAT_SCHEDULE.items():
        if (sweep := seen.get(name)) is None:
            Sweep.objects.get_or_create(name=name)
            continue
        ago = timezone.now() - sweep.ended_at
        if ago > ROUNDS * timedelta(seconds=float(str(entry["schedule"]))) + PATIENCE:
            yield name, ago
