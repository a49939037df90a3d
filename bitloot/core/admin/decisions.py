"""The decisions of staff as buttons, list actions and pages that ask: one effect, one line in the log."""

from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.utils import quote, unquote
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.text import capfirst
from django.views.decorators.debug import sensitive_post_parameters

from bitloot.core.admin.base import ReadOnlyAdmin
from bitloot.core.admin.formatting import link
from bitloot.core.decisions import Decision, DecisionRefused, SecretField

MAX_ROWS = 100

Action = Callable[["DecisionAdmin", HttpRequest, QuerySet[Any]], None]


class DecidedMeanwhile(DecisionRefused):
    """There is a decision about the row that this form did not know of: perhaps this very one."""


class DecisionAdmin(ReadOnlyAdmin):
    """A read-only page with the decisions that are possible now; those without a form are actions of the list, too."""

    decisions: tuple[Decision[Any], ...] = ()
    quiet: tuple[Decision[Any], ...] = ()  # nothing waits for these: only the row's page shows them
    change_form_template = "admin/bitloot/decisions.html"

    @classmethod
    def extend(
        cls, *, decisions: tuple[Decision[Any], ...] = (), quiet: tuple[Decision[Any], ...] = (), **added: Any
    ) -> None:
        """As BaseAdmin.extend; decisions come after those of the lower app."""
        super().extend(**added)
        cls.decisions = (*cls.decisions, *decisions)
        cls.quiet = (*cls.quiet, *quiet)

    def facts(self, row: Any) -> str:
        """Return the facts to decide by, as HTML."""
        return ""

    def digest(self, row: Any) -> str:
        """Return what stands for all that a decision's page shows of the row: it changes with any of it.

        So `facts` and `concern` hold nothing that changes with time alone, such as an age.
        """
        shown = "\n".join([str(getattr(row, "status", "")), self.concern(row), self.facts(row)])
        return sha256(shown.encode()).hexdigest()

    def carry_out(self, request: HttpRequest, row: Any, decision: Decision[Any], fields: dict[str, Any]) -> str:
        """Do what was decided and return what happens next. The caller holds the order's lock."""
        if decision.needs_second is not None:
            raise ImproperlyConfigured(f"“{decision.label}” may need two: its page has to be a SecondedAdmin")
        decision.carry_out(row, actor=request.user.get_username(), **fields)
        return decision.done

    def possible(self, request: HttpRequest, row: Any) -> list[Decision[Any]]:
        """Return the decisions that they may take about the row as it is now."""
        return [decision for decision in self.open_to(request) if self.objection(request, row, decision) is None]

    def objection(self, request: HttpRequest, row: Any, decision: Decision[Any]) -> str | None:
        """Return what stands against the decision now, or against their taking it."""
        return decision.objection(row)

    def form_for(self, row: Any, decision: Decision[Any]) -> type[forms.Form] | None:
        return decision.form_for(row) if decision.form_for is not None else decision.form

    def decide(
        self, request: HttpRequest, row: Any, decision: Decision[Any], fields: dict[str, Any], *, seen: str
    ) -> str:
        """Decide and log in one transaction, under the order's lock; return what happens next.

        `seen` is what `seen()` returned when they looked at the row. Raises DecisionRefused if that has changed.
        """
        with transaction.atomic():
            # Two members of staff sent the same form: the second waits here, then finds the first one's log line.
            _lock_order_of(row)
            row.refresh_from_db()
            self._demand_unchanged(row, seen)
            done = self.carry_out(request, row, decision, fields)
            words = [decision.label, *_typed(decision, fields)]
            if done != decision.done:  # it waits for a second member of staff
                words.append(capfirst(done))
            LogEntry.objects.log_actions(_user_id(request), [row], CHANGE, ". ".join(words))
        return done

    def seen(self, row: Any) -> str:
        """Return what stands for all that they see of the row now, decisions about it included."""
        return f"{self._last_log(row)}.{self.digest(row)}"

    def demand_permission(self, request: HttpRequest, row: Any, decision: Decision[Any]) -> None:
        """Refuse, and log it, if they may not take this decision. Raises PermissionDenied."""
        if not request.user.has_perm(decision.permission):
            self._forbid(request, decision.label, str(row.pk), str(row))

    def choices_about(self, request: HttpRequest, row: Any, *, back: str, quiet: bool = False) -> list[dict[str, Any]]:
        """Return the possible decisions for another page, which they lead `back` to; with `quiet`, all of them."""
        found = self.possible(request, row)
        wanted = [decision for decision in found if quiet or decision not in self.quiet]
        return [{**self._choice(row, decision, back=back), "asks": decision.form is not None} for decision in wanted]

    def get_urls(self) -> list[URLPattern]:
        view, name = self.admin_site.admin_view(self.decision_view), self.view_name("decide").partition(":")[2]
        return [path("<path:object_id>/decide/<slug:name>/", view, name=name), *super().get_urls()]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        row = self.get_object(request, unquote(object_id))
        own: dict[str, Any] = {}
        if row is not None and self.has_view_permission(request, row):
            possible = self.possible(request, row)
            own = {
                "concern": self.concern(row),
                "facts": self.facts(row),
                "buttons": [self._choice(row, decision) for decision in possible if decision.form is None],
                "decisions": [self._choice(row, decision) for decision in possible if decision.form is not None],
            }
        return super().change_view(request, object_id, form_url, {**own, **(extra_context or {})})

    # Typed keys must not be in the error report that a bug in here would send.
    @method_decorator(sensitive_post_parameters())
    def decision_view(self, request: HttpRequest, object_id: str, name: str) -> HttpResponse:
        decision = next((decision for decision in self.decisions if decision.name == name), None)
        row = self.get_object(request, unquote(object_id)) if self.has_view_permission(request) else None
        if decision is None or row is None:
            raise Http404
        self.demand_permission(request, row, decision)
        form_class = self.form_for(row, decision)
        if form_class is None:
            return self._press(request, row, decision)
        initial = dict(decision.initial(row)) if decision.initial else None
        form = form_class(request.POST if request.method == "POST" else None, initial=initial)
        # After a mistake in the form it stays what was seen first: what changed since then has to be noticed.
        seen = request.POST.get("seen") or self.seen(row)
        if form.is_valid():
            return self._decide(request, row, decision, form)
        if request.method == "POST" or (objection := self.objection(request, row, decision)) is None:
            return self._ask(request, row, decision, form, seen=seen)
        self.message_user(request, f"{self.named(row)}: {objection}", messages.ERROR)
        return self._back_to(request, row)

    def _ask(
        self, request: HttpRequest, row: Any, decision: Decision[Any], form: forms.Form, *, seen: str
    ) -> HttpResponse:
        order = self.orders_of([row])[0]
        context = {
            **self.admin_site.each_context(request),
            "title": decision.label,
            "opts": self.opts,
            "list_name": self.title,
            "row": row,
            "row_name": self.named(row),
            "decision": decision,
            "form": form,
            "facts": self.facts(row),
            "concern": self.concern(row),
            "order": order,
            "order_link": link(order) if order is not None and order != row else "",
            "seen": seen,
            "leave": self._back_to(request, row)["Location"],
            "has_unseen": form.is_bound and any(isinstance(field, SecretField) for field in form.fields.values()),
        }
        return TemplateResponse(request, "admin/bitloot/decision.html", context)

    def _decide(self, request: HttpRequest, row: Any, decision: Decision[Any], form: forms.Form) -> HttpResponse:
        try:
            done = self.decide(request, row, decision, form.cleaned_data, seen=request.POST.get("seen", ""))
        except DecisionRefused as err:
            err.afterwards()
            self.message_user(request, f"{self.named(row)}: {err}", messages.ERROR)
            row.refresh_from_db()
            # Not a form that was sent twice, whose decision would seem to be open still; nor one whose hidden fields
            # carry what was shown before.
            is_over = isinstance(err, DecidedMeanwhile) or form.hidden_fields()
            if not is_over and self.objection(request, row, decision) is None:
                # What was typed stays, and above it stands what is true now.
                return self._ask(request, row, decision, form, seen=self.seen(row))
        else:
            self.message_user(request, f"{self.named(row)}: {done}", messages.SUCCESS)
        return self._back_to(request, row)

    def _demand_unchanged(self, row: Any, seen: str) -> None:
        log, _, digest = seen.partition(".")
        if log != self._last_log(row):
            raise DecidedMeanwhile("Somebody decided about it meanwhile, or the form was sent twice. Look again.")
        if digest != self.digest(row):
            raise DecisionRefused("What this form showed has changed meanwhile. Look again, then decide.")

    # --- at once: from the row's page, or for many rows of the list ---

    def get_actions(self, request: HttpRequest, action_location: Any = None) -> dict[str, Any]:
        # From Django 6.1 on there are actions for a row's own page as well, where ours are buttons; get_action knows.
        where = {} if action_location is None else {"action_location": action_location}
        own = {
            decision.name: self.get_action(_as_action(decision), **where)
            for decision in self.open_to(request)
            if decision.form is None
        }
        return {**super().get_actions(request, **where), **{name: action for name, action in own.items() if action}}

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if request.method == "POST":
            self._check_permissions(request)
        return super().changelist_view(request, extra_context)

    def decide_about(self, request: HttpRequest, rows: QuerySet[Any], decision: Decision[Any]) -> None:
        """Decide about at most MAX_ROWS rows, log those that were changed, and say why the others were not."""
        taken, changed, left = list(rows[: MAX_ROWS + 1]), [], Counter[str]()
        for row in taken[:MAX_ROWS]:
            try:
                with transaction.atomic():  # no effect without its line in the log
                    decision.carry_out(row, actor=request.user.get_username())
                    LogEntry.objects.log_actions(_user_id(request), [row], CHANGE, capfirst(decision.done))
            except DecisionRefused as err:
                left[str(err)] += 1
            else:
                changed.append(row)
        if changed:
            several = f"{len(changed)} {self.opts.verbose_name_plural}"
            name = self.named(changed[0]) if len(changed) == 1 else several
            self.message_user(request, f"{name}: {decision.done}", messages.SUCCESS)
        for reason, count in left.items():
            name = self.named(taken[0]) if len(taken) == 1 else f"{count} left unchanged"
            self.message_user(request, f"{name}: {reason}", messages.WARNING)
        if len(taken) > MAX_ROWS:
            text = f"Only the first {MAX_ROWS} were taken. Filter the list and do it again for the others."
            self.message_user(request, text, messages.WARNING)

    def _press(self, request: HttpRequest, row: Any, decision: Decision[Any]) -> HttpResponse:
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        self.decide_about(request, self.get_queryset(request).filter(pk=row.pk), decision)
        return self._back_to(request, row)

    def _check_permissions(self, request: HttpRequest) -> None:
        """Refuse and log an action without its permission, which Django would ignore silently."""
        asked = set(request.POST.getlist("action"))
        for decision in self.decisions:
            if decision.name in asked and not request.user.has_perm(decision.permission):
                self._forbid(request, decision.label, "", str(self.opts.verbose_name_plural))

    # --- what both share ---

    def open_to(self, request: HttpRequest) -> list[Decision[Any]]:
        return [decision for decision in self.decisions if request.user.has_perm(decision.permission)]

    def _choice(self, row: Any, decision: Decision[Any], *, back: str = "") -> dict[str, str]:
        query = {"back": back} if back else None
        url = reverse(self.view_name("decide"), args=[quote(row.pk), decision.name], query=query)
        return {"label": decision.label, "consequence": decision.consequence, "url": url}

    def _forbid(self, request: HttpRequest, label: str, object_id: str, object_repr: str) -> None:
        # Outside of any transaction, so that the line stays although the request ends in an error.
        LogEntry.objects.create(
            user_id=_user_id(request),
            content_type=ContentType.objects.get_for_model(self.model),
            object_id=object_id,
            object_repr=object_repr[:200],
            action_flag=CHANGE,
            change_message=f"Refused “{label}”: no permission.",
        )
        raise PermissionDenied

    def _last_log(self, row: Any) -> str:
        about = LogEntry.objects.filter(
            content_type=ContentType.objects.get_for_model(self.model), object_id=str(row.pk)
        )
        return str(about.order_by("-pk").values_list("pk", flat=True).first() or "none")

    def _back_to(self, request: HttpRequest, row: Any) -> HttpResponse:
        back = request.GET.get("back", "")
        # Only to pages of ours: the address may come from anywhere.
        if url_has_allowed_host_and_scheme(back, allowed_hosts=None) and back.startswith(reverse("admin:index")):
            return HttpResponseRedirect(back)
        return HttpResponseRedirect(reverse(self.view_name("change"), args=[quote(row.pk)]))


def _lock_order_of(row: Any) -> None:
    """Take the lock that comes first everywhere, or the row's where it belongs to no order."""
    owner = getattr(row, "item", row)
    order = getattr(owner, "order", owner)
    if hasattr(order, "lock"):
        order.lock()
    else:
        type(row)._base_manager.select_for_update().values_list("pk").get(pk=row.pk)


def _as_action(decision: Decision[Any]) -> Action:
    def decide(page: DecisionAdmin, request: HttpRequest, rows: QuerySet[Any]) -> None:
        page.decide_about(request, rows, decision)

    decide.__name__ = decision.name
    decide.short_description = decision.label  # type: ignore[attr-defined]
    return decide


def _typed(decision: Decision[Any], fields: dict[str, Any]) -> list[str]:
    """Return what was typed into the form, for the log; hidden fields only carry what was shown."""
    shown = decision.form.base_fields if decision.form else {}
    return [str(fields[name]) for name, field in shown.items() if fields.get(name) and not field.widget.is_hidden]


def _user_id(request: HttpRequest) -> Any:
    return request.user.pk
