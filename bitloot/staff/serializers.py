from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from bitloot.core.decisions import Decision
from bitloot.staff.waits import WaitsFor
from orders.serializers import AddressField, OrderItemSerializer, StrictSerializer, TextField
from webhooks.models import WebhookLog
from webhooks.replays import progress

MAX_REPLAYS = 100
MAX_FIELDS = 100  # of a decision's form: an order has at most 90 units


class EventSerializer(serializers.Serializer):
    at = serializers.DateTimeField()
    kind = serializers.CharField()
    from_status = serializers.CharField()
    to_status = serializers.CharField()
    message = serializers.CharField()
    actor = serializers.CharField()


class MoneyField(serializers.DecimalField):
    def __init__(self, **options: Any) -> None:
        super().__init__(max_digits=10, decimal_places=2, **options)


class CoinsField(serializers.DecimalField):
    def __init__(self, **options: Any) -> None:
        super().__init__(max_digits=40, decimal_places=18, **options)


# --- what may be decided ---


class FormFieldSerializer(serializers.Serializer):
    name = serializers.CharField()
    text = serializers.CharField(source="label", help_text="As the admin's form asks for it.")
    is_required = serializers.BooleanField()
    choices = serializers.ListField(child=serializers.CharField(), help_text="Empty if any text is taken.")


class PossibleDecisionSerializer(serializers.Serializer):
    name = serializers.CharField(help_text="Its part of the address.")
    text = serializers.CharField(source="label")
    consequence = serializers.CharField()
    objection = serializers.CharField(allow_null=True, help_text="Why it is not possible now; null if it is.")
    form = FormFieldSerializer(many=True)


class DecidableSerializer(serializers.Serializer):
    """What every row has about which staff may decide; needs the row's `page` and the `request` as context."""

    seen = serializers.SerializerMethodField(help_text="Send it with a decision: it stands for what you saw.")
    decisions = serializers.SerializerMethodField(help_text="All that your permissions cover.")

    def get_seen(self, row: Any) -> str:
        return str(self.context["page"].seen(row))

    @extend_schema_field(PossibleDecisionSerializer(many=True))
    def get_decisions(self, row: Any) -> Any:
        page, request = self.context["page"], self.context["request"]
        found = [self._possible(row, decision) for decision in page.open_to(request)]
        return PossibleDecisionSerializer(found, many=True).data

    def _possible(self, row: Any, decision: Decision[Any]) -> dict[str, Any]:
        page, request = self.context["page"], self.context["request"]
        form = page.form_for(row, decision)
        asked = form().fields.items() if form is not None else ()
        return {
            "name": decision.name,
            "label": decision.label,
            "consequence": decision.consequence,
            "objection": page.objection(request, row, decision),
            "form": [_field(name, field) for name, field in asked if not field.widget.is_hidden],
        }


def _field(name: str, field: Any) -> dict[str, Any]:
    label = field.label or name.replace("_", " ").capitalize()
    choices = [str(value) for value, _ in getattr(field, "choices", ())]
    return {"name": name, "label": label, "is_required": field.required, "choices": choices}


class DecideSerializer(StrictSerializer):
    seen = TextField(max_length=100, help_text="From the row, as you read it. Refused if it has changed since.")
    form = serializers.DictField(
        child=TextField(allow_blank=True, trim_whitespace=False),
        required=False,
        default=dict,
        help_text="What the decision asks for, such as a reason; all as text.",
    )

    def validate_form(self, form: dict[str, str]) -> dict[str, str]:
        if len(form) > MAX_FIELDS:
            raise serializers.ValidationError("No decision asks for so much.")
        return form


class DecidedSerializer(serializers.Serializer):
    waits_for_approval = serializers.BooleanField(help_text="True if a second member of staff has to approve it.")
    detail = serializers.CharField(help_text="What happens next.")
    status = serializers.CharField(help_text="Of the row, now.")


# --- orders ---


class WaitsSerializer(serializers.Serializer):
    what = serializers.ChoiceField(choices=WaitsFor.choices)
    sentence = serializers.CharField()
    until = serializers.DateTimeField(allow_null=True, help_text="When something happens without anybody deciding.")


class OrderRowSerializer(serializers.Serializer):
    id = serializers.UUIDField()
    status = serializers.CharField()
    reason = serializers.CharField()
    waits_for = serializers.SerializerMethodField(help_text="null if nothing more has to happen.")
    email = AddressField()
    total = MoneyField()
    currency = serializers.CharField()
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()
    paid_at = serializers.DateTimeField(allow_null=True)
    fulfilled_at = serializers.DateTimeField(allow_null=True)

    @extend_schema_field(WaitsSerializer(allow_null=True))
    def get_waits_for(self, order: Any) -> Any:
        waits = self.context["waits"][order.pk]
        return None if waits is None else WaitsSerializer(waits).data


class OrderDetailSerializer(OrderRowSerializer, DecidableSerializer):
    items = OrderItemSerializer(many=True)
    audit = EventSerializer(many=True, source="events")


# --- money ---


class PaymentRowSerializer(serializers.Serializer):
    id = serializers.UUIDField()
    order = serializers.UUIDField(source="order_id")
    payment_id = serializers.CharField(source="external_id", allow_null=True)
    status = serializers.CharField()
    reason = serializers.CharField()
    price_amount = MoneyField()
    price_currency = serializers.CharField()
    pay_amount = CoinsField(allow_null=True)
    pay_currency = serializers.CharField()
    actually_paid = CoinsField()
    created_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)


class WebhookRowSerializer(serializers.Serializer):
    id = serializers.IntegerField()
    provider = serializers.CharField()
    external_id = serializers.CharField()
    event_type = serializers.CharField()
    status = serializers.CharField()
    outcome = serializers.CharField()
    repeats = serializers.IntegerField()
    replays = serializers.IntegerField()
    attempts = serializers.IntegerField()
    received_at = serializers.DateTimeField()
    processed_at = serializers.DateTimeField(allow_null=True)


class PaymentDetailSerializer(PaymentRowSerializer, DecidableSerializer):
    provider_status = serializers.CharField()
    evidence = serializers.JSONField()
    audit = EventSerializer(many=True, source="order.events")
    webhooks = serializers.SerializerMethodField(
        help_text="What the provider sent about it, newest first; null without the permission to view webhooks."
    )

    @extend_schema_field(WebhookRowSerializer(many=True, allow_null=True))
    def get_webhooks(self, payment: Any) -> Any:
        rows = self.context["webhooks"]
        return None if rows is None else WebhookRowSerializer(rows, many=True).data


class RefundRowSerializer(serializers.Serializer):
    id = serializers.UUIDField()
    order = serializers.UUIDField(source="order_id")
    payment = serializers.UUIDField(source="payment_id", allow_null=True)
    kind = serializers.CharField()
    status = serializers.CharField()
    reason = serializers.CharField()
    amount = CoinsField()
    currency = serializers.CharField()
    worth = MoneyField()
    address = serializers.CharField(help_text="The newest that the customer gave, or nothing.")
    extra_id = serializers.CharField()
    transaction_id = serializers.CharField()
    created_at = serializers.DateTimeField()
    sent_at = serializers.DateTimeField(allow_null=True)
    done_at = serializers.DateTimeField(allow_null=True)


class RefundAddressSerializer(serializers.Serializer):
    address = serializers.CharField()
    extra_id = serializers.CharField()
    given_at = serializers.DateTimeField()
    rests_until = serializers.DateTimeField(allow_null=True)
    link_kind = serializers.CharField()
    client = serializers.CharField()


class RefundDetailSerializer(RefundRowSerializer, DecidableSerializer):
    addresses = RefundAddressSerializer(many=True, help_text="All that the customer gave, oldest first.")


# --- delivery ---


class ReservationRowSerializer(serializers.Serializer):
    id = serializers.UUIDField()
    order = serializers.UUIDField(source="item.order_id")
    item = OrderItemSerializer()
    reservation_id = serializers.CharField(source="supplier_order_id", allow_null=True)
    external_id = serializers.CharField()
    dialect = serializers.CharField()
    status = serializers.CharField()
    reason = serializers.CharField()
    last_error = serializers.CharField()
    attempts = serializers.IntegerField()
    cost = MoneyField(allow_null=True)
    created_at = serializers.DateTimeField()
    delivered_at = serializers.DateTimeField(allow_null=True)


class ReservationDetailSerializer(ReservationRowSerializer, DecidableSerializer):
    pass


class KeyRowSerializer(serializers.Serializer):
    """Never the key, nor what is sealed or opens it."""

    id = serializers.UUIDField()
    order = serializers.UUIDField(source="item.order_id")
    item = serializers.UUIDField(source="item_id")
    replaces = serializers.UUIDField(source="replaces_id", allow_null=True)
    status = serializers.CharField()
    content_type = serializers.CharField()
    error = serializers.CharField()
    received_at = serializers.DateTimeField()
    stored_at = serializers.DateTimeField(allow_null=True)
    viewed_at = serializers.DateTimeField(allow_null=True)
    shredded_at = serializers.DateTimeField(allow_null=True)


class KeyObjectSerializer(serializers.Serializer):
    name = serializers.CharField(source="object_name")
    sha256 = serializers.CharField(source="ciphertext_sha256", help_text="Of the ciphertext.")
    environment = serializers.CharField()
    format_version = serializers.IntegerField()
    master_key = serializers.CharField(source="master_key_id", help_text="The id of the secret that seals it.")


class DeliverySerializer(serializers.Serializer):
    status = serializers.CharField()
    customer_email = AddressField()
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()
    times_accessed = serializers.IntegerField()
    last_accessed_at = serializers.DateTimeField(allow_null=True)
    opened_at = serializers.DateTimeField(allow_null=True)
    trouble_at = serializers.DateTimeField(allow_null=True)


class KeyAccessSerializer(serializers.Serializer):
    at = serializers.DateTimeField()
    token = serializers.CharField(help_text="Which kind of link opened it: api or mail.")
    generation = serializers.IntegerField()
    network = serializers.CharField()
    agent = serializers.CharField()


class DeliveredKeySerializer(KeyRowSerializer):
    object = KeyObjectSerializer(source="*")
    delivery = DeliverySerializer(allow_null=True)
    accesses = KeyAccessSerializer(many=True)


class KeyDetailSerializer(DeliveredKeySerializer, DecidableSerializer):
    pass


class OrderFulfillmentSerializer(serializers.Serializer):
    order_id = serializers.UUIDField()
    status = serializers.CharField()
    error = serializers.CharField(allow_null=True)
    reservations = ReservationRowSerializer(many=True)
    keys = DeliveredKeySerializer(
        many=True, allow_null=True, help_text="With object, delivery and openings; null without the permission."
    )
    audit = EventSerializer(many=True)


# --- what staff look after ---


class AttemptSerializer(serializers.Serializer):
    at = serializers.DateTimeField()
    verdict = serializers.CharField()
    text = serializers.CharField(help_text="The outcome, or the error.")
    replayed_by = serializers.CharField(source="replay.actor", default="", help_text="Nothing if it was no replay.")


class WebhookDetailSerializer(WebhookRowSerializer, DecidableSerializer):
    headers = serializers.JSONField()
    tries = AttemptSerializer(many=True, source="newest_tries", help_text="Each run of its handler, newest first.")


class WebhookFilterSerializer(StrictSerializer):
    """Which webhooks are meant; nothing means all of them."""

    ids = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=2**63 - 1), required=False, max_length=1000
    )
    status = serializers.ChoiceField(WebhookLog.Status.choices, required=False)
    provider = serializers.ChoiceField(WebhookLog.Provider.choices, required=False)
    event_type = TextField(max_length=64, required=False)
    external_id = TextField(max_length=64, required=False)
    since = serializers.DateTimeField(required=False)
    until = serializers.DateTimeField(required=False)
    search = TextField(max_length=200, required=False, help_text="An order, an address, any id.")


class StartReplaySerializer(StrictSerializer):
    id = serializers.UUIDField(required=False, help_text="Yours for the run: the same request twice is one run.")
    filter = WebhookFilterSerializer()
    dry_run = serializers.BooleanField(default=True, help_text="Only say what would change.")


class ReplayRunRowSerializer(serializers.Serializer):
    id = serializers.UUIDField()
    dry_run = serializers.BooleanField(source="is_dry")
    filter = serializers.JSONField(source="wanted")
    actor = serializers.CharField()
    status = serializers.CharField()
    note = serializers.CharField()
    total = serializers.IntegerField(help_text="How many matched when it began.")
    created_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)


class ReplaySerializer(serializers.Serializer):
    webhook = serializers.IntegerField(source="log_id")
    at = serializers.DateTimeField()
    verdict = serializers.CharField()
    text = serializers.CharField(help_text="What happened; of a dry run: what would change.")


class ReplayRunDetailSerializer(ReplayRunRowSerializer, DecidableSerializer):
    verdicts = serializers.SerializerMethodField(help_text="How many webhooks came to each verdict.")
    webhooks = serializers.SerializerMethodField(help_text="The newest 100.")

    @extend_schema_field(serializers.DictField(child=serializers.IntegerField()))
    def get_verdicts(self, run: Any) -> Any:
        return progress(run)

    @extend_schema_field(ReplaySerializer(many=True))
    def get_webhooks(self, run: Any) -> Any:
        return ReplaySerializer(run.replays.order_by("-pk")[:MAX_REPLAYS], many=True).data


class AlertRowSerializer(serializers.Serializer):
    id = serializers.IntegerField()
    kind = serializers.CharField()
    status = serializers.CharField()
    order = serializers.UUIDField(source="order_id", allow_null=True)
    about_model = serializers.CharField(help_text="As in payments.payment; nothing if it is about no row.")
    about_id = serializers.CharField(source="about_pk")
    message = serializers.CharField()
    times = serializers.IntegerField()
    opened_at = serializers.DateTimeField()
    last_at = serializers.DateTimeField()
    closed_at = serializers.DateTimeField(allow_null=True)
    closed_by = serializers.CharField()


class AlertDetailSerializer(AlertRowSerializer, DecidableSerializer):
    pass


class ApprovalRowSerializer(serializers.Serializer):
    id = serializers.UUIDField()
    order = serializers.UUIDField(source="order_id")
    status = serializers.CharField()
    decision = serializers.CharField()
    text = serializers.CharField(source="label")
    about_model = serializers.CharField()
    about_id = serializers.CharField(source="about_pk")
    form = serializers.JSONField(source="fields", help_text="What was typed into the decision's form.")
    requested_by = serializers.CharField(source="requested_by.username")
    requested_at = serializers.DateTimeField()
    approved_by = serializers.CharField(source="approved_by.username", allow_null=True, default=None)
    approved_at = serializers.DateTimeField(allow_null=True)


class ApprovalDetailSerializer(ApprovalRowSerializer, DecidableSerializer):
    pass


class MailRowSerializer(serializers.Serializer):
    id = serializers.IntegerField()
    order = serializers.UUIDField(source="order_id", allow_null=True)
    kind = serializers.CharField()
    to = AddressField()
    status = serializers.CharField()
    reason = serializers.CharField()
    error = serializers.CharField()
    attempts = serializers.IntegerField()
    created_at = serializers.DateTimeField()
    sent_at = serializers.DateTimeField(allow_null=True)


class MailDetailSerializer(MailRowSerializer, DecidableSerializer):
    pass


# --- signing in ---


class LoginSerializer(StrictSerializer):
    name = TextField(max_length=150)
    password = TextField(max_length=256, trim_whitespace=False)
    code = TextField(max_length=20, required=False, help_text="From the authenticator, or a recovery code.")


class StaffTokenSerializer(serializers.Serializer):
    token = serializers.CharField(help_text="Send it as “Authorization: Token …”.")
    expires_at = serializers.DateTimeField()
