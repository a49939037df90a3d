import gc
import os

from bitloot.core import shared_metrics

gc.disable()  # until the apps are ready: see bitloot/apps.py

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "bitloot.settings")
shared_metrics.share()

from django.core.wsgi import get_wsgi_application  # noqa: E402 - it loads what decides how counters are kept

from bitloot.core.charset import readable_only  # noqa: E402

application = readable_only(get_wsgi_application())

from bitloot.ops import watchdog  # noqa: E402 - its models are there only now

watchdog.start()

# What is loaded by now stays for good. Whenever the collector went through all of it, every request of the process
# waited: at 100 reveals a second, p99 was 22 to 53 ms, and is 16 without (docs/performance.md).
gc.collect()
gc.freeze()
# A request leaves next to nothing for the collector. Run after 700 new objects, as by default, it took 2 % of the CPU
# of placing an order.
gc.set_threshold(5_000)
