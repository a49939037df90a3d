"""Nothing moves a status but the transition methods of the models: read from the product's own source."""

import ast
from pathlib import Path

import pytest
from django.conf import settings

from bitloot.core.choices import StatusChoices
from bitloot.partners.models import OutgoingWebhook
from fulfillment.choices import GateStatus, ReservationStatus
from orders.choices import OrderStatus
from orders.models import Alert, Email, Order
from payments.choices import PaymentStatus, RefundStatus
from storage.models import Key, KeyDeliveryLog
from webhooks.models import ReplayRun, Verdict, WebhookLog

PRODUCT = ("bitloot", "orders", "payments", "fulfillment", "storage", "webhooks")
# What changes rows that are there already; `create` and the like only give a row its first status.
WRITES = {"update", "update_returning", "update_or_create", "release", "retry", "bulk_update", "setattr"}


def product_files():
    root = Path(settings.BASE_DIR)
    paths = [path for app in PRODUCT for path in (root / app).rglob("*.py")]
    return [path for path in paths if not {"tests", "migrations"} & set(path.parts)]


def is_transition_code(path):
    return is_model_code(path) or path.parts[-2:] == ("orders", "state.py")


def is_model_code(path):
    return path.name == "models.py" or path.parent.name == "models"


def status_writes(source):
    """Return the lines that write a status of a row that exists."""
    return sorted({node.lineno for node in _nodes(source) if _assigns(node) or _passes(node)})


def _nodes(source):
    """Walk all nodes but those of constructors: an exception that keeps an HTTP status is no row."""
    waiting = [ast.parse(source)]
    while waiting:
        node = waiting.pop()
        yield node
        children = ast.iter_child_nodes(node)
        waiting += [child for child in children if getattr(child, "name", "") != "__init__"]


def _assigns(node):
    if isinstance(node, ast.Assign):
        targets = [part for target in node.targets for part in ast.walk(target)]
    elif isinstance(node, ast.AnnAssign | ast.AugAssign):
        targets = [node.target]
    else:
        return False
    return any(isinstance(target, ast.Attribute) and target.attr == "status" for target in targets)


def _passes(node):
    if not isinstance(node, ast.Call):
        return False
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if name not in WRITES:
        return False
    # queries.update(Model, where, values): only the values are written. update(**{...}) and defaults= are, too.
    written = [*node.args[2:], *(keyword.value for keyword in node.keywords if keyword.arg in (None, "defaults"))]
    named = any(keyword.arg == "status" for keyword in node.keywords)
    named |= name == "setattr" and any(isinstance(arg, ast.Constant) and arg.value == "status" for arg in node.args)
    named |= name == "bulk_update" and any(_names_status(arg) for arg in node.args)
    return named or any(_names_status(value) for value in written)


def _names_status(value):
    if isinstance(value, ast.Dict):
        return any(isinstance(key, ast.Constant) and key.value == "status" for key in value.keys)
    if isinstance(value, ast.List | ast.Tuple):
        return any(isinstance(part, ast.Constant) and part.value == "status" for part in value.elts)
    return False


def test_no_code_but_the_transitions_writes_a_status():
    root = Path(settings.BASE_DIR)
    found = {str(path.relative_to(root)): status_writes(path.read_text()) for path in product_files()}
    assert len(found) > 100
    assert {path: lines for path, lines in found.items() if lines and not is_transition_code(root / path)} == {}


def test_the_models_own_transitions_are_single_statements():
    """Only `StatusRow.move` may set the attribute: it has just written the same to the row."""
    models = [path for path in product_files() if is_model_code(path)]
    assert len(models) == 15
    assert [path for path in models for node in _nodes(path.read_text()) if _assigns(node)] == []


@pytest.mark.parametrize(
    "line",
    [
        "order.status = 'paid'",
        "order.status, x = 'paid', 1",
        "Order.objects.filter(pk=1).update(status='paid')",
        "mail.release(None, status='sent')",
        "mail.retry(status='queued')",
        "Gate.objects.update_or_create(pk=1, defaults={'status': 'open'})",
        "queries.update(Order, {'pk': 1}, {'status': 'paid'})",
        "queries.update_returning(Order, {'pk': 1}, {'status': 'paid'}, names=['paid_at'])",
        "rows.update(**{'status': 'paid'})",
        "setattr(order, 'status', 'paid')",
        "Order.objects.bulk_update(orders, ['status'])",
    ],
)
def test_each_way_to_write_a_status_is_seen(line):
    assert status_writes(line) == [1]


@pytest.mark.parametrize(
    "line",
    [
        "order.move('paid', message='m')",
        "Order.objects.filter(status='paid').update(reason='')",
        "queries.update(Alert, {'status': 'open'}, {'closed_by': 'ada'})",
        "Order.objects.create(status='pending')",
        "answer = {'status': order.status}",
    ],
)
def test_what_only_reads_a_status_is_not(line):
    assert status_writes(line) == []


STATUSES = [
    OrderStatus, PaymentStatus, RefundStatus, ReservationStatus, GateStatus, Key.Status, KeyDeliveryLog.Status,
    WebhookLog.Status, ReplayRun.Status, Verdict, Email.Status, Alert.Status, OutgoingWebhook.Status,
]  # fmt: skip


@pytest.mark.parametrize("choices", STATUSES, ids=lambda choices: choices.__qualname__)
def test_each_status_knows_its_tone(choices):
    assert issubclass(choices, StatusChoices)
    assert {member.tone.value for member in choices} <= {"good", "busy", "look", "bad", "calm"}


def test_a_tone_stays_with_its_status():
    assert [Order.Status("held").tone.value, Alert.Status("open").tone.value] == ["look", "bad"]
    assert Order.Status.choices[0] == ("pending", "Pending")
