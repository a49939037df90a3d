from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig


class BitLootAdminConfig(AdminConfig):
    """`django.contrib.admin`, with our site as `admin.site`: every @admin.register lands there."""

    default_site = "bitloot.staff.site.BitLootAdminSite"


class StaffConfig(AppConfig):
    """What staff see. It has no models; it is an app so that Django finds its admin module."""

    name = "bitloot.staff"
