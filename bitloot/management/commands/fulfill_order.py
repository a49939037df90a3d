from bitloot.management.decide import OrderDecisionCommand
from fulfillment.services import RUN_ORDER


class Command(OrderDecisionCommand):
    help = (
        "Run the delivery of a paid order now, as in the admin: a worker looks at every item that is not delivered."
        " Nothing is bought a second time, however often it is run."
    )
    decision = RUN_ORDER
