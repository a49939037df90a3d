from django.apps import AppConfig


class BitLootConfig(AppConfig):
    """What composes the apps; it has no models, and the management commands that need every app."""

    name = "bitloot"
    default_auto_field = "django.db.models.BigAutoField"
