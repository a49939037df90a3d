"""The small database role: the shop's work continues under it, and what is evidence cannot be changed."""

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib.admin.models import LogEntry
from django.core.management import CommandError, call_command
from django.db import ProgrammingError, connection, transaction

from bitloot.celery import app
from bitloot.core.models import Allowance
from bitloot.ops import rights
from bitloot.ops.doctor.services import database
from bitloot.ops.rights import ADD_ONLY, DELETES, FIXED, OTHERS_DELETE, READ_ONLY
from bitloot.tasks import prune
from fulfillment.models import ReservationAttempt
from orders.models import Order, OrderEvent
from orders.tasks import housekeeping
from orders.tests.factories import make_order
from payments import refunds
from payments.tests.conftest import postbox, world  # noqa: F401
from payments.tests.decisions import give, money_in, now, refund_of, send
from payments.tests.stories import STORIES
from payments.tests.test_stories import tell
from storage import services
from storage.models import Key, KeyAccess, KeyDeliveryLog
from storage.tests.factories import OPENER, make_item, make_key
from webhooks.models import WebhookLog
from webhooks.tests.factories import make_log

pytestmark = [pytest.mark.django_db, pytest.mark.postgres]


def refused(sql, *parameters):
    reason = pytest.raises(ProgrammingError, match="permission denied|must be owner")
    with reason, transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql, parameters)
    return True


def each(labels):
    return [pytest.param(apps.get_model(label), id=label) for label in sorted(labels)]


@pytest.mark.parametrize("model", each(ADD_ONLY))
def test_evidence_is_only_added(small_role, model):
    table, column = model._meta.db_table, model._meta.pk.column
    assert refused(f"UPDATE {table} SET {column} = {column}")
    assert refused(f"DELETE FROM {table}")
    assert refused(f"TRUNCATE {table} CASCADE")
    assert refused(f"DROP TABLE {table} CASCADE")
    assert refused(f"ALTER TABLE {table} DISABLE TRIGGER ALL")


@pytest.mark.parametrize(
    ("model", "field"),
    [
        pytest.param(apps.get_model(label), field, id=f"{label}.{field}")
        for label in FIXED
        for field in sorted(FIXED[label])
    ],
)
def test_a_fixed_column_stays_as_it_was_inserted(small_role, model, field):
    table, column = model._meta.db_table, model._meta.get_field(field).column
    assert refused(f'UPDATE {table} SET "{column}" = "{column}"')
    assert refused(f"DELETE FROM {table}")


def test_a_sealed_key_cannot_be_moved_and_a_webhooks_body_not_be_changed(small_role):
    key, log = make_key(), make_log()
    with pytest.raises(ProgrammingError, match="permission denied"), transaction.atomic():
        Key.objects.filter(pk=key.pk).update(item=make_item())
    with pytest.raises(ProgrammingError, match="permission denied"), transaction.atomic():
        WebhookLog.objects.filter(pk=log.pk).update(body=b"{}")
    with pytest.raises(ProgrammingError, match="permission denied"), transaction.atomic():
        OrderEvent.objects.update(message="nothing happened")
    with pytest.raises(ProgrammingError, match="permission denied"), transaction.atomic():
        KeyDeliveryLog.objects.filter(key=key).delete()


def test_the_role_makes_no_tables_and_no_roles(small_role):
    assert refused("CREATE TABLE mine (id integer)")
    assert refused("CREATE ROLE another LOGIN")
    assert refused("DELETE FROM django_migrations")
    assert refused("UPDATE auth_permission SET name = 'all of it'")
    assert refused("DELETE FROM orders_order")
    assert refused("DELETE FROM payments_refund")


def test_rules_name_models_and_fields_that_there_are():
    for label in (*ADD_ONLY, *READ_ONLY, *DELETES, *FIXED):
        apps.get_model(label)
    for label, fields in FIXED.items():
        assert fields <= {field.name for field in apps.get_model(label)._meta.concrete_fields}
    assert {*OTHERS_DELETE} <= {config.label for config in apps.get_app_configs()}


def test_keys_are_sealed_opened_rewrapped_and_shredded_under_the_small_role(small_role, settings):
    key = make_key()
    services.reveal(order=key.item.order, keys=[key], by=OPENER)
    KeyDeliveryLog.objects.filter(key=key).record_opened()
    settings.KEY_ENCRYPTION_SECRET, old = "n" * 43, settings.KEY_ENCRYPTION_SECRET
    settings.KEY_ENCRYPTION_SECRET_FALLBACKS = [old]
    assert services.rewrap_keys() == 1
    assert services.shred(key, reason="refunded")
    assert KeyAccess.objects.count() == 1


def test_housekeeping_runs_under_the_small_role(small_role):
    Allowance.objects.create(name="ended", until=0)
    housekeeping()
    assert not Allowance.objects.exists()


def test_what_the_owner_forgets_is_left_to_it(small_role):
    assert rights.is_given("DELETE", KeyAccess) is False
    assert set(prune()) == {"covers"}


def test_a_command_of_the_owners_says_how_it_is_run(small_role):
    make_order(status="expired", email="ada@example.org").note("order", "Ada wrote from ada@example.org.")
    with pytest.raises(CommandError, match="Run the command as the owner of the tables, with MIGRATE_DATABASE_URL"):
        call_command("erase_customer", "ada@example.org")


def test_the_owner_prunes():
    assert set(prune()) >= {"webhook_bodies", "key_accesses"}


def test_the_doctor_notices_a_role_that_may_do_everything(small_role):
    said = "our database role may change what happened"
    assert said not in [finding.message for finding in database()]
    with connection.cursor() as cursor:
        cursor.execute("RESET ROLE")
    assert said in [finding.message for finding in database()]


def test_granting_again_changes_nothing(small_role):
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_user")
        (role,) = cursor.fetchone()
        cursor.execute("RESET ROLE")
        before = granted(cursor, role)
        cursor.execute(f"GRANT ALL ON orders_orderevent TO {role}")
        assert granted(cursor, role) != before
        rights.grant(role)
        assert granted(cursor, role) == before


def granted(cursor, role):
    cursor.execute(
        "SELECT table_name, column_name, privilege_type FROM information_schema.column_privileges WHERE grantee = %s"
        " UNION ALL SELECT table_name, '', privilege_type FROM information_schema.role_table_grants WHERE grantee = %s",
        [role, role],
    )
    return sorted(cursor.fetchall())


def test_a_role_that_may_do_everything_is_no_small_role():
    with connection.cursor() as cursor:
        cursor.execute("CREATE ROLE bitloot_tests_mighty SUPERUSER LOGIN")
    with pytest.raises(rights.NotASmallRole, match="superuser"):
        rights.grant("bitloot_tests_mighty")
    with connection.cursor() as cursor:
        cursor.execute("ALTER ROLE bitloot_tests_mighty NOSUPERUSER")
        cursor.execute("ALTER TABLE orders_product OWNER TO bitloot_tests_mighty")
    with pytest.raises(rights.NotASmallRole, match="owns tables"):
        rights.grant("bitloot_tests_mighty")


def test_a_password_reaches_the_server_as_what_it_stores():
    rights.grant("bitloot_tests_small", password="pass-word")
    with connection.cursor() as cursor:
        cursor.execute("SELECT rolpassword FROM pg_authid WHERE rolname = 'bitloot_tests_small'")
        assert cursor.fetchone()[0].startswith("SCRAM-SHA-256$")


@pytest.mark.parametrize(
    ("owner", "role"),
    [("", "postgres://app:word@127.0.0.1/shop"), ("postgres://owner@127.0.0.1/shop", "postgres:///shop")],
)
def test_the_command_wants_both_roles(settings, owner, role):
    settings.MIGRATE_DATABASE_URL, settings.DATABASE_URL = owner, role
    if owner:
        settings.DATABASE_URL = f"postgres://{connection.settings_dict['USER']}@127.0.0.1/shop"
    with pytest.raises(CommandError, match="Set MIGRATE_DATABASE_URL to the owner"):
        call_command("grant_rights")


def test_the_command_grants(settings, capsys):
    settings.MIGRATE_DATABASE_URL = settings.DATABASE_URL
    settings.DATABASE_URL = "postgres://bitloot_tests%2Dapp:pass%20word@127.0.0.1/shop"
    call_command("grant_rights")
    assert capsys.readouterr().out == "bitloot_tests-app may do what the shop needs, and nothing else.\n"
    with connection.cursor() as cursor:
        cursor.execute('SET ROLE "bitloot_tests-app"')
    order = make_order()
    assert Order.objects.get() == order
    assert not LogEntry.objects.exists()
    assert not ReservationAttempt.objects.exists()


@pytest.mark.parametrize("entry", settings.CELERY_BEAT_SCHEDULE)
def test_every_periodic_task_may_do_its_work(small_role, entry):
    """A task that deletes rows needs its table in DELETES: this one fails until it is there."""
    make_order()
    app.loader.import_default_modules()
    app.tasks[settings.CELERY_BEAT_SCHEDULE[entry]["task"]]()


@pytest.mark.parametrize("story", STORIES[::4], ids=lambda story: story.name)
def test_stories_of_payments_end_the_same_under_the_small_role(small_role, world, story):  # noqa: F811
    tell(world, (*story.before, *story.events, *story.after))
    world.replay_everything()
    assert (world.order_now(), world.refunds()) == (story.order, story.refunds)


def test_money_goes_back_under_the_small_role(small_role):
    refund = refund_of(money_in())
    give(refund)
    send(refund)
    refunds.mark_done(refund, actor="ada")
    assert now(refund) == "done"
