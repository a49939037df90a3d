from orders.models.alert import Alert, AlertChannel, Notification
from orders.models.approval import Approval
from orders.models.email import Email
from orders.models.order import CODE_LIVES_FOR, AccessCode, IdempotencyRecord, Order, OrderItem
from orders.models.product import MAX_LINES, MAX_QUANTITY, Product
from orders.state import OrderEvent

__all__ = [
    "CODE_LIVES_FOR",
    "MAX_LINES",
    "MAX_QUANTITY",
    "AccessCode",
    "Alert",
    "AlertChannel",
    "Approval",
    "Email",
    "IdempotencyRecord",
    "Notification",
    "Order",
    "OrderEvent",
    "OrderItem",
    "Product",
]
