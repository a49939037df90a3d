"""`celery -A bitloot.beat beat`: the clock of the sweeps. It needs the timetable and the broker, and none of our apps.

With the worker's app it loaded every model, admin page and provider client: 83 MiB for a process that sends names.
"""

import os

from celery import Celery
from django.conf import settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "bitloot.settings")

if settings.REDIS_URL:
    # Without Celery's fixup for Django, which would load the apps and run the system checks.
    app = Celery("bitloot-beat", fixups=[])
    app.config_from_object("django.conf:settings", namespace="CELERY")
else:
    # Embedded, there is no broker to send names to: beat runs the tasks itself, and has to know them.
    from bitloot.celery import app

if settings.METRICS_PORT:
    from bitloot.core import beat_metrics  # noqa: F401 - it connects itself; nobody else pays for it
