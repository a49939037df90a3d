from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser

from bitloot.management.operator import OperatorCommand
from bitloot.ops.operator import whoami
from fulfillment import gate, kinguin
from fulfillment.models import SupplierGate

ENVIRONMENT_WINS = (
    "SAFE_MODE is set in the environment and wins: nothing is bought. Take it out and restart web, worker and beat."
)


class Command(OperatorCommand):
    help = "Stop every purchase at the supplier (on), let them leave again (off), or show its state."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("switch", nargs="?", choices=["on", "off"])
        parser.add_argument("--reason", default="", help="why; kept with the alert")

    def handle(self, *, switch: str | None, reason: str, **options: Any) -> None:
        host = kinguin.client().host
        if switch == "on":
            self._stop(host, reason.strip())
        elif switch == "off":
            gate.open_again(host, by=whoami())
        self.stdout.write(state_of(host))
        if settings.SAFE_MODE and switch == "off":
            raise CommandError(ENVIRONMENT_WINS)
        if settings.SAFE_MODE:
            self.stdout.write(self.style.WARNING(ENVIRONMENT_WINS))

    def _stop(self, host: str, reason: str) -> None:
        if not reason and SupplierGate.objects.filter(pk=host, status=SupplierGate.Status.STOPPED).exists():
            return  # why it was stopped says more
        gate.stop(host, reason=f"safe mode by {whoami()}: {reason or 'no reason given'}")


def state_of(host: str) -> str:
    gate_row = SupplierGate.objects.filter(pk=host).first()
    if gate_row is None or gate_row.status == SupplierGate.Status.OPEN:
        return f"The gate to {host} is open."
    if gate_row.status == SupplierGate.Status.STOPPED:
        return f"The gate to {host} is stopped since {gate_row.changed_at:%Y-%m-%d %H:%M} UTC ({gate_row.reason})."
    return (
        f"The gate to {host} is paused ({gate_row.reason}); it opens automatically once the supplier can be used again."
    )
