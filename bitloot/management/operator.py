"""What the operator's commands share: exit codes that a script can tell apart, JSON, dry runs, a progress bar."""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, ClassVar, NoReturn

from django.core.management.base import BaseCommand, CommandError, CommandParser, DjangoHelpFormatter
from django.core.serializers.json import DjangoJSONEncoder
from django.db import ProgrammingError
from tqdm import tqdm

from bitloot.core.money import plain

INSUFFICIENT_PRIVILEGE = "42501"  # of PostgreSQL
OWNERS = (
    "The shop's own database role may not change this. Run the command as the owner of the tables, with"
    " MIGRATE_DATABASE_URL; in docker compose: docker compose run --rm migrate python manage.py …"
)
USAGE = 64  # EX_USAGE of sysexits.h; argparse's own 2 is taken: reconcile could not ask a provider


class UsageError(CommandError):
    """The command was called wrongly."""

    def __init__(self, message: str) -> None:
        super().__init__(message, returncode=USAGE)


class _Formatter(DjangoHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of the exit codes apart."""


class _Encoder(DjangoJSONEncoder):
    def default(self, o: Any) -> Any:
        return plain(o) if isinstance(o, Decimal) else super().default(o)


class OperatorCommand(BaseCommand):
    """Exits 0 if all is well, 1 if something is wrong, 64 if it was called wrongly."""

    exit_codes: ClassVar[dict[int, str]] = {0: "done, or nothing to do", 1: "something is wrong; the text says what"}
    has_json = has_dry_run = False

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        codes = {**self.exit_codes, USAGE: "called wrongly; nothing was done"}
        epilog = "exit codes:\n" + "\n".join(f"  {code:<3} {meaning}" for code, meaning in codes.items())
        parser = super().create_parser(prog_name, subcommand, formatter_class=_Formatter, epilog=epilog, **kwargs)
        if self.has_json:
            parser.add_argument("--json", action="store_true", help="print one JSON document")
        if self.has_dry_run:
            parser.add_argument("--dry-run", action="store_true", help="say what would be done, and change nothing")

        def error(message: str) -> NoReturn:
            if not parser.called_from_command_line:
                raise UsageError(f"Error: {message}")
            parser.print_usage(sys.stderr)
            parser.exit(USAGE, f"{parser.prog}: {message}\n")

        parser.error = error  # type: ignore[method-assign]  # Django makes the parser itself
        return parser

    def execute(self, *args: Any, **options: Any) -> str | None:
        try:
            return super().execute(*args, **options)
        except ProgrammingError as err:
            if getattr(err.__cause__, "sqlstate", "") != INSUFFICIENT_PRIVILEGE:
                raise
            raise CommandError(OWNERS) from err

    def write_json(self, document: Any) -> None:
        self.stdout.write(json.dumps(document, indent=2, cls=_Encoder, ensure_ascii=False))

    @contextmanager
    def progress(self, total: int, unit: str) -> Iterator[Callable[[int], object]]:
        """Yield what counts a step forward; a bar shows it, but only to somebody who looks at a terminal."""
        with tqdm(total=total, unit=f" {unit}", disable=not sys.stderr.isatty(), leave=False) as bar:
            yield bar.update
