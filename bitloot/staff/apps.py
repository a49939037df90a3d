from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig


class BitLootAdminConfig(AdminConfig):
    """`django.contrib.admin`, with our site as `admin.site`: every @admin.register lands there."""

    default_site = "bitloot.staff.site.BitLootAdminSite"


class StaffConfig(AppConfig):
    """What staff see, and how they sign in."""

    name = "bitloot.staff"
    default_auto_field = "django.db.models.BigAutoField"
