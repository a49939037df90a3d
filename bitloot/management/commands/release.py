from bitloot.management.decide import OrderDecisionCommand
from orders.decisions import RELEASE


class Command(OrderDecisionCommand):
    help = (
        "Let an order that staff hold continue, as “Let it continue” in the admin. One that is not paid can be paid"
        " again for 24 hours."
    )
    decision = RELEASE
