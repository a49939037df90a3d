import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "bitloot.settings")

application = get_wsgi_application()

from bitloot.ops import watchdog  # noqa: E402 - its models are there only now

watchdog.start()
