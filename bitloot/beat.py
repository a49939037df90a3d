"""`celery -A bitloot.beat beat`: the clock of the sweeps. It needs the timetable and the broker, and none of our apps.

With the worker's app it loaded every model, admin page and provider client: 83 MiB for a process that sends names.
"""

import os
from typing import Any

from celery import Celery
from celery.signals import after_task_publish, beat_init
from django.conf import settings
from prometheus_client import Counter

from bitloot.core import exporter

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "bitloot.settings")

if settings.REDIS_URL:
    # Without Celery's fixup for Django, which would load the apps and run the system checks.
    app = Celery("bitloot-beat", fixups=[])
    app.config_from_object("django.conf:settings", namespace="CELERY")
else:
    # Embedded, there is no broker to send names to: beat runs the tasks itself, and has to know them.
    from bitloot.celery import app

sent = Counter("bitloot_beat_sent", "Periodic tasks that beat handed to the broker", ["task"])


@beat_init.connect
def serve_metrics(**_: Any) -> None:
    if settings.METRICS_PORT:
        exporter.start(settings.METRICS_PORT + 1)  # on one machine the worker has the port itself


@after_task_publish.connect
def count_sent(sender: str, **_: Any) -> None:
    sent.labels(sender).inc()
