from django.apps import AppConfig


class WebConfig(AppConfig):
    """What composes the apps; it has no models, and the management commands that need every app."""

    name = "bitloot.web"
