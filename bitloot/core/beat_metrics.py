"""What beat says of itself at the port after METRICS_PORT; the worker has that one, if both run on one machine."""

from typing import Any

from celery.signals import after_task_publish, beat_init
from django.conf import settings
from prometheus_client import Counter

from bitloot.core import exporter

sent = Counter("bitloot_beat_sent", "Periodic tasks that beat handed to the broker", ["task"])


@beat_init.connect
def serve(**_: Any) -> None:
    exporter.start(settings.METRICS_PORT + 1)


@after_task_publish.connect
def count_sent(sender: str, **_: Any) -> None:
    sent.labels(sender).inc()
