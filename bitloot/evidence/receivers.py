from typing import Any

from django.contrib.flatpages.models import FlatPage
from django.db.models.signals import post_delete, post_save
from django.dispatch import receiver

from bitloot.evidence.terms import keep_texts


@receiver([post_save, post_delete], sender=FlatPage)
def keep_what_it_said(**_: Any) -> None:
    """Keep a text of the shop in the transaction that changes it. `update()` sends no signal: beat looks for those."""
    keep_texts()
