"""What the operator's commands share: exit codes that a script can tell apart, JSON, dry runs, a progress bar."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, ClassVar, NoReturn

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser, DjangoHelpFormatter
from django.core.serializers.json import DjangoJSONEncoder
from django.db import OperationalError, ProgrammingError
from tqdm import tqdm

from bitloot.core.database import reason_of
from bitloot.core.money import plain

# Of PostgreSQL.
INSUFFICIENT_PRIVILEGE = "42501"
NOT_MIGRATED = ("42P01", "42703")  # a table, or a column, is not there
OWNERS = (
    "The shop's own database role may not change this. Run the command as the owner of the tables, with"
    " MIGRATE_DATABASE_URL; in docker compose: docker compose run --rm migrate python manage.py …"
)
NO_OUTPUT = "The output is closed, so nothing was done. Let it go to a file, or to /dev/null, and run this again."
# Of sysexits.h. argparse's own 2 is taken: reconcile could not ask a provider.
USAGE, UNAVAILABLE = 64, 69
INTERRUPTED = 130  # as shells say it of Ctrl-C


class UsageError(CommandError):
    """The command was called wrongly."""

    def __init__(self, message: str) -> None:
        super().__init__(message, returncode=USAGE)


class Unavailable(CommandError):
    """What the command needs cannot be used: the database, a file, or where its output goes."""

    def __init__(self, message: str) -> None:
        super().__init__(message, returncode=UNAVAILABLE)


class _Formatter(DjangoHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of the exit codes apart."""


class _Encoder(DjangoJSONEncoder):
    def default(self, o: Any) -> Any:
        return plain(o) if isinstance(o, Decimal) else super().default(o)


class OperatorCommand(BaseCommand):
    """Exits 0 if all is well, 1 if something is wrong, 64 if it was called wrongly, 69 if it could not do its work."""

    exit_codes: ClassVar[dict[int, str]] = {0: "done, or nothing to do", 1: "something is wrong; the text says what"}
    has_json = has_dry_run = False

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        codes = {
            **self.exit_codes,
            USAGE: "called wrongly; nothing was done",
            UNAVAILABLE: "the database or a file could not be used; see the output",
        }
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
        # Before anything is done: what `create_api_key` prints, it prints once.
        if sys.stdout is None and not options.get("stdout"):
            raise Unavailable(NO_OUTPUT)
        try:
            output = super().execute(*args, **options)
            self.stdout.flush()  # here, where a full disk still has a sentence
        except OperationalError as err:
            raise Unavailable(_about_database(err)) from err
        except ProgrammingError as err:
            state = getattr(err.__cause__, "sqlstate", "")
            if state not in (INSUFFICIENT_PRIVILEGE, *NOT_MIGRATED):
                raise
            raise Unavailable(OWNERS if state == INSUFFICIENT_PRIVILEGE else _about_database(err)) from err
        except OSError as err:
            _give_up_output()
            raise Unavailable(_about_file(err)) from err
        except KeyboardInterrupt:
            raise CommandError("Interrupted. You can run it again.", returncode=INTERRUPTED) from None
        return output

    def write_json(self, document: Any) -> None:
        self.stdout.write(json.dumps(document, indent=2, cls=_Encoder, ensure_ascii=False))

    @contextmanager
    def progress(self, total: int, unit: str) -> Iterator[Callable[[int], object]]:
        """Yield what counts a step forward; a bar shows it, but only to somebody who looks at a terminal."""
        with tqdm(total=total, unit=f" {unit}", disable=not sys.stderr.isatty(), leave=False) as bar:
            yield bar.update


def whole(least: int, most: int) -> Callable[[str], int]:
    """Return what argparse reads a whole number with."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"has to be a whole number from {least} to {most}")
        return number

    return read


batch_size = whole(1, 100_000)


def named(err: ValidationError) -> str:
    """Return what is wrong with each field of a row, with the field's name."""
    return " ".join(f"{field}: {' '.join(texts)}" for field, texts in err.message_dict.items())


def _about_database(err: Exception) -> str:
    return (
        f"The database cannot be used: {reason_of(err)}. `manage.py doctor --only database --only migrations` tells you"
        " how to fix it. Then run this command again."
    )


def _about_file(err: OSError) -> str:
    reason = err.strerror or reason_of(err)
    return f"{err.filename} cannot be used: {reason}." if err.filename else f"It could not be finished: {reason}."


def _give_up_output() -> None:
    """Where stdout takes no more, Python would complain of what is left for it once more at the end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
