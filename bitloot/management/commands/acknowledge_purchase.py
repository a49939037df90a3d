from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db.models import Q

from bitloot.core.providers import ProviderError
from bitloot.management.operator import OperatorCommand, UsageError
from bitloot.ops.operator import whoami
from fulfillment import kinguin
from fulfillment.models import ForeignPurchase, Reservation


class Command(OperatorCommand):
    help = (
        "Record that staff dealt with an order at the supplier that belongs to none of our rows"
        " (purchase_without_order), so that `reconcile --ask` skips it from now on."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("purchase", help="the supplier's order id, as `reconcile --ask` names it")
        parser.add_argument("--reason", required=True, help="what was done about it; kept")

    def handle(self, *, purchase: str, reason: str, **options: Any) -> None:
        if not reason.strip():
            raise UsageError("Write what was done about the purchase: --reason TEXT.")
        external_id = self._external_id(purchase)
        ours = Q(supplier_order_id=purchase) | Q(external_id=external_id)
        if reservation := Reservation.objects.filter(ours).first():
            raise CommandError(
                f"The supplier's order {purchase} belongs to {reservation}. Decide about that in the admin."
            )
        _, made = ForeignPurchase.objects.get_or_create(
            supplier_order_id=purchase,
            defaults={"external_id": external_id, "reason": reason.strip()[:300], "acknowledged_by": whoami()},
        )
        done = "is acknowledged; `reconcile --ask` skips it from now on." if made else "was acknowledged before."
        self.stdout.write(f"Purchase {purchase} {done}")

    def _external_id(self, purchase: str) -> str:
        """Ask the supplier, so that a mistyped id cannot hide another purchase one day."""
        try:
            return kinguin.client().read(purchase).external_id
        except ProviderError as err:
            raise CommandError(f"The supplier does not confirm {purchase}: {err}. Nothing was recorded.") from err
