from bitloot.management.decide import OrderDecisionCommand
from fulfillment.services import RESEND


class Command(OrderDecisionCommand):
    help = (
        "Mail the customer a fresh link to the keys of an order, at the address that the order has now. Links mailed"
        " before stop working; the key itself is never mailed."
    )
    decision = RESEND
