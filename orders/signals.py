"""How news travels upwards: sent inside the transition's transaction; receivers open a row or send a wake-up, nothing else."""

from django.dispatch import Signal

order_paid = Signal()
order_refund_due = Signal()
