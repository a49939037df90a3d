import secrets
from typing import Any

from bitloot import environment
from bitloot.management.operator import OperatorCommand


class Command(OperatorCommand):
    help = (
        "Print a random secret that every setting of ours takes: KEY_ENCRYPTION_SECRET, SECRET_KEY, ORDER_TOKEN_SECRET,"
        " BACKUP_SECRET, METRICS_TOKEN. Each needs its own. It is kept nowhere, and needs no other setting to run."
    )
    exit_codes = {0: "done"}
    has_json = True
    requires_system_checks = []

    def handle(self, **options: Any) -> None:
        secret = _random()
        if options["json"]:
            self.write_json({"secret": secret})
        else:
            self.stdout.write(secret)


def _random() -> str:
    while True:
        secret = secrets.token_urlsafe(48)
        try:
            environment.secrets(secret, values=1, least=50, different=environment.OWN_DIFFERENT)
        except environment.Wrong:
            continue  # by chance it begins like an example
        return secret
