import gc

from django.apps import AppConfig


class BitLootConfig(AppConfig):
    """What composes the apps; it has no models, and the management commands that need every app."""

    name = "bitloot"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # Binds every @shared_task to our app. Not in bitloot/__init__.py, which beat imports, too: see bitloot.beat.
        import bitloot.celery  # noqa: F401

        # Whoever starts us has switched Python's collector off: it went through what is imported again and again, and
        # once more at the end of the process. That was a third of a short command's 0.85 s.
        gc.freeze()
        gc.enable()
