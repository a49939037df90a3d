from django.apps import AppConfig


class PartnersConfig(AppConfig):
    """Shops built on the API: their keys, and the webhooks that we send them."""

    name = "bitloot.partners"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from bitloot.partners import receivers  # noqa: F401 - it connects its receiver
