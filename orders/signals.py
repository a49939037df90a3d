"""How news travels upwards: sent inside the transition's transaction; receivers only open a row or wake a queue."""

from django.dispatch import Signal

order_paid = Signal()
order_refund_due = Signal()
# Any move of an order that was placed with an API key; others move without a word.
order_moved = Signal()
