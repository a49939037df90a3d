import os

from bitloot.core import shared_metrics

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "bitloot.settings")
shared_metrics.share()

from django.core.wsgi import get_wsgi_application  # noqa: E402 - it loads what decides how counters are kept

application = get_wsgi_application()

from bitloot.ops import watchdog  # noqa: E402 - its models are there only now

watchdog.start()
