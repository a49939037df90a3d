"""What the operator's commands share: exit codes that a script can tell apart."""

import sys
from typing import Any, NoReturn

from django.core.management.base import BaseCommand, CommandError, CommandParser

USAGE = 64  # EX_USAGE of sysexits.h; argparse's own 2 is taken: reconcile could not ask a provider


class UsageError(CommandError):
    """The command was called wrongly."""

    def __init__(self, message: str) -> None:
        super().__init__(message, returncode=USAGE)


class OperatorCommand(BaseCommand):
    """Exits 0 if all is well, 1 if something is wrong, 64 if it was called wrongly."""

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        parser = super().create_parser(prog_name, subcommand, **kwargs)

        def error(message: str) -> NoReturn:
            if not parser.called_from_command_line:
                raise UsageError(f"Error: {message}")
            parser.print_usage(sys.stderr)
            parser.exit(USAGE, f"{parser.prog}: {message}\n")

        parser.error = error  # type: ignore[method-assign]  # Django makes the parser itself
        return parser
