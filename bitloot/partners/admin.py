from dataclasses import dataclass
from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.models import ADDITION, CHANGE, LogEntry
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html

from bitloot.core.admin.base import OneOf
from bitloot.core.admin.decisions import DecisionAdmin
from bitloot.core.admin.formatting import NOTHING, age_of, badge, link, link_to, list_link, short
from bitloot.core.choices import Tone
from bitloot.core.decisions import DecisionRefused
from bitloot.partners import services
from bitloot.partners.events import TEST, Event
from bitloot.partners.forms import KeyForm, RenewForm
from bitloot.partners.models import ApiKey, Endpoint, OutgoingWebhook
from orders.admin import OrderAdmin
from orders.models import Order

NOT_AGAIN = "It is shown only now."
IF_NOBODY_KEPT_IT = "If nobody kept it, press “New secret”."


@dataclass(frozen=True)
class Tool:
    """The button that leads to a secret; one that does not ask first posts at once."""

    label: str
    view: str
    permission: str
    asks: bool


class SecretAdmin(DecisionAdmin):
    """A page with a secret that staff are shown on a page of its own, which nothing keeps."""

    change_form_template = "admin/partners/change_form.html"
    tool: Tool

    def offers_tool(self, row: Any) -> bool:
        return True

    def may(self, request: HttpRequest, permission: str, object_id: str) -> Any:
        """Return the row. Raises PermissionDenied or Http404."""
        if not (self.has_view_permission(request) and request.user.has_perm(permission)):
            raise PermissionDenied
        if (row := self.get_object(request, unquote(object_id))) is None:
            raise Http404
        return row

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        row = self.get_object(request, unquote(object_id))
        shown: dict[str, Any] = {}
        if row is not None and self.offers_tool(row) and request.user.has_perm(self.tool.permission):
            shown = {"tool": self.tool, "tool_url": reverse(self.view_name(self.tool.view), args=[row.pk])}
        return super().change_view(request, object_id, form_url, {**shown, **(extra_context or {})})

    def note(self, request: HttpRequest, row: Any, flag: int, words: str) -> None:
        LogEntry.objects.log_actions(cast(int, request.user.pk), [row], flag, words)

    def show_secret(self, request: HttpRequest, row: Any, secret: str, title: str, said: str = "") -> HttpResponse:
        return self._page(request, "admin/partners/secret.html", title, row=row, secret=secret, said=said)

    def ask(self, request: HttpRequest, title: str, form: forms.Form | forms.ModelForm, said: str) -> HttpResponse:
        return self._page(request, "admin/partners/form.html", title, form=form, said=said)

    def _page(self, request: HttpRequest, template: str, title: str, **more: Any) -> HttpResponse:
        own = {"title": title, "opts": self.opts, "list_name": self.title}
        context = {**self.admin_site.each_context(request), **own, **more}
        return TemplateResponse(request, template, context)


@admin.register(ApiKey)
class ApiKeyAdmin(SecretAdmin):
    tool = Tool("New secret", "renew", "partners.renew_apikey", asks=True)
    decisions = (services.ADD_ENDPOINT, services.CHANGE_LIMITS, services.END_KEY)
    list_display = ("name", "start", "life", "scope_names", "last_used", "expires", "created")
    list_filter = ("created_at", "last_used_at")
    search_fields = ("name__icontains", "email__icontains", "prefix")
    search_ids = ("id",)
    fieldsets = (
        (None, {"fields": ("id", "name", "email", ("start", "life"), "scope_names", "orders", "endpoints")}),
        ("Limits", {"fields": (("requests_per_minute", "unpaid_per_hour"),)}),
        ("Times", {"fields": (("created", "last_used"), ("expires", "ended"), "earlier_secret")}),
    )
    created = age_of("created_at", "made")
    last_used = age_of("last_used_at", "last used")
    expires = age_of("expires_at", "expires")
    ended = age_of("ended_at", "ended")
    earlier_secret = age_of("earlier_until", "the earlier secret works until")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("partners.add_apikey")

    def get_urls(self) -> list[URLPattern]:
        view, name = self.admin_site.admin_view(self.renew_view), self.view_name("renew").partition(":")[2]
        return [path("<path:object_id>/renew/", view, name=name), *super().get_urls()]

    def offers_tool(self, row: ApiKey) -> bool:
        return row.ended_at is None

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = KeyForm(request.POST if request.method == "POST" else None)
        if not form.is_valid():
            return self.ask(request, "New API key", form, "Its text is shown once, on the next page.")
        pk = form.cleaned_data.pop("made_as")
        if known := ApiKey.objects.filter(pk=pk).first():
            self.message_user(request, f"{known}: it is made already, and its text was shown once. {IF_NOBODY_KEPT_IT}")
            return HttpResponseRedirect(reverse(self.view_name("change"), args=[known.pk]))
        with transaction.atomic():
            key, text = services.create_key(pk=pk, **form.cleaned_data)
            self.note(request, key, ADDITION, f"Made with {', '.join(key.scopes)}.")
        return self.show_secret(request, key, str(text), "The new API key", NOT_AGAIN)

    def renew_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        key = self.may(request, "partners.renew_apikey", object_id)
        form = RenewForm(request.POST if request.method == "POST" else None, initial={"seen": self.seen(key)})
        if not form.is_valid():
            said = "Its orders, endpoints and limits stay. The new text is shown once, on the next page."
            return self.ask(request, f"A new secret for {key}", form, said)
        try:
            with transaction.atomic():
                # A form that is sent twice would end the secret that it promised to keep for a while.
                ApiKey.objects.select_for_update().get(pk=key.pk)
                self._demand_unchanged(key, form.cleaned_data["seen"])
                text = services.renew_key(key, overlap=form.overlap)
                self.note(request, key, CHANGE, f"New secret. The earlier one works for {form.overlap}.")
        except DecisionRefused as err:
            self.message_user(request, f"{key}: {err}", messages.ERROR)
            return HttpResponseRedirect(reverse(self.view_name("change"), args=[key.pk]))
        return self.show_secret(request, key, str(text), "The API key with its new secret", NOT_AGAIN)

    @admin.display(description="begins with", ordering="prefix")
    def start(self, key: ApiKey) -> str:
        return format_html("<code>blk_{}…</code>", key.prefix)

    @admin.display(description="state")
    def life(self, key: ApiKey) -> str:
        if key.is_live:
            return badge("live", Tone.GOOD)
        return badge("expired" if key.ended_at is None else "ended", Tone.CALM)

    @admin.display(description="scopes")
    def scope_names(self, key: ApiKey) -> str:
        return ", ".join(key.scopes)

    @admin.display(description="orders")
    def orders(self, key: ApiKey) -> str:
        return list_link("orders.order", "orders placed with it", placed_with=key.pk)

    @admin.display(description="webhook endpoints")
    def endpoints(self, key: ApiKey) -> str:
        return list_link("partners.endpoint", "its endpoints", api_key=key.pk)


@admin.register(Endpoint)
class EndpointAdmin(SecretAdmin):
    tool = Tool("Show the secret", "secret", "partners.read_endpoint_secret", asks=False)
    is_live = True
    decisions = (
        services.SEND_TEST,
        services.SWITCH_ON,
        services.SWITCH_OFF,
        services.CHANGE_ENDPOINT,
        services.RENEW_SECRET,
    )
    list_display = ("host", "key_link", "switch", "delivered", "failing", "event_names")
    list_filter = ("is_enabled", "created_at")
    search_fields = ("url__icontains",)
    search_ids = ("id", "api_key_id")
    linked_by = ("api_key",)
    list_select_related = ("api_key",)
    fieldsets = (
        (None, {"fields": ("id", "key_link", "url", ("switch", "off_reason"), "event_names", "webhooks")}),
        ("Times", {"fields": (("created", "delivered"), ("failing", "paused"), ("generation", "renewed"))}),
    )
    key_link = link_to("api_key", "API key")
    created = age_of("created_at", "made")
    delivered = age_of("delivered_at", "last delivered")
    failing = age_of("failing_since", "failing since")
    paused = age_of("paused_until", "rests until")
    renewed = age_of("renewed_at", "secret renewed")

    def get_urls(self) -> list[URLPattern]:
        view, name = self.admin_site.admin_view(self.secret_view), self.view_name("secret").partition(":")[2]
        return [path("<path:object_id>/secret/", view, name=name), *super().get_urls()]

    def secret_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        endpoint = self.may(request, "partners.read_endpoint_secret", object_id)
        if request.method != "POST":  # what is kept in the log is not done by following a link
            return HttpResponseNotAllowed(["POST"])
        self.note(request, endpoint, CHANGE, "Read its secret.")
        return self.show_secret(request, endpoint, services.secret_of(endpoint), "The secret of a webhook endpoint")

    @admin.display(description="state", ordering="is_enabled")
    def switch(self, endpoint: Endpoint) -> str:
        if not endpoint.is_enabled:
            return badge("off", Tone.BAD)
        return badge("failing", Tone.LOOK) if endpoint.failing_since else badge("on", Tone.GOOD)

    @admin.display(description="events")
    def event_names(self, endpoint: Endpoint) -> str:
        return ", ".join(name.removeprefix("order.") for name in endpoint.events)

    @admin.display(description="webhooks")
    def webhooks(self, endpoint: Endpoint) -> str:
        return list_link("partners.outgoingwebhook", "what was sent there", endpoint=endpoint.pk)


class EventFilter(OneOf):
    title = parameter_name = "event"
    words = (*Event, TEST)


@admin.register(OutgoingWebhook)
class OutgoingWebhookAdmin(DecisionAdmin):
    is_live = counts_statuses = True
    decisions = (services.REDELIVER,)
    list_display = ("name", "state", "answer", "order_link", "host", "created", "sent", "attempts", "due")
    list_filter = ("status", EventFilter, "created_at")
    search_ids = ("id", "order_id", "endpoint_id")
    linked_by = ("endpoint", "order")
    list_select_related = ("order", "endpoint__api_key")
    fieldsets = (
        (None, {"fields": ("message", "event", "state", "endpoint_link", "order_link")}),
        ("Last answer", {"fields": ("response_status", "response", "error")}),
        ("Body", {"fields": ("sent_body",)}),
        ("Times", {"fields": (("created", "sent"), ("due", "attempts", "crashes"))}),
    )
    order_link = link_to("order", "order")
    endpoint_link = link_to("endpoint", "endpoint")
    created = age_of("created_at", "owed")
    sent = age_of("sent_at", "last try")
    due = age_of("next_attempt_at", "next try")

    @admin.display(description="event", ordering="event")
    def name(self, webhook: OutgoingWebhook) -> str:
        return webhook.event

    @admin.display(description="webhook-id")
    def message(self, webhook: OutgoingWebhook) -> str:
        return webhook.message_id

    @admin.display(description="answer")
    def answer(self, webhook: OutgoingWebhook) -> str:
        answered = f"{webhook.response_status or ''} {short(webhook.response[:60])}".strip()
        return webhook.error or answered or NOTHING

    @admin.display(description="to")
    def host(self, webhook: OutgoingWebhook) -> str:
        return webhook.endpoint.host

    @admin.display(description="body")
    def sent_body(self, webhook: OutgoingWebhook) -> str:
        return format_html("<pre>{}</pre>", webhook.body)


@admin.display(description="API key")
def placed_with(order: Order) -> str:
    """Link to the key that placed an order, from the order's page."""
    return link(ApiKey.objects.filter(pk=order.placed_with).first()) if order.placed_with else NOTHING


@admin.display(description="outgoing webhooks")
def outgoing(order: Order) -> str:
    if not order.placed_with:
        return NOTHING
    return list_link("partners.outgoingwebhook", "what its shop was told", order=order.pk)


OrderAdmin.extend(fieldsets=[("Elsewhere", {"fields": (placed_with,)})], of=ApiKey)
OrderAdmin.extend(fieldsets=[("Elsewhere", {"fields": (outgoing,)})], of=OutgoingWebhook)
