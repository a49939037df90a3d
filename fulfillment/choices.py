"""The words that purchases and the supplier's gate are stored with."""

from bitloot.core.choices import ReasonChoices, StatusChoices, Tone


class ReservationStatus(StatusChoices):
    PENDING = "pending"
    SENDING = "sending", Tone.BUSY
    RESERVED = "reserved", Tone.BUSY
    GIVEN = "given", Tone.BUSY
    DELIVERED = "delivered", Tone.GOOD
    UNKNOWN = "unknown", Tone.LOOK
    HELD = "held", Tone.LOOK
    CANCELLED = "cancelled"
    FAILED = "failed", Tone.BAD


class GateStatus(StatusChoices):
    OPEN = "open", Tone.GOOD
    PAUSED = "paused", Tone.LOOK
    STOPPED = "stopped", Tone.BAD


class HoldReason(ReasonChoices):
    """Why a purchase, and the order that waits for it, stopped; the last ones say how a purchase was cancelled."""

    OUT_OF_STOCK = "out_of_stock", "The supplier has too little of it now.", "Out of stock"
    TOO_EXPENSIVE = "too_expensive", "It costs more than its cap, or leaves too little margin.", "Too expensive"
    NO_FUNDS = "no_funds", "Our balance at the supplier is too low.", "No funds"
    SUPPLIER_CONFIG = "supplier_config", "The supplier refuses our credentials.", "Supplier refuses credentials"
    SUPPLIER_UNAVAILABLE = "supplier_unavailable", "The supplier gave no usable answer for a day.", "Supplier down"
    REFUSED = "refused", "The supplier refused the purchase.", "Refused"
    UNKNOWN_PURCHASE = "unknown_purchase", "Nobody knows whether it was bought.", "Unknown purchase"
    FOUND_AT_SUPPLIER = (
        "found_at_supplier",
        "The supplier has an order for it that our rows do not know; it is being searched for.",
        "Found at the supplier",
    )
    DOUBLE_PURCHASE = "double_purchase", "The supplier has several orders for it.", "Double purchase"
    NO_KEYS = "no_keys", "The supplier took the order but delivered nothing for a day.", "No keys"
    FOREIGN_KEY = "foreign_key", "The supplier sent a key that was given to another unit before.", "Key given before"
    UNREADABLE_KEY = "unreadable_key", "The supplier sent every key, and one cannot be used.", "Unreadable key"
    PARTLY_CANCELLED = "partly_cancelled", "The supplier ended it after some keys had come.", "Partly cancelled"
    BOUGHT_BUT_REFUNDED = (
        "bought_but_refunded",
        "It was bought, but the order's money goes back.",
        "Bought but refunded",
    )
    OTHER_DIALECT = "other_dialect", "It was begun in another dialect of the supplier's API.", "Other dialect"
    POISON = "poison", "Working on it crashed the worker three times.", "Crashed the worker"
    # On the order alone.
    PARTLY_DELIVERED = (
        "partly_delivered",
        "A part cannot be delivered; the customer keeps the rest.",
        "Partly delivered",
    )
    SUPPLIER_CANCELLED = "supplier_cancelled", "The supplier cancelled the purchase.", "Supplier cancelled"
    # On a cancelled purchase.
    CANCELED = "canceled", "The supplier cancelled the order.", "Canceled by the supplier"
    REFUNDED = "refunded", "The supplier refunded the order.", "Refunded by the supplier"
    RETURNED = "returned", "The supplier took unused keys back.", "Returned to the supplier"


class Notice(ReasonChoices):
    """What staff are told about a purchase that it is not held for."""

    UNKNOWN = "unknown", "Nobody knows yet whether it was bought; the search continues.", "Unknown"
    UNREADABLE_KEY = "unreadable_key", "A key cannot be used.", "Unreadable key"
    SURPLUS = "surplus", "The supplier sent more keys than needed.", "Surplus"
    NEVER_AVAILABLE = "never_available", "It did not become available in time.", "Never available"
