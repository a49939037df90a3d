"""The words that orders, mails and alerts are stored with."""

from django.db import models

from bitloot.core.choices import ReasonChoices, StatusChoices, Tone


class OrderStatus(StatusChoices):
    PENDING = "pending"
    UNDERPAID = "underpaid", Tone.LOOK
    PAID = "paid", Tone.BUSY
    FULFILLING = "fulfilling", Tone.BUSY
    FULFILLED = "fulfilled", Tone.GOOD
    PARTIALLY_FULFILLED = "partially_fulfilled", Tone.BUSY
    HELD = "held", Tone.LOOK
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    FAILED = "failed", Tone.BAD
    REFUND_DUE = "refund_due", Tone.LOOK
    REFUNDED = "refunded"


class OrderReason(ReasonChoices):
    """Why an order is where it is, as far as this app knows.

    An order that stopped for one of its payments or purchases carries the reason of that row instead: a `ReviewReason`
    of payments, or a `HoldReason` of fulfilment.
    """

    UNPAID = "unpaid", "Nobody paid in time.", "Unpaid"
    CANCELLED = "cancelled", "Staff cancelled the order before any money was seen.", "Cancelled"
    HELD_BY_STAFF = "held_by_staff", "Staff stopped the order to look at it.", "Held by staff"
    DECIDED_BY_STAFF = "decided_by_staff", "Staff decided that the money goes back.", "Decided by staff"
    REFUND_REQUESTED = "refund_requested", "Staff decided to refund the payment.", "Refund requested"
    ASKED_BY_CUSTOMER = (
        "asked_by_customer",
        "The customer did not want to wait for the supplier any longer.",
        "Asked by the customer",
    )
    PAYMENT_REFUNDED = "payment_refunded", "The provider sent the customer's coins back.", "Payment refunded"
    PAID_IN_PARTS = "paid_in_parts", "Partial payments together make up the price.", "Paid in parts"


class ApprovalStatus(StatusChoices):
    WAITING = "waiting", Tone.LOOK
    APPROVED = "approved", Tone.GOOD
    DECLINED = "declined"


class AlertKind(models.TextChoices):
    """Every kind of alert there is; the runbook has a row for each."""

    ORDER_HELD = "order_held", "Order held"
    ORDER_STUCK = "order_stuck", "Order stuck"
    APPROVAL_WAITING = "approval_waiting", "Approval waiting"
    MAIL_FAILED = "mail_failed", "Mail failed"
    MAIL_BOUNCED = "mail_bounced", "Mail came back"
    PAYMENT_REVIEW = "payment_review", "Payment review"
    PAYMENT_POISON = "payment_poison", "Payment crashed its worker"
    PAYMENT_UNREADABLE = "payment_unreadable", "Payment cannot be read"
    PAYMENT_REFUSED = "payment_refused", "Provider refuses to read a payment"
    PAYMENT_UNKNOWN_STATUS = "payment_unknown_status", "Payment in an unknown status"
    PAYMENTS_DOWN = "payments_down", "Payment provider down"
    PAYMENTS_NOT_MADE = "payments_not_made", "Payments cannot be created"
    COINS_UNREAD = "coins_unread", "Coin list cannot be read"
    PROVIDER_CREDENTIALS = "provider_credentials", "Provider refuses our credentials"
    IPNS_SILENT = "ipns_silent", "No IPNs come"
    IPN_OTHER_ORDER = "ipn_other_order", "IPN names another order"
    OTHER_ADDRESS = "other_address", "Provider names another address"
    OVERPAID = "overpaid", "Overpaid"
    ACCEPTED_BELOW_PRICE = "accepted_below_price", "Accepted below price"
    REFUND_OF_DELIVERED = "refund_of_delivered", "Refund of delivered keys"
    REFUND_TO_SEND = "refund_to_send", "Refund to send"
    RESERVATION = "reservation", "Purchase stopped"
    PURCHASE_UNREADABLE = "purchase_unreadable", "Purchase cannot be read"
    PURCHASE_REFUSED = "purchase_refused", "Supplier refuses a request"
    COST_ABOVE_CAP = "cost_above_cap", "Cost above the cap"
    DOUBLE_PURCHASE = "double_purchase", "Double purchase"
    SURPLUS = "surplus", "Surplus at the supplier"
    SUPPLIER_AFTER_DELIVERY = "supplier_after_delivery", "Supplier took back a delivered key"
    SUPPLIER_DOWN = "supplier_down", "Supplier down"
    LOW_BALANCE = "low_balance", "Low balance"
    PRODUCT_GONE = "product_gone", "Product gone at the supplier"
    BALANCE_RUNWAY = "balance_runway", "Balance ends soon"
    SAFE_MODE = "safe_mode", "Safe mode"
    OBJECT_STORE = "object_store", "Object store"
    BROWSER_DOWNLOAD = "browser_download", "Browsers cannot download"
    KEY_NOT_OPENED = "key_not_opened", "Key did not open"
    KEY_INTEGRITY = "key_integrity", "Key integrity"
    KEY_SOLD_TWICE = "key_sold_twice", "Key sold twice"
    WEBHOOK_FAILED = "webhook_failed", "Webhook failed"
    ENDPOINT_OFF = "endpoint_off", "Webhook endpoint switched off"
    WEBHOOKS_REFUSED = "webhooks_refused", "Webhooks refused"
    NO_WORKER = "no_worker", "Worker missing"
    ALERT_UNDELIVERED = "alert_undelivered", "Alert not delivered"
    STAFF_LOCKED = "staff_locked", "Staff sign-in locked"
    WORK_LATE = "work_late", "Work waits"
    SWEEP_LATE = "sweep_late", "Sweep late"
    CERTIFICATE = "certificate", "Certificate ends"
    BACKUP_LATE = "backup_late", "Backup late"
    DISK_FULL = "disk_full", "Disk nearly full"

    @property
    def is_urgent(self) -> bool:
        """Whether it may wake somebody in quiet hours."""
        return self in _URGENT


# Nobody is served, money leaves, or keys are in danger, and each hour makes it worse.
_URGENT = frozenset({
    AlertKind.PAYMENTS_DOWN, AlertKind.PAYMENTS_NOT_MADE, AlertKind.PROVIDER_CREDENTIALS, AlertKind.IPN_OTHER_ORDER,
    AlertKind.OTHER_ADDRESS, AlertKind.DOUBLE_PURCHASE, AlertKind.COST_ABOVE_CAP, AlertKind.SUPPLIER_DOWN,
    AlertKind.LOW_BALANCE, AlertKind.KEY_INTEGRITY, AlertKind.KEY_SOLD_TWICE, AlertKind.WEBHOOKS_REFUSED,
    AlertKind.STAFF_LOCKED, AlertKind.NO_WORKER, AlertKind.WORK_LATE, AlertKind.SWEEP_LATE, AlertKind.CERTIFICATE,
    AlertKind.DISK_FULL,
})  # fmt: skip
