"""The groups that BitLoot ships; docs/staff.md has them as a table. Operators may change them, or make others."""

from typing import Any

from django.apps import apps as global_apps
from django.db.models import Q

BUSINESS = ("orders", "payments", "fulfillment", "storage", "webhooks", "accounting", "partners", "evidence")
# An auditor also sees who may do what, and who did what.
PEOPLE = (
    *("admin.view_logentry", "auth.view_group", "auth.view_user"),
    *("staff.view_signin", "staff.view_staffevent", "sessions.view_session"),
)
# What each may decide. All of them see the whole business.
GROUPS: dict[str, tuple[str, ...]] = {
    "support": (
        *("orders.hold_order", "orders.release_order", "orders.cancel_order", "orders.deliver_order"),
        *("orders.renew_link", "orders.correct_email", "orders.resend_email", "orders.close_alert"),
        *("fulfillment.run_delivery", "fulfillment.run_purchase", "fulfillment.search_purchase"),
        *("fulfillment.replace_by_hand", "payments.ask_for_rest", "payments.read_again", "webhooks.rehearse_webhook"),
        "orders.export_evidence",
    ),
    "finance": (
        *("orders.hold_order", "orders.release_order", "orders.cancel_order", "orders.refund_order"),
        *("orders.close_alert", "orders.approve_decision", "orders.decline_decision"),
        *("payments.accept_payment", "payments.ask_for_rest", "payments.end_payment", "payments.read_again"),
        *("payments.refund_payment", "payments.refund_surplus", "payments.refund_share"),
        *("payments.send_refund", "payments.send_elsewhere", "payments.finish_refund"),
        *("orders.export_evidence", "accounting.export_accounting"),
    ),
    "operations": (
        *("orders.hold_order", "orders.release_order", "orders.deliver_order", "orders.renew_link"),
        *("orders.correct_email", "orders.resend_email", "orders.close_alert"),
        *("orders.approve_decision", "orders.decline_decision", "orders.add_product", "orders.change_product"),
        *("fulfillment.import_product", "fulfillment.apply_pricerule", "fulfillment.add_pricerule"),
        *("fulfillment.change_pricerule", "fulfillment.delete_pricerule"),
        *("fulfillment.run_delivery", "fulfillment.run_purchase", "fulfillment.search_purchase"),
        *("fulfillment.resume_purchase", "fulfillment.replace_by_hand", "fulfillment.rebuy"),
        *("fulfillment.stop_gate", "fulfillment.open_gate", "storage.shred_key"),
        *("payments.read_again", "webhooks.replay_webhook", "webhooks.replay_webhooks", "webhooks.rehearse_webhook"),
        *("webhooks.stop_replays", "orders.export_evidence"),
        *("partners.end_apikey", "partners.change_apikey", "partners.add_endpoint", "partners.change_endpoint"),
        *("partners.switch_endpoint_off", "partners.switch_endpoint_on", "partners.renew_endpoint_secret"),
        *("partners.read_endpoint_secret", "partners.test_endpoint", "partners.redeliver_webhook"),
    ),
    "auditor": PEOPLE,
}


def ship(*, using: str, apps: Any = global_apps, **_: Any) -> None:
    """Make the groups that are missing, after a `migrate`; those that are there stay as the operator has them."""
    try:
        groups, permissions = apps.get_model("auth", "Group").objects, apps.get_model("auth", "Permission").objects
    except LookupError:
        return  # one app is migrated alone, before there are accounts
    named = {name: list(permissions.using(using).filter(_of(each))) for name, each in GROUPS.items()}
    if any(len(named[name]) < len(each) for name, each in GROUPS.items()):
        return  # not all apps are migrated yet: the last one makes them whole
    views = permissions.using(using).filter(content_type__app_label__in=BUSINESS, codename__startswith="view_")
    present = set(groups.using(using).values_list("name", flat=True))
    for name in set(GROUPS) - present:
        group = groups.using(using).create(name=name)
        links = group.permissions.through
        rows = [links(group=group, permission=permission) for permission in {*views, *named[name]}]
        links.objects.using(using).bulk_create(rows)


def _of(names: tuple[str, ...]) -> Q:
    found = Q(pk__in=[])
    for app, _, codename in (name.partition(".") for name in names):
        found |= Q(content_type__app_label=app, codename=codename)
    return found
