from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from django.conf import settings
from django.core.mail import send_mail
from django.core.management.base import CommandError

from bitloot.management.operator import OperatorCommand
from orders import notifications, notifier
from orders.mail import NOT_SENT

TITLE = f"{settings.STORE_NAME}: test alert"
BODY = f"This is what an alert of {settings.SITE_URL} looks like. Nothing is wrong, and there is nothing to do."


class Command(OperatorCommand):
    help = "Send a test alert through every channel, STAFF_EMAIL and ALERT_URL. Exits 1 and names those that failed."

    def handle(self, **options: Any) -> None:
        tried = {channel: self._try(channel, send) for channel, send in _channels()}
        if not tried:
            raise CommandError("There is no channel: set STAFF_EMAIL or ALERT_URL.")
        if failed := [channel for channel, arrived in tried.items() if not arrived]:
            raise CommandError(f"Not delivered: {', '.join(failed)}.")

    def _try(self, channel: str, send: Callable[[], object]) -> bool:
        # Recorded as an alert's would be: by its last delivery `doctor` and the home page judge a channel.
        try:
            send()
        except (notifier.NotDelivered, *NOT_SENT) as err:
            reason = str(err) if isinstance(err, notifier.NotDelivered) else type(err).__name__
            notifications.record(channel, error=reason)
            self.stdout.write(self.style.ERROR(f"FAILED {channel}: {reason}"))
            return False
        notifications.record(channel)
        self.stdout.write(f"ok {channel}")
        return True


def _channels() -> Iterator[tuple[str, Callable[[], object]]]:
    for address in settings.STAFF_EMAIL:
        yield notifications.mail_channel(address), partial(send_mail, TITLE, BODY, None, [address])
    for channel, url in notifications.url_channels().items():
        yield channel, partial(notifier.deliver, url, title=TITLE, body=BODY)
