"""`manage.py help` with our commands first, grouped as docs/commands.md groups them, each with its first sentence."""

from collections.abc import Iterator

from django.core.management import ManagementUtility, get_commands, load_command_class
from django.core.management.color import color_style

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


class Utility(ManagementUtility):
    def main_help_text(self, commands_only: bool = False) -> str:
        if commands_only:
            return super().main_help_text(commands_only=True)
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        style, known = color_style(), get_commands()
        yield f"\n`{self.prog_name} COMMAND --help` explains a command and its exit codes.\n"
        for group, names in GROUPS.items():
            yield style.MIGRATE_HEADING(group)
            yield from (f"  {name:<24}{_first_sentence(name)}" for name in names if name in known)
            yield ""
        ours = {name for names in GROUPS.values() for name in names}
        others = sorted(known.keys() - ours)
        yield style.MIGRATE_HEADING("Of Django and its apps")
        yield "  " + ", ".join(others)


def _first_sentence(name: str) -> str:
    text = str(load_command_class("bitloot", name).help)
    sentence = text.partition(". ")[0].partition(": ")[0].rstrip(".:")
    return sentence if len(sentence) <= 90 else sentence[:89].rsplit(" ", 1)[0] + " …"
