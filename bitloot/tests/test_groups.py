"""The groups that are shipped, and docs/staff.md, which shows what each may do."""

from pathlib import Path

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib import admin
from django.contrib.auth.models import Group, Permission
from django.core.management import call_command

from bitloot.core.admin.decisions import DecisionAdmin
from bitloot.staff.groups import GROUPS
from bitloot.tests.staff import make_staff

pytestmark = pytest.mark.django_db
PAGE = Path(settings.BASE_DIR) / "docs" / "staff.md"


@pytest.fixture
def shipped():
    Group.objects.all().delete()
    call_command("migrate", verbosity=0)


def may(group):
    rows = Group.objects.get(name=group).permissions.values_list("content_type__app_label", "codename")
    return {f"{app}.{codename}" for app, codename in rows}


def decisions():
    pages = [page for page in admin.site._registry.values() if isinstance(page, DecisionAdmin)]
    return [(page.opts.verbose_name, decision) for page in pages for decision in page.decisions]


def table():
    """The table of docs/staff.md, as the code has it."""
    lines = [
        "| about | decision | permission | support | finance | operations |",
        "|---|---|---|:-:|:-:|:-:|",
    ]
    for about, decision in sorted(decisions(), key=lambda each: (each[0], each[1].label)):
        marks = ("yes" if decision.permission in GROUPS[name] else "" for name in ("support", "finance", "operations"))
        lines.append(f"| {about} | {decision.label} | `{decision.permission}` | {' | '.join(marks)} |")
    return "\n".join(line.replace("  |", " |") for line in lines)


def test_document_has_the_table_of_the_code():
    assert table() in PAGE.read_text()


def test_every_decision_has_a_permission_of_its_own_that_exists_and_a_group():
    permissions = [decision.permission for _, decision in decisions()]
    assert sorted(permissions) == sorted(set(permissions))
    known = {f"{app}.{name}" for app, name in Permission.objects.values_list("content_type__app_label", "codename")}
    assert set(permissions) - known == set()
    assert set(permissions) - {name for names in GROUPS.values() for name in names} == set()


def test_migrate_ships_the_groups(shipped):
    assert set(Group.objects.values_list("name", flat=True)) == set(GROUPS)
    for name, permissions in GROUPS.items():
        assert set(permissions) <= may(name)
        assert {"orders.view_order", "payments.view_refund", "storage.view_keyaccess"} <= may(name)
    assert {name.partition(".")[2].partition("_")[0] for name in may("auditor")} == {"view"}


def test_groups_that_are_there_stay_as_the_operator_has_them(shipped):
    finance = Group.objects.get(name="finance")
    finance.permissions.clear()
    call_command("migrate", verbosity=0)
    assert may("finance") == set()


def test_half_migrated_database_gets_no_half_groups(shipped):
    Group.objects.all().delete()
    Permission.objects.filter(codename="replay_webhook").delete()
    from bitloot.staff.groups import ship

    ship(apps=apps, using="default")
    assert not Group.objects.exists()


def test_nobody_in_a_shipped_group_hands_out_rights(shipped):
    for name in GROUPS:
        user = make_staff()
        user.groups.set([Group.objects.get(name=name)])
        rights = {each for each in user.get_all_permissions() if each.startswith("auth.")}
        assert {each for each in rights if not each.startswith("auth.view_")} == set()


def test_an_auditor_decides_nothing(shipped):
    assert not {decision.permission for _, decision in decisions()} & may("auditor")
