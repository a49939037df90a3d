from typing import Any
from urllib.parse import unquote, urlsplit

from django.conf import settings
from django.core.management.base import CommandError
from django.db import ProgrammingError, connection

from bitloot.management.operator import OperatorCommand, UsageError
from bitloot.ops import rights


class Command(OperatorCommand):
    help = (
        "Give the application's database role, the user of DATABASE_URL, the rights it needs and no others. Runs as the"
        " owner of the tables, the user of MIGRATE_DATABASE_URL, after each `migrate`. The role is made if there is"
        " none. May be run again at any time. docs/security.md has the rights."
    )

    def handle(self, **options: Any) -> None:
        if connection.vendor != "postgresql":
            self.stdout.write("SQLite has no roles: there is nothing to grant.")
            return
        role, password = _application()
        if not settings.MIGRATE_DATABASE_URL or role == settings.DATABASES["default"]["USER"]:
            raise UsageError(
                "Set MIGRATE_DATABASE_URL to the owner of the tables, and DATABASE_URL to the application's own role."
            )
        try:
            rights.grant(role, password=password)
        except rights.NotASmallRole as err:
            raise CommandError(f"{err}. Name another one in DATABASE_URL; it is made here.") from err
        except ProgrammingError as err:
            raise CommandError(f"PostgreSQL refused: {err}") from err
        self.stdout.write(self.style.SUCCESS(f"{role} may do what the shop needs, and nothing else."))


def _application() -> tuple[str, str]:
    parts = urlsplit(settings.DATABASE_URL)
    return unquote(parts.username or ""), unquote(parts.password or "")
