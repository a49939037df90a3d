"""The operator's commands: exit codes, JSON, dry runs, and the same effect however often they are run."""

import csv
import json
import os
import re
import subprocess
import sys
from datetime import timedelta
from decimal import Decimal
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command, get_commands, load_command_class
from django.db import ProgrammingError
from django.db.models.functions import Now
from psycopg.errors import UndefinedTable

from bitloot import environment
from bitloot.accounting.spreadsheet import safe
from bitloot.management import overview
from bitloot.management.operator import NO_OUTPUT, OperatorCommand, Unavailable
from bitloot.management.overview import GROUPS
from bitloot.tests.commands import run
from fulfillment.models import Reservation
from orders.choices import AlertKind
from orders.models import Alert, Email, Order
from orders.tests.factories import make_order, make_paid_order
from payments.models import Refund
from payments.tests.factories import make_payment
from storage.models import Key, KeyDeliveryLog
from storage.tests.factories import SERIAL, make_item, make_key
from tools.dev.devenv import ROOT, process_environment
from webhooks.models import WebhookLog
from webhooks.tests.factories import ipn, make_log

pytestmark = pytest.mark.django_db
NOWHERE = "00000000-0000-4000-8000-000000000000"


@pytest.fixture(autouse=True)
def operator(monkeypatch):
    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.setenv("USER", "kim")


def document(*arguments):
    code, out, _ = run(*arguments, "--json")
    return code, json.loads(out)


# --- every command ---

OURS = sorted(name for name, app in get_commands().items() if app == "bitloot")


@pytest.mark.parametrize("name", OURS)
def test_help_explains_the_command_and_its_exit_codes(name):
    text = load_command_class("bitloot", name).create_parser("manage.py", name).format_help()
    assert len(load_command_class("bitloot", name).help) > 40
    assert re.search(
        r"exit codes:\n  0   \S.*\n(  [12]   \S.*\n)*  64  called wrongly; nothing was done\n  69  \S", text
    )


@pytest.mark.parametrize("name", OURS)
def test_the_documentation_has_every_command(name):
    documented = re.findall(r"^\| `(\w+)", (ROOT / "docs" / "commands.md").read_text(), re.MULTILINE)
    assert name in documented


def test_help_groups_our_commands_as_the_documentation_does():
    documented, heading = {}, ""
    for line in (ROOT / "docs" / "commands.md").read_text().splitlines():
        if line.startswith("## "):
            heading = line[3:]
        elif command := re.match(r"\| `(\w+)", line):
            documented[command[1]] = heading
    documented = {name: heading for name, heading in documented.items() if name in OURS}
    assert {name: group for group, names in GROUPS.items() for name in names} == documented
    shown = "\n".join(overview.lines())
    assert [name for name in (*OURS, "migrate") if not re.search(rf"^  (.*, )?{name}\b", shown, re.MULTILINE)] == []
    assert all(re.search(rf"^  {name} +[A-Z]\w+ ", shown, re.MULTILINE) for name in OURS)


def test_without_a_terminal_there_is_no_progress_bar(capfd):
    failed(1)
    run("replay_webhooks")
    assert capfd.readouterr().err == ""


# --- decisions about an order ---


def test_hold_and_release():
    order = make_paid_order()
    hold = ("hold", order.pk, "--reason", "the customer wrote")
    code, out, _ = run(*hold)
    assert (code, out.startswith(f"{order}: held.")) == (0, True)
    order.refresh_from_db()
    notes = [(event.kind, event.message, event.actor) for event in order.events.all()][-1]
    assert (order.status, notes) == ("held", ("staff", "the customer wrote", "kim"))
    assert run(*hold) == (1, "", f"{order}: It is held already.")
    assert Alert.objects.get(kind=AlertKind.ORDER_HELD).times == 1

    release = ("release", order.pk, "--reason", "all is well")
    assert document(*release) == (
        0, {"ok": True, "dry_run": False, "order": str(order.pk), "status": "fulfilling", "objection": None}
    )  # fmt: skip
    code, found = document(*release)
    assert (code, found["ok"], found["objection"]) == (1, False, "It is “fulfilling”, not held.")


def test_a_dry_run_asks_and_decides_nothing():
    order = make_paid_order()
    assert run("hold", order.pk, "--reason", "the customer wrote", "--dry-run")[:2] == (
        0, f"{order}: “Hold” is possible.\n"
    )  # fmt: skip
    order.refresh_from_db()
    assert order.status == "paid"
    assert run("release", order.pk, "--reason", "all is well", "--dry-run")[0] == 1


@pytest.mark.parametrize(
    "arguments",
    [("hold", NOWHERE, "--reason", "the customer wrote"), ("hold", "x", "--reason", "long enough"), ("hold", NOWHERE),
     ("release", NOWHERE, "--reason", "no"), ("export_order", NOWHERE), ("export_order", "x")],
)  # fmt: skip
def test_a_wrong_call_exits_64(arguments):
    assert run(*arguments)[0] == 64


def test_a_short_reason_is_refused():
    assert run("hold", make_paid_order().pk, "--reason", "no")[::2] == (64, "Say a little more: why?")


def test_fulfill_order_wakes_what_is_not_delivered():
    order = make_paid_order()
    Reservation.objects.update(next_attempt_at=None)
    assert run("fulfill_order", order.pk)[0] == 0
    assert run("fulfill_order", order.pk)[0] == 0
    assert Reservation.objects.get(item__order=order).next_attempt_at is not None
    unpaid = make_order()
    code, _, complaint = run("fulfill_order", unpaid.pk)
    assert (code, complaint) == (1, f"{unpaid}: It is not paid, or its money goes back; nothing was changed.")


def test_resend_delivery_mails_a_fresh_link_once_there_is_a_key():
    order = make_order(status="fulfilled", paid_at=Now())
    code, _, complaint = run("resend_delivery", order.pk)
    assert (code, "No key of it is here yet" in complaint) == (1, True)
    make_key(make_item(order=order))
    assert run("resend_delivery", order.pk, "--dry-run")[0] == 0
    assert Email.objects.filter(kind=Email.Kind.FRESH_LINK).count() == 0
    assert run("resend_delivery", order.pk)[0] == 0
    mail = Email.objects.get(kind=Email.Kind.FRESH_LINK)
    order.refresh_from_db()
    assert (mail.to, order.link_generation, order.events.last().actor) == (order.email, 2, "kim")


# --- webhooks ---


def failed(number, **fields):
    log = make_log(body=ipn(payment_id=number), external_id=str(number))
    WebhookLog.objects.filter(pk=log.pk).update(**{"status": "failed", "next_attempt_at": None, **fields})
    return log


def test_failed_webhooks_are_replayed():
    logs = [failed(number) for number in range(3)]
    failed(9, status="processed")
    rehearsed = document("replay_webhooks", "--dry-run")[1]
    assert [each["verdict"] for each in rehearsed.pop("foreseen")] == ["no_change"] * 3
    assert rehearsed == {"dry_run": True, "chosen": 3, "replayed": 0, "left": {}}
    assert "Nothing would change. Its handler says: neither payment" in run("replay_webhooks", "--dry-run")[1]
    assert document("replay_webhooks") == (
        0,
        {"dry_run": False, "chosen": 3, "replayed": 3, "left": {}, "foreseen": []},
    )
    assert set(WebhookLog.objects.filter(replays=1, status="received").values_list("pk", flat=True)) == {
        log.pk for log in logs
    }
    assert document("replay_webhooks")[1]["chosen"] == 0


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (["--external-id", "1"], 1),
        (["--provider", "kinguin"], 0),
        (["--event-type", "finished"], 2),
        (["--event-type", "waiting"], 0),
        (["--search", "1"], 1),
        (["--status", "processed"], 1),
        (["--since", "2026-03-01"], 1),
        (["--until", "2026-03-01T00:00"], 1),
        (["--until", "2026-03-01T00:00+01:00"], 0),
    ],
)
def test_webhooks_are_chosen(options, count):
    failed(1, received_at="2026-02-28T23:30Z")
    failed(2)
    failed(3, status="processed")
    assert document("replay_webhooks", "--dry-run", *options)[1]["chosen"] == count


def test_a_webhook_is_chosen_by_its_row_whatever_its_status():
    log = failed(1, status="processed")
    assert document("replay_webhooks", "--id", log.pk)[1]["replayed"] == 1


def test_what_cannot_be_replayed_is_counted_and_the_rest_is_done():
    failed(1)
    failed(2, body=b"changed")
    code, found = document("replay_webhooks")
    assert (code, found["replayed"]) == (1, 1)
    assert found["left"] == {"The stored body is not the one that was verified, so it is not replayed.": 1}


def test_a_wrong_moment_exits_64():
    assert run("replay_webhooks", "--since", "yesterday")[0] == 64


# --- keys ---


def expired(*, viewed):
    key = make_key()
    KeyDeliveryLog.objects.filter(key=key).update(expires_at=Now() - timedelta(days=1))
    Key.objects.filter(pk=key.pk).update(viewed_at=Now() if viewed else None)
    return key


def test_expired_keys_are_destroyed_and_unopened_ones_only_when_asked():
    opened, unopened, fresh = expired(viewed=True), expired(viewed=False), make_key()
    counted = {"dry_run": True, "due": 1, "destroyed": 0, "never_opened": 1}
    assert document("cleanup_expired_keys", "--dry-run") == (0, counted)
    assert document("cleanup_expired_keys")[1] == {**counted, "dry_run": False, "destroyed": 1}
    assert document("cleanup_expired_keys")[1]["destroyed"] == 0
    status = dict(Key.objects.values_list("pk", "status"))
    assert (status[opened.pk], status[unopened.pk]) == ("shredded", "received")
    assert document("cleanup_expired_keys", "--unviewed")[1]["destroyed"] == 1
    assert list(Key.objects.exclude(status="shredded").values_list("pk", flat=True)) == [fresh.pk]


def test_rotating_moves_every_key_and_says_when_the_earlier_secret_may_go(settings):
    [make_key() for _ in range(5)]
    settings.KEY_ENCRYPTION_SECRET_FALLBACKS = (settings.KEY_ENCRYPTION_SECRET,)
    settings.KEY_ENCRYPTION_SECRET = "another secret of forty-three characters or so"
    code, found = document("rotate_keys", "--dry-run")
    assert (code, found["rotated"], sum(found["left"].values())) == (1, 0, 5)
    code, found = document("rotate_keys", "--batch", "2", "--verify")
    assert (code, found["rotated"], found["left"], found["closed"]) == (0, 5, {}, [])
    assert document("rotate_keys")[1]["rotated"] == 0
    assert "KEY_ENCRYPTION_SECRET_FALLBACKS can go" in run("rewrap_keys")[1]


def test_verifying_names_a_key_that_does_not_open():
    key, _ = make_key(), make_key()
    Key.objects.filter(pk=key.pk).update(wrapped_data_key=bytes(key.wrapped_data_key[:-1]) + b"x")
    code, found = document("rotate_keys", "--verify")
    assert (code, found["closed"]) == (1, [str(key.pk)])


def test_a_generated_secret_is_one_that_every_setting_takes():
    code, out, _ = run("generate_encryption_key")
    environment.secrets(out.strip(), values=1, least=50, different=environment.OWN_DIFFERENT)
    assert code == 0
    assert document("generate_encryption_key")[1]["secret"] != out.strip()


def test_a_secret_is_generated_without_any_setting(tmp_path):
    environ = {"BITLOOT_VAR": str(tmp_path), "BITLOOT_ENV_FILE": "/nonexistent", "PATH": "/usr/bin"}
    command = [sys.executable, "manage.py", "generate_encryption_key"]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=True)
    assert re.fullmatch(r"[\w-]{64}\n", done.stdout)


# --- exports ---


def test_export_order_has_the_timeline_and_no_key():
    order = make_order(status="fulfilled", paid_at=Now())
    make_key(make_item(order=order))
    code, out, _ = run("export_order", order.pk)
    pack = json.loads(out)
    assert (code, pack["order"], pack["made_by"]) == (0, str(order.pk), "kim")
    assert [one["facts"]["kind"] for one in pack["entries"] if one["kind"] == "event"] == ["order", "key"]
    assert SERIAL.decode() not in out


def test_pack_of_an_order_is_checked_and_a_changed_one_is_told(tmp_path):
    order, file, paper = make_order(), tmp_path / "pack.json", tmp_path / "pack.pdf"
    file.write_text(run("export_order", order.pk)[1])
    assert run("export_order", "--verify", file)[0] == 0
    file.write_text(file.read_text().replace("24.99", "4.99", 1))
    code, _, errors = run("export_order", "--verify", file)
    assert code == 1
    assert "was changed" in errors
    code, out, _ = run("export_order", order.pk, "--pdf", paper)
    assert (code, out[:14], paper.read_bytes()[:5]) == (0, "Final digest: ", b"%PDF-")
    assert run("export_order")[0] == 64


@pytest.fixture
def sales():
    """An order of March, paid, bought and refunded, and one of April."""
    order = make_order(status="fulfilled", paid_at=Now())
    Order.objects.filter(pk=order.pk).update(created_at="2026-03-01T00:00Z")
    payment = make_payment(order, status="finished", finished_at="2026-03-31T23:59Z", actually_paid=Decimal("0.5"))
    Reservation.objects.create(
        item=order.items.get(), external_id="a", supplier_order_id="=1+1", dialect="ecommerce", status="delivered",
        reserved_at="2026-03-02T10:00Z", cost=Decimal("17.50"),
    )  # fmt: skip
    Refund.objects.create(
        order=order, payment=payment, status="sent", amount=Decimal("0.1"), worth=Decimal("2.00"), currency="btc",
        reason="x", sent_at="2026-03-05T10:00Z", transaction_id="+tx",
    )  # fmt: skip
    later = make_order()
    Order.objects.filter(pk=later.pk).update(created_at="2026-04-01T00:00Z")
    return order


def lines(*options):
    code, out, _ = run("export_accounting", "--since", "2026-03-01", "--until", "2026-03-31", *options)
    assert code == 0
    return list(csv.DictReader(StringIO(out)))


def test_accounting_has_what_happened_to_money_in_these_days(sales):
    found = lines()
    assert [(line["kind"], line["amount"], line["currency"], line["coins"], line["coin"]) for line in found] == [
        ("order", "24.99", "EUR", "", ""),
        ("payment", "24.99", "EUR", "0.5", "btc"),
        ("refund", "2", "EUR", "0.1", "btc"),
        ("purchase", "17.5", "EUR", "", ""),
    ]
    assert {line["order"] for line in found} == {str(sales.pk)}
    assert "example.org" not in str(found)


def test_accounting_may_show_one_kind(sales):
    assert [line["kind"] for line in lines("--only", "refund")] == ["refund"]


def test_a_spreadsheet_takes_no_cell_for_a_formula(sales):
    assert [line["reference"] for line in lines()][2:] == ["'+tx", "'=1+1"]
    for start in "=+-@＝＋－＠\t\r\n":
        assert safe(f"{start}x") == f"'{start}x"


def test_accounting_for_machines(sales):
    code, found = document("export_accounting", "--since", "2026-03-01", "--until", "2026-03-31")
    assert (code, len(found), found[3]["reference"]) == (0, 4, "=1+1")


@pytest.mark.parametrize("span", [("2026-03-02", "2026-03-01"), ("March", "2026-03-01")])
def test_a_wrong_span_exits_64(span):
    assert run("export_accounting", "--since", span[0], "--until", span[1])[0] == 64


# --- what cannot be used ---


def at_the_shell(tmp_path, *arguments, begins=(), **options):
    environment = process_environment(tmp_path, port=8000, sandbox_port=8001, DATABASE_URL="", REDIS_URL="")
    environment.pop("PYTHONUNBUFFERED")  # as from cron, where what is printed waits in a buffer
    command = [*begins, sys.executable, "manage.py", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True, check=False, **options)


def test_a_database_that_cannot_be_used_is_a_sentence(tmp_path):
    done = at_the_shell(tmp_path, "reconcile", stdout=subprocess.DEVNULL)
    assert (done.returncode, done.stderr) == (
        69,
        "Unavailable: The database cannot be used: no such table: orders_order. `manage.py doctor --only database"
        " --only migrations` tells you how to fix it. Then run this command again.\n",
    )


def test_a_table_that_postgresql_does_not_have_is_a_sentence(monkeypatch):
    missing = ProgrammingError('relation "orders_order" does not exist\nLINE 1: SELECT')
    missing.__cause__ = UndefinedTable()
    with pytest.raises(Unavailable, match='The database cannot be used: relation "orders_order" does not exist. `man'):
        ends_with(missing)


def test_a_fault_of_ours_keeps_its_traceback():
    with pytest.raises(ProgrammingError):
        ends_with(ProgrammingError("syntax error"))


def test_control_c_is_no_traceback():
    with pytest.raises(CommandError, match="Interrupted. You can run it again.") as ended:
        ends_with(KeyboardInterrupt())
    assert ended.value.returncode == 130


def test_control_c_before_the_command_is_loaded_is_no_traceback_either(tmp_path):
    (tmp_path / "interrupted.py").write_text("raise KeyboardInterrupt")
    environment = {"PYTHONPATH": str(tmp_path), "DJANGO_SETTINGS_MODULE": "interrupted"}
    command = [sys.executable, "manage.py", "prune"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "Interrupted. You can run it again.\n")


def ends_with(err):
    class Ends(OperatorCommand):
        def handle(self, **options):
            raise err

    call_command(Ends())


def test_a_pdf_that_has_no_room_is_a_sentence():
    sentence = "It could not be finished: No space left on device."
    assert run("export_order", make_paid_order().pk, "--pdf", "/dev/full") == (69, "", sentence)


def test_output_that_has_no_room_is_a_sentence(tmp_path):
    with Path("/dev/full").open("w") as full:
        done = at_the_shell(tmp_path, "generate_encryption_key", stdout=full)
    assert (done.returncode, done.stderr) == (69, "Unavailable: It could not be finished: No space left on device.\n")


def test_output_that_nobody_reads_is_a_sentence(tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    done = at_the_shell(tmp_path, "generate_encryption_key", stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (69, "Unavailable: It could not be finished: Broken pipe.\n")


def test_output_that_is_closed_is_a_sentence_before_anything_is_done(tmp_path):
    folder = tmp_path / "mails"
    done = at_the_shell(tmp_path, "preview_emails", str(folder), begins=("sh", "-c", 'exec "$@" >&-', "sh"))
    assert (done.returncode, done.stderr) == (69, f"Unavailable: {NO_OUTPUT}\n")
    assert not folder.exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("preview_emails", __file__), f"{__file__} cannot be used: File exists."),
        (("export_order", "--verify", "/nowhere"), "/nowhere cannot be used: No such file or directory."),
        (("init_env", "--path", "/dev/null/.env", "--non-interactive"), "There is no folder /dev/null."),
        (("init_env", "--path", "/tmp", "--non-interactive"), "/tmp is a folder; name the file in it."),
    ],
)
def test_a_file_that_cannot_be_used_is_a_sentence(arguments, sentence):
    code, _, complaint = run(*arguments)
    assert (code in (64, 69), complaint) == (True, sentence)


def test_a_place_of_backups_that_does_not_answer_is_a_sentence(settings):
    settings.BACKUP_TARGET = "s3://backups"
    settings.R2_ENDPOINT, settings.R2_ACCESS_KEY_ID, settings.R2_SECRET_ACCESS_KEY = (
        "http://127.0.0.1:1",
        "id",
        "secret",
    )
    sentence = "It could not be finished: The bucket cannot be used: EndpointConnectionError."
    assert run("backup", "--list") == (69, "", sentence)
    assert run("restore", "latest", "--yes") == (69, "", sentence)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("replay_webhooks", "--id", 2**63), "--id: has to be a whole number from 1 to 9223372036854775807"),
        (("replay_webhooks", "--since", "0001-01-01T00:00+14:00"), "has to be a date or a time like 2026-03-01T12:00"),
        (("export_accounting", "--since", "2026-01-01", "--until", "9999-12-31"), "has to be a date like 2026-03-01"),
        (("rotate_keys", "--batch", 2**70), "--batch: has to be a whole number from 1 to 100000"),
        (("prune", "--batch", "x"), "--batch: has to be a whole number from 1 to 100000"),
        (("import_product", "--search", "Ember", "--page", 0), "--page: has to be a whole number from 1 to 1000000"),
        (("reconcile", "--since", "abc"), "--since: has to be more than 0 and at most 36500 days"),
        (("setup_bucket", "--nope"), "unrecognized arguments: --nope"),
        (("staff_device",), "the following arguments are required: name"),
        (("init_env", "--set", "STORE_NAME"), "--set STORE_NAME has no value: write STORE_NAME=VALUE."),
        (("create_api_key", "x", "--email", "nope"), "email: Enter a valid email address."),
        (("create_api_key", "x", "--email", "a@b.example", "--event", "order.paid"), "--event needs --webhook"),
        (("create_api_key", "x", "--email", "a@b.example", "--webhook", "ftp://x"), "--webhook: It has to begin"),
    ],
)  # fmt: skip
def test_a_wrong_value_exits_64_and_is_named(arguments, sentence):
    code, _, complaint = run(*arguments)
    assert code == 64
    assert sentence in complaint


def test_an_event_named_twice_is_kept_once():
    code, key = document("create_api_key", "x", "--email", "a@b.example", "--webhook", "https://b.example/",
                         "--event", "order.paid", "--event", "order.paid")  # fmt: skip
    assert (code, key["webhook"]["events"]) == (0, ["order.paid"])


def test_a_pack_nested_without_end_is_a_sentence(tmp_path):
    (tmp_path / "pack.json").write_text("[" * 200_000)
    assert run("export_order", "--verify", tmp_path / "pack.json") == (1, "", "The file is not JSON.")
