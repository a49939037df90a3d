import json
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import quote, unquote
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join

from bitloot.core.admin.base import OneOf, ReadOnlyAdmin, ReadOnlyInline
from bitloot.core.admin.decisions import DecisionAdmin
from bitloot.core.admin.formatting import NOTHING, age_of, badge, in_words, link, link_to, list_link, list_url, short
from bitloot.core.admin.panels import Waiting
from bitloot.core.decisions import DecisionRefused
from fulfillment.kinguin import EVENT_TYPES
from fulfillment.models import Reservation
from orders.admin import OrderAdmin
from orders.models import Order
from payments.models import Payment
from payments.nowpayments import STATUSES
from webhooks import replays
from webhooks.choosing import Chosen, UnknownFilter, found_by, names_beside, names_of
from webhooks.models import Replay, ReplayRun, Verdict, WebhookAttempt, WebhookLog
from webhooks.payload import differences, view_of, visible
from webhooks.replays import MAY_REHEARSE, MAY_REPLAY
from webhooks.services import BODY_FORGOTTEN, REPLAY


class EventTypeFilter(OneOf):
    title = "event type"
    parameter_name = "event_type"
    words = tuple(dict.fromkeys((*STATUSES, *EVENT_TYPES)))


@admin.display(description="verdict", ordering="verdict")
def verdict_of(_: Any, row: Any) -> str:
    return badge(row.verdict, Verdict.tone_for(row.verdict))


class AttemptInline(ReadOnlyInline):
    model = WebhookAttempt
    verbose_name_plural = "Attempts"
    nothing = "None besides the one whose verdict stands above."
    place = 10
    fields = ("moment", "verdict_badge", "text", "by")
    moment = age_of("at", "when")
    verdict_badge = verdict_of

    def get_queryset(self, request: HttpRequest) -> QuerySet[WebhookAttempt]:
        return super().get_queryset(request).select_related("replay")

    @admin.display(description="replayed by")
    def by(self, attempt: WebhookAttempt) -> str:
        return attempt.replay.actor or "not known" if attempt.replay else NOTHING


class _ReplayInline(ReadOnlyInline):
    model = Replay
    moment = age_of("at", "when")
    verdict_badge = verdict_of

    @admin.display(description="what happened")
    def said(self, replay: Replay) -> str:
        return format_html('<span class="said">{}</span>', in_words(replay.text) or NOTHING)


class ReplaysOfWebhook(_ReplayInline):
    verbose_name_plural = "Replays and dry runs"
    place = 20
    fields = ("moment", "actor", "verdict_badge", "said", "run_link")
    run_link = link_to("run", "run")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Replay]:
        return super().get_queryset(request).select_related("run")


class ReplaysOfRun(_ReplayInline):
    verbose_name_plural = "Webhooks, newest last"
    fields = ("webhook", "moment", "verdict_badge", "said")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Replay]:
        return super().get_queryset(request).select_related("log").defer("log__body")

    @admin.display(description="webhook")
    def webhook(self, replay: Replay) -> str:
        return link(replay.log, f"{replay.log_id}: {replay.log.event_type or 'no type'}")


@admin.register(WebhookLog)
class WebhookLogAdmin(DecisionAdmin):
    list_name = "webhooks"
    is_live = counts_statuses = True
    decisions = (REPLAY,)
    waiting = (
        Waiting(
            title="Webhook failed",
            rows=lambda: WebhookLog.objects.filter(status=WebhookLog.Status.FAILED).defer("body"),
            since="received_at",
        ),
    )
    list_display = ("event", "provider", "state", "external_link", "what_came", "received", "repeats", "replays", "due")
    list_filter = ("status", "provider", "received_at", EventTypeFilter)
    search_fields = ("external_id", "event_type")
    linked_by = ("external_id", "id")
    inlines = [AttemptInline, ReplaysOfWebhook]
    actions = ["replay_chosen"]
    change_list_template = "admin/webhooks/change_list.html"
    change_form_template = "admin/webhooks/log.html"
    fieldsets = (
        (None, {"fields": ("provider", "event_type", "external_id", "about", "request_id")}),
        ("Beside it", {"fields": (("previous", "next"), "difference")}),
        ("Payload", {"fields": ("payload",), "classes": ("payload",)}),
        ("Headers kept", {"fields": ("headers_text",)}),
        ("Times", {"fields": (("received", "processed"), ("due", "attempts", "crashes"))}),
    )
    received = age_of("received_at", "received")
    processed = age_of("processed_at", "processed")
    due = age_of("next_attempt_at", "next try")

    def get_queryset(self, request: HttpRequest) -> QuerySet[WebhookLog]:
        # Lists show no bodies; a page reads its own one.
        return super().get_queryset(request).defer("body")

    def _conditions(self, term: str) -> Iterator[Q]:
        yield from found_by(term)

    def facts(self, log: WebhookLog) -> str:
        return render_to_string("admin/webhooks/facts.html", {"log": log, "badge": self.state(log)})

    def concern(self, log: WebhookLog) -> str:
        return f"It could not be handled: {log.outcome.rstrip('.')}." if log.status == WebhookLog.Status.FAILED else ""

    def orders_of(self, rows: Sequence[WebhookLog]) -> list[Order | None]:
        names = {log.external_id for log in rows if log.external_id}
        payments = Payment.objects.filter(external_id__in=names).select_related("order")
        ours = Q(external_id__in=names) | Q(supplier_order_id__in=names)
        found = {payment.external_id: payment.order for payment in payments}
        for reservation in Reservation.objects.filter(ours).select_related("item__order"):
            found |= dict.fromkeys((reservation.external_id, reservation.supplier_order_id), reservation.item.order)
        return [found.get(log.external_id) if log.external_id else None for log in rows]

    @admin.display(description="event", ordering="event_type")
    def event(self, log: WebhookLog) -> str:
        return f"{log.pk}: {log.event_type or 'no type'}"

    @admin.display(description="external id", ordering="external_id")
    def external_link(self, log: WebhookLog) -> str:
        if not log.external_id:
            return NOTHING
        page = "payments.payment" if log.provider == WebhookLog.Provider.NOWPAYMENTS else "fulfillment.reservation"
        return list_link(page, short(log.external_id), q=log.external_id)

    @admin.display(description="outcome", ordering="outcome")
    def what_came(self, log: WebhookLog) -> str:
        # An error stays as it was raised.
        return short(log.outcome if log.status == WebhookLog.Status.FAILED else in_words(log.outcome))

    @admin.display(description="about")
    def about(self, log: WebhookLog) -> str:
        rows = [row for rows in _named_by(log) for row in rows]
        return format_html_join(", ", "{}", ((row,) for row in rows)) or "Nothing of ours has this id."

    @admin.display(description="the one before")
    def previous(self, log: WebhookLog) -> str:
        return _named(_neighbour(log, before=True))

    @admin.display(description="the next")
    def next(self, log: WebhookLog) -> str:
        return _named(_neighbour(log, before=False))

    @admin.display(description="what changed")
    def difference(self, log: WebhookLog) -> str:
        before = _neighbour(log, before=True)
        if before is None:
            return "It is the first about this payment or purchase."
        if log.is_body_forgotten or before.is_body_forgotten:
            return BODY_FORGOTTEN
        rows = differences(bytes(before.body), bytes(log.body))
        return render_to_string(
            "admin/webhooks/difference.html", {"rows": rows, "before": link(before, f"{before.pk}")}
        )

    @admin.display(description="body")
    def payload(self, log: WebhookLog) -> str:
        if log.is_body_forgotten:
            return BODY_FORGOTTEN
        return render_to_string("admin/bitloot/payload.html", view_of(bytes(log.body)))

    @admin.display(description="headers")
    def headers_text(self, log: WebhookLog) -> str:
        return format_html("<pre>{}</pre>", visible(json.dumps(log.headers, indent=2, ensure_ascii=False)))

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        log = self.get_object(request, unquote(object_id))
        may_ask = log is not None and not log.is_body_forgotten and self.has_rehearse_permission(request)
        url = f"{reverse(self.view_name('replay'))}?id__in={log.pk}" if may_ask else ""
        return super().change_view(request, object_id, form_url, {"rehearse_url": url, **(extra_context or {})})

    # --- many at a time ---

    def get_urls(self) -> list[URLPattern]:
        name = self.view_name("replay").partition(":")[2]
        return [path("replay/", self.admin_site.admin_view(self.replay_view), name=name), *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        query = request.GET.urlencode()
        url = f"{reverse(self.view_name('replay'))}?{query}" if self.has_rehearse_permission(request) else ""
        return super().changelist_view(request, {"replay_url": url, **(extra_context or {})})

    def has_rehearse_permission(self, request: HttpRequest) -> bool:
        return any(request.user.has_perm(permission) for permission in (MAY_REPLAY, MAY_REHEARSE))

    @admin.action(description="Dry run, or replay in the background", permissions=["rehearse"])
    def replay_chosen(self, request: HttpRequest, rows: QuerySet[WebhookLog]) -> HttpResponse:
        ids = ",".join(str(pk) for pk in rows.values_list("pk", flat=True))
        return HttpResponseRedirect(f"{reverse(self.view_name('replay'))}?id__in={ids}")

    def replay_view(self, request: HttpRequest) -> HttpResponse:
        """Ask whether all webhooks of the list's address are to be replayed, or only rehearsed; begin the run."""
        if not self.has_rehearse_permission(request):
            self._forbid(request, "Replay all that match", "", str(self.opts.verbose_name_plural))
        try:
            wanted = Chosen.of_list(request.GET.dict())
        except UnknownFilter as err:
            self.message_user(request, f"A replay cannot follow this filter: {err}.", messages.ERROR)
            return HttpResponseRedirect(reverse(self.view_name("changelist")))
        return self._begin(request, wanted) if request.method == "POST" else self._ask_about(request, wanted)

    def _ask_about(self, request: HttpRequest, wanted: Chosen) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "title": "Replay webhooks",
            "opts": self.opts,
            "wanted": str(wanted),
            "count": replays.count(wanted),
            "objection": replays.objection_to_run(wanted),
            # Made with the form: sent twice, it is one run all the same.
            "run": uuid.uuid4(),
            "may_replay": request.user.has_perm(MAY_REPLAY),
            "may_rehearse": request.user.has_perm(MAY_REHEARSE),
        }
        return TemplateResponse(request, "admin/webhooks/replay.html", context)

    def _begin(self, request: HttpRequest, wanted: Chosen) -> HttpResponse:
        # Anything else that is sent means the harmless one.
        is_dry = request.POST.get("do") != "replay"
        if not request.user.has_perm(MAY_REHEARSE if is_dry else MAY_REPLAY):
            label = "Dry run of all that match" if is_dry else "Replay all that match"
            self._forbid(request, label, "", str(self.opts.verbose_name_plural))
        try:
            pk = _uuid(request.POST.get("run", ""))
            run, is_new = replays.begin(wanted, is_dry=is_dry, user=request.user, pk=pk)
        except DecisionRefused as err:
            self.message_user(request, str(err), messages.ERROR)
            return HttpResponseRedirect(list_url("webhooks.webhooklog"))
        if not is_new:
            self.message_user(request, "This run had begun already; here it is.", messages.WARNING)
        return HttpResponseRedirect(reverse("admin:webhooks_replayrun_change", args=[quote(run.pk)]))


@admin.register(ReplayRun)
class ReplayRunAdmin(DecisionAdmin):
    """Replays of many webhooks: how far each is, and what happened to every one."""

    is_live = counts_statuses = True
    decisions = (replays.STOP, replays.REPLAY_THESE)
    change_form_template = "admin/webhooks/run.html"
    list_display = ("name", "state", "filter_words", "total", "actor", "begun", "finished")
    list_filter = ("status", "is_dry", "created_at")
    search_fields = ("actor",)
    search_ids = ("id",)
    inlines = [ReplaysOfRun]
    fieldsets = ((None, {"fields": ("name", "filter_words", "actor", ("begun", "finished"))}),)
    begun = age_of("created_at", "begun")
    finished = age_of("finished_at", "finished")

    @admin.display(description="run", ordering="created_at")
    def name(self, run: ReplayRun) -> str:
        return f"{run.kind} {str(run.pk)[:8]}"

    @admin.display(description="webhooks")
    def filter_words(self, run: ReplayRun) -> str:
        return str(Chosen.from_json(run.wanted))

    def facts(self, run: ReplayRun) -> str:
        verdicts = replays.progress(run)
        shown = [
            {"badge": verdict_of(None, Replay(verdict=verdict)), "count": count,
             "url": list_url("webhooks.replay", run=run.pk, verdict__exact=verdict)}
            for verdict, count in verdicts.items()
        ]  # fmt: skip
        done = sum(verdicts.values()) - verdicts.get(Verdict.HANDED, 0)
        context = {"run": run, "verdicts": shown, "done": done, "badge": self.state(run)}
        return render_to_string("admin/webhooks/progress.html", context)

    def digest(self, row: ReplayRun) -> str:
        """Leave the progress out: it moves on while somebody reads, and changes nothing about what may be decided."""
        return f"{row.status}.{row.pk}"


@admin.register(WebhookAttempt)
class AttemptAdmin(ReadOnlyAdmin):
    in_finder = False
    list_display = ("moment", "webhook", "verdict_badge", "text")
    list_filter = ("verdict", "at")
    search_fields = ("text",)
    search_numbers = ("log_id",)
    linked_by = ("log",)
    list_select_related = ("log",)
    ordering = ("-id",)
    fieldsets = ((None, {"fields": ("webhook", "moment", "verdict_badge", "text")}),)
    moment = age_of("at", "when")
    verdict_badge = verdict_of
    webhook = link_to("log", "webhook")

    def get_queryset(self, request: HttpRequest) -> QuerySet[WebhookAttempt]:
        return super().get_queryset(request).defer("log__body")


@admin.register(Replay)
class ReplayAdmin(ReadOnlyAdmin):
    in_finder = False
    list_display = ("webhook", "moment", "actor", "verdict_badge", "said", "run_link")
    list_filter = ("verdict", "at")
    search_fields = ("actor",)
    search_numbers = ("log_id",)
    linked_by = ("run", "log")
    list_select_related = ("log", "run")
    ordering = ("-id",)
    fieldsets = ((None, {"fields": ("webhook", "run_link", "actor", "moment", "verdict_badge", "said")}),)
    moment = age_of("at", "when")
    verdict_badge = verdict_of
    run_link = link_to("run", "run")
    said = _ReplayInline.said

    def get_queryset(self, request: HttpRequest) -> QuerySet[Replay]:
        return super().get_queryset(request).defer("log__body")

    @admin.display(description="webhook")
    def webhook(self, replay: Replay) -> str:
        return f"{replay.log_id}: {replay.log.event_type or 'no type'}"


@admin.display(description="webhooks")
def webhooks(order: Order) -> str:
    """Link to what the providers sent about an order, from the order's page."""
    names = names_of([order])
    if not names:
        return "No provider knows of this order yet."
    return list_link("webhooks.webhooklog", "what the providers sent about it", external_id__in=",".join(names))


OrderAdmin.extend(fieldsets=[("Elsewhere", {"fields": (webhooks,)})], of=WebhookLog)


def _named_by(log: WebhookLog) -> list[list[str]]:
    """Return links to what the webhook is about, and to its order."""
    if not log.external_id:
        return []
    payments = Payment.objects.filter(external_id=log.external_id).select_related("order")
    names = Q(external_id=log.external_id) | Q(supplier_order_id=log.external_id)
    reservations = Reservation.objects.filter(names).select_related("item__order")
    return [
        *([link(payment), link(payment.order)] for payment in payments),
        *([link(reservation), link(reservation.item.order)] for reservation in reservations),
    ]


def _neighbour(log: WebhookLog, *, before: bool) -> WebhookLog | None:
    """Return the webhook of the same payment or purchase that came before this one, or after it."""
    if not log.external_id:
        return None
    rows = WebhookLog.objects.filter(provider=log.provider, external_id__in=names_beside(log.external_id))
    return (
        rows.filter(pk__lt=log.pk).order_by("-pk").first()
        if before
        else rows.filter(pk__gt=log.pk).order_by("pk").first()
    )


def _named(log: WebhookLog | None) -> str:
    return NOTHING if log is None else link(log, f"{log.pk}: {log.event_type or 'no type'}, {log.status}")


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None
