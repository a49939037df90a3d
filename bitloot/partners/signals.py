"""What the staff's log of rights hears of."""

from django.dispatch import Signal

# A key was made, renewed or ended: sent with `about`, the key, and `what`, in the transaction that does it.
rights_changed = Signal()
