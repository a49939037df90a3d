from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig
from django.db.models.signals import post_migrate


class BitLootAdminConfig(AdminConfig):
    """`django.contrib.admin`, with our site as `admin.site`: every @admin.register lands there."""

    default_site = "bitloot.staff.site.BitLootAdminSite"


class StaffConfig(AppConfig):
    """What staff see, and how they sign in."""

    name = "bitloot.staff"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from bitloot.staff import audit, sessions  # noqa: F401 - they connect their receivers
        from bitloot.staff.groups import ship

        # The last app of INSTALLED_APPS: when its turn comes, Django has made the permissions of all others.
        post_migrate.connect(ship, sender=self, dispatch_uid="bitloot.staff.groups")
