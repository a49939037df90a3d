"""Django's PostgreSQL backend, whose health check costs no round trip: an idle connection that ended is readable."""

import select

from django.db.backends.postgresql import base


class DatabaseWrapper(base.DatabaseWrapper):
    health_check_done: bool

    def close_if_health_check_failed(self) -> None:
        """Ask the server only if its side of an idle connection has something to say, which is most often goodbye."""
        if self.connection is not None and not self.health_check_done and self._is_quiet():
            self.health_check_done = True
        super().close_if_health_check_failed()

    def _is_quiet(self) -> bool:
        try:
            poll = select.poll()
            poll.register(self.connection.fileno(), select.POLLIN)
            return not poll.poll(0)
        except (OSError, self.Database.Error):
            return False  # libpq has closed it already
