from bitloot.management.decide import OrderDecisionCommand
from orders.decisions import HOLD


class Command(OrderDecisionCommand):
    help = (
        "Stop an order until staff decide, as “Hold” in the admin: nothing more is bought for it, and an alert stays"
        " open. A purchase that was sent already is still followed."
    )
    decision = HOLD
