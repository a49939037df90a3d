"""Take every migration of ours forwards, back to nothing and forwards again, on the database of the settings."""

import django
from django.core.management import call_command

# Backwards, the apps that depend on others go first.
APPS = ("evidence", "partners", "webhooks", "fulfillment", "payments", "storage", "orders")


def main() -> None:
    django.setup()
    call_command("migrate", verbosity=0)
    for app in APPS:
        call_command("migrate", app, "zero", verbosity=0)
    call_command("migrate", verbosity=0)


if __name__ == "__main__":
    main()
