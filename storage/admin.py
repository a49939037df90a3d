from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.db.models import BooleanField, ExpressionWrapper, Q, QuerySet
from django.http import HttpRequest

from bitloot.core.admin.base import OneOf, ReadOnlyAdmin
from bitloot.core.admin.formatting import NOTHING, age_of, link, link_to, list_link
from orders.admin import OrderAdmin, SecondedAdmin
from orders.models import Order
from storage.models import Key, KeyAccess, KeyDeliveryLog

# What opens a key never leaves the database for a staff page.
SEALED = ("ciphertext", "nonce", "wrapped_data_key")


@admin.register(Key)
class KeyAdmin(SecondedAdmin):
    """The key as this app knows it; fulfillment.admin adds what staff may decide about it."""

    is_live = True
    list_display = (
        "reference",
        "state",
        "order_link",
        "item_link",
        "content_type",
        "received",
        "stored",
        "viewed",
        "error",
    )
    list_filter = ("status", "received_at")
    search_fields = ("object_name", "supplier_key_id", "item__order__email__iexact")
    search_ids = ("id", "item_id", "item__order_id", "request_id")
    linked_by = ("item", "item__order", "master_key_id")
    ordering = ("-received_at", "id")
    list_select_related = ("item__order",)
    fieldsets = (
        (
            None,
            {
                "fields": (
                    "id",
                    "state",
                    "order_link",
                    "item_link",
                    "delivery_link",
                    "content_type",
                    "supplier_key_id",
                    ("replaces_link", "replaced_by_link"),
                )
            },
        ),
        (
            "Sealed",
            {
                "fields": (
                    "object_name",
                    "copy_here",
                    "ciphertext_sha256",
                    "master_key_id",
                    "environment",
                    "format_version",
                ),
                "description": "The key, its ciphertext and what opens it are shown nowhere.",
            },
        ),
        ("Times", {"fields": (("received", "stored"), ("viewed", "shredded"))}),
        ("Queue", {"fields": (("due", "attempts"), "error")}),
    )
    item_link = link_to("item", "item")
    received = age_of("received_at", "received")
    stored = age_of("stored_at", "stored")
    viewed = age_of("viewed_at", "first viewed")
    shredded = age_of("shredded_at", "shredded")
    due = age_of("next_attempt_at", "next try")

    def orders_of(self, rows: Sequence[Key]) -> list[Order | None]:
        return [key.item.order for key in rows]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Key]:
        held = ExpressionWrapper(Q(ciphertext__isnull=False), output_field=BooleanField())
        return super().get_queryset(request).defer(*SEALED).annotate(is_held_here=held)

    @admin.display(description="key", ordering="id")
    def reference(self, key: Key) -> str:
        return str(key.pk)[:8]

    @admin.display(description="order")
    def order_link(self, key: Key) -> str:
        return link(key.item.order)

    @admin.display(description="delivery log")
    def delivery_link(self, key: Key) -> str:
        return link(KeyDeliveryLog.objects.filter(key=key).first())

    @admin.display(description="replaces")
    def replaces_link(self, key: Key) -> str:
        return link(Key(pk=key.replaces_id)) if key.replaces_id else NOTHING

    @admin.display(description="replaced by")
    def replaced_by_link(self, key: Key) -> str:
        newer = Key.objects.filter(replaces=key.pk).values_list("pk", flat=True).first()
        return link(Key(pk=newer)) if newer else NOTHING

    @admin.display(description="ciphertext in our database", boolean=True)
    def copy_here(self, key: Any) -> bool:
        return bool(key.is_held_here)


@admin.register(KeyDeliveryLog)
class KeyDeliveryLogAdmin(ReadOnlyAdmin):
    in_finder = False
    list_display = (
        "reference",
        "state",
        "order_link",
        "key_link",
        "customer_email",
        "times_accessed",
        "accessed",
        "expires",
    )
    list_filter = ("status", "created_at", "expires_at")
    search_fields = ("key__object_name", "customer_email__iexact")
    search_ids = ("key_id", "order_id")
    linked_by = ("order", "key")
    list_select_related = ("order",)
    fieldsets = (
        (None, {"fields": ("state", "order_link", "key_link", "customer_email", "object_key")}),
        ("Times", {"fields": ("created", "expires", ("accessed", "times_accessed"), ("opened", "trouble"))}),
    )
    order_link = link_to("order", "order")
    created = age_of("created_at", "stored")
    accessed = age_of("last_accessed_at", "last handed out")
    opened = age_of("opened_at", "first opened")
    trouble = age_of("trouble_at", "last trouble")
    expires = age_of("expires_at", "retention ends")

    @admin.display(description="delivery", ordering="object_key")
    def reference(self, delivery: KeyDeliveryLog) -> str:
        return f"{delivery.object_key[:12]}…" if delivery.object_key else NOTHING

    @admin.display(description="key")
    def key_link(self, delivery: KeyDeliveryLog) -> str:
        return link(Key(pk=delivery.key_id))  # by its id alone: the row holds what is sealed


class TokenFilter(OneOf):
    title = parameter_name = "token"
    words = ("mail", "api", "key")


@admin.register(KeyAccess)
class KeyAccessAdmin(ReadOnlyAdmin):
    in_finder = False
    list_display = ("__str__", "opened", "order_link", "token", "generation", "network", "agent")
    list_filter = ("at", TokenFilter)
    search_fields = ("network",)
    search_ids = ("key_id", "order_id")
    linked_by = ("order", "key")
    list_select_related = ("order",)
    fieldsets = ((None, {"fields": ("opened", "order_link", "token", "generation", "network", "agent")}),)
    order_link = link_to("order", "order")
    opened = age_of("at", "opened")


@admin.display(description="keys")
def keys(order: Order) -> str:
    return list_link("storage.key", "keys of its items", item__order=order.pk)


OrderAdmin.extend(fieldsets=[("Elsewhere", {"fields": (keys,)})], of=Key)
