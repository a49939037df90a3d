from typing import Any

from django.contrib.auth.models import Group, User
from django.core.exceptions import ValidationError
from django.core.management.base import CommandError, CommandParser

from bitloot.core import logs
from bitloot.management.operator import OperatorCommand, UsageError, named
from bitloot.ops.operator import whoami
from bitloot.staff.joining import AlreadyStaff, invite, mail_link
from orders.mail import NOT_SENT


class Command(OperatorCommand):
    help = (
        "Invite a member of staff: the address gets a link that works once, and lets them set a password and an"
        " authenticator. For an invitation that was not accepted yet, run it again: the older link ends."
    )
    exit_codes = {0: "invited, and the mail server took the mail", 1: "the account exists, or the mail was not sent"}
    has_json = True

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="what they sign in with")
        parser.add_argument("--email", required=True, help="where the link goes, and notices about the account")
        parser.add_argument(
            "--group", action="append", default=[], help="may be repeated; docs/staff.md has the groups"
        )

    def handle(self, *, name: str, email: str, group: list[str], **options: Any) -> None:
        _check(name, email)
        groups = [_group(each) for each in dict.fromkeys(group)]
        try:
            with logs.about(staff=whoami()):
                user = invite(name=name, email=email, groups=groups)
        except AlreadyStaff as err:
            raise CommandError(str(err)) from err
        try:
            # After the commit: if the mail is lost, the account is there, and the same command mails another link.
            ends_at = mail_link(user)
        except NOT_SENT as err:
            raise CommandError(
                f"{name} is invited, but the mail to {email} could not be sent ({type(err).__name__}). Check EMAIL_URL,"
                " then run this again."
            ) from err
        names = [each.name for each in groups]
        if options["json"]:
            self.write_json({"name": name, "email": email, "groups": names, "link_ends_at": ends_at})
        else:
            self.stdout.write(
                f"{name} is invited ({', '.join(names) or 'no group'}). The link ends {ends_at:%d %B, %H:%M} UTC."
            )


def _check(name: str, email: str) -> None:
    try:
        User(username=name, email=email).clean_fields(exclude=["password"])
    except ValidationError as err:
        raise UsageError(named(err)) from err
    if not email:
        raise UsageError("email: the link has to go somewhere.")


def _group(name: str) -> Group:
    group = Group.objects.filter(name=name).first()
    if group is None:
        known = ", ".join(Group.objects.order_by("name").values_list("name", flat=True)) or "none; run migrate"
        raise UsageError(f"There is no group {name}. There are: {known}.")
    return group
