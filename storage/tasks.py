from celery import shared_task

from bitloot.core import queue
from storage import services
from storage.models import Key


@shared_task(name="storage.drain")
def drain() -> None:
    queue.drain("storage", Key.objects.all(), services.handle, give_up=services.give_up)


@shared_task(name="storage.retention")
def retention() -> None:
    services.expire_deliveries()
