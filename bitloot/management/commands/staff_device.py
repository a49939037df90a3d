from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import CommandError, CommandParser
from django.db import transaction

from bitloot.core import logs
from bitloot.management.operator import OperatorCommand
from bitloot.ops.operator import whoami
from bitloot.staff import devices
from bitloot.staff.audit import record


class Command(OperatorCommand):
    help = "Give a staff account an authenticator and ten recovery codes, shown once. The earlier ones end."
    exit_codes = {0: "done", 1: "there is no staff account of this name"}

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="what they sign in with")

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(username=options["name"], is_staff=True).first()
        if user is None:
            raise CommandError("There is no staff account of this name.")
        with logs.about(staff=whoami()), transaction.atomic():
            device = devices.begin(user)
            codes = devices.confirm(device)
            record(user, "authenticator and recovery codes replaced")
        self.stdout.write(f"For the authenticator: {device.config_url}")
        self.stdout.write("Recovery codes, each works once: " + " ".join(codes))
