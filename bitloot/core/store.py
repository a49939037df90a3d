"""What every page says about the shop: its name, and where customers write to."""

from django.conf import settings
from django.http import HttpRequest


def store(request: HttpRequest | None = None) -> dict[str, str]:
    """A context processor; pages that are rendered without a request call it themselves."""
    return {"store_name": settings.STORE_NAME or "BitLoot", "support_email": settings.SUPPORT_EMAIL}
