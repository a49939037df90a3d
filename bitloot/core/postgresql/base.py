"""Django's PostgreSQL backend, for a store that runs the same short statements all day."""

from typing import Any

from django.db.backends.postgresql import base
from psycopg.types.datetime import TimestamptzLoader

from bitloot.core.sockets import is_quiet


class DatabaseWrapper(base.DatabaseWrapper):
    health_check_done: bool

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """Connect, and read times with psycopg's own loader, in C; they come in the session's zone, which is UTC."""
        connection = super().get_new_connection(conn_params)
        connection.adapters.register_loader("timestamptz", TimestamptzLoader)
        return connection

    def create_cursor(self, name: str | None = None) -> Any:
        """Open a cursor as Django does, which would look for a time zone in the loader that is replaced here."""
        if name is None:
            return self.connection.cursor()
        return self.connection.cursor(name, scrollable=False, withhold=self.connection.autocommit)

    def close_if_health_check_failed(self) -> None:
        """Ask the server only if its side of an idle connection has something to say, which is most often goodbye."""
        if self.connection is not None and not self.health_check_done and self._is_quiet():
            self.health_check_done = True
        super().close_if_health_check_failed()

    def _is_quiet(self) -> bool:
        try:
            return is_quiet(self.connection.fileno())
        except (OSError, self.Database.Error):
            return False  # libpq has closed it already
