"""`manage.py help` with our commands first, grouped as docs/commands.md groups them, each with its first sentence."""

import io
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from importlib import import_module

import django
from django.core.management import BaseCommand, execute_from_command_line

GROUPS = {
    "Watching": (
        "doctor", "check_providers", "reconcile", "acknowledge_purchase", "acknowledge_difference", "preview_emails",
        "test_alert",
    ),
    "Orders": (
        "hold", "release", "fulfill_order", "resend_delivery", "replay_webhooks", "safe_mode",
    ),
    "Catalogue": ("import_product", "sync_products"),
    "Books": ("export_order", "export_accounting"),
    "Keys and secrets": (
        "init_env", "generate_encryption_key", "rotate_keys", "rewrap_keys", "cleanup_expired_keys", "setup_bucket",
    ),
    "Accounts and development": (
        "createstaff", "create_api_key", "end_api_key", "grant_rights", "partition_tables", "staff_device", "seed",
        "seed_large",
    ),
    "Backups": ("backup", "restore"),
    "Personal data": ("prune", "export_customer", "erase_customer"),
}  # fmt: skip


def execute(argv: Sequence[str]) -> None:
    """Run `manage.py` with these arguments."""
    if argv[1:] in ([], ["help"], ["--help"], ["-h"]):
        django.setup()  # the commands, whose sentences are shown, import models
        print("\n".join(lines()))  # noqa: T201 - what was asked for
    else:
        execute_from_command_line(list(argv))


def lines() -> Iterator[str]:
    style = BaseCommand().style
    yield "\n`manage.py COMMAND --help` explains a command and its exit codes.\n"
    for group, names in GROUPS.items():
        yield style.MIGRATE_HEADING(group)
        yield from (f"  {name:<24}{_first_sentence(name)}" for name in names)
        yield ""
    ours = {name for names in GROUPS.values() for name in names}
    others = [name for name in _known() if name not in ours]
    yield style.MIGRATE_HEADING("Of Django and its apps")
    yield "  " + ", ".join(others)


def _known() -> list[str]:
    listed = io.StringIO()
    with redirect_stdout(listed):
        execute_from_command_line(["manage.py", "help", "--commands"])
    return listed.getvalue().split()


def _first_sentence(name: str) -> str:
    text = str(import_module(f"bitloot.management.commands.{name}").Command.help)
    sentence = text.partition(". ")[0].partition(": ")[0].rstrip(".:")
    return sentence if len(sentence) <= 90 else sentence[:89].rsplit(" ", 1)[0] + " …"
