from django.apps import AppConfig


class EvidenceConfig(AppConfig):
    """The pack about an order; the only rows of this room are what the shop's text pages said, and since when."""

    name = "bitloot.evidence"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from bitloot.evidence import receivers  # noqa: F401 - it connects its receiver
