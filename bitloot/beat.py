"""`celery -A bitloot.beat beat`: the clock of the sweeps. It needs the timetable and the broker, and none of our apps.

With the worker's app it loaded every model, admin page and provider client: 83 MiB for a process that sends names.
"""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "bitloot.settings")

# Without Celery's fixup for Django, which would load the apps and run the system checks.
app = Celery("bitloot-beat", fixups=[])
app.config_from_object("django.conf:settings", namespace="CELERY")
