from django.apps import AppConfig


class AccountingConfig(AppConfig):
    """The ledger and its checks; the only rows of this room are what staff acknowledged."""

    name = "bitloot.accounting"
    default_auto_field = "django.db.models.BigAutoField"
