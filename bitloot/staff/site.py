"""The admin site: who gets in, the order of its lists, the home page with its panels, and the finder."""

from dataclasses import dataclass
from functools import partial, wraps
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from django.apps import apps
from django.conf import settings
from django.contrib import messages
from django.contrib.admin import AdminSite
from django.contrib.auth.views import redirect_to_login
from django.db.models import Model
from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import URLPattern, URLResolver, path, reverse

from bitloot.core import logs
from bitloot.core.admin.base import BaseAdmin
from bitloot.core.admin.decisions import DecisionAdmin
from bitloot.core.admin.formatting import NOTHING, link, list_url
from bitloot.core.admin.panels import Panel
from bitloot.core.admin.runbook import runbook
from bitloot.core.database import planned_by_values
from bitloot.core.policy import without_trusted_types
from bitloot.staff.cases import count_waiting, open_cases
from bitloot.staff.forms import SignInForm

FOUND_PER_LIST = 5
SIGNED_OUT = "You were signed out, and what you just sent was not carried out. Sign in, then send it once more."


@dataclass(frozen=True)
class Section:
    """Lists that belong together, as labels of their models."""

    name: str
    models: tuple[str, ...]


# In the order of the work. What no section names goes to the last one, "System".
SECTIONS = (
    Section("Orders", ("orders.order", "orders.alert", "orders.approval", "orders.email")),
    Section("Money", ("payments.payment", "payments.refund", "payments.refundaddress")),
    Section("Delivery", ("fulfillment.reservation", "storage.key")),
    Section("Providers", ("webhooks.webhooklog", "webhooks.replayrun")),
    Section("Shop", ("orders.product", "fulfillment.pricerule", "fulfillment.pricechange")),
    Section("Partners", ("partners.apikey", "partners.endpoint", "partners.outgoingwebhook")),
)
# The header, in the order in which an order comes by.
HEADER = {
    "orders.order": "Orders",
    "payments.payment": "Payments",
    "payments.refund": "Refunds",
    "fulfillment.reservation": "Purchases",
    "storage.key": "Keys",
    "orders.email": "Mails",
    "webhooks.webhooklog": "Webhooks",
    "orders.product": "Products",
    "orders.approval": "Approvals",
    "orders.alert": "Alerts",
}


class BitLootAdminSite(AdminSite):
    """The site that `admin.site` is (BitLootAdminConfig). It asks its model admins what they show, see BaseAdmin."""

    site_header = site_title = "BitLoot staff"
    index_title = "What needs attention"
    index_template = "admin/bitloot/home.html"
    login_form = SignInForm
    login_template = "admin/bitloot/login.html"
    empty_value_display = NOTHING
    enable_nav_sidebar = False  # the lists are wide; the header leads to them

    def has_permission(self, request: HttpRequest) -> bool:
        user: Any = request.user
        if not super().has_permission(request) or (settings.STAFF_OTP_REQUIRED and not user.is_verified()):
            return False
        logs.note(staff=user.get_username())
        # The idle end moves with the pages that are opened, and not with those that refresh themselves.
        if "X-Live" not in request.headers:
            request.session.modified = True
        return True

    def get_urls(self) -> list[URLPattern | URLResolver]:
        own = [
            path("system/", self.admin_view(self.system), name="system"),
            path("runbook/", self.admin_view(self.runbook), name="runbook"),
        ]
        return [*own, *super().get_urls()]

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        context = super().each_context(request)
        return {**context, "header": self._header(request) if context["has_permission"] else []}

    def admin_view(self, view: Any, cacheable: bool = False) -> Any:
        # Inside of Django's check: strangers are asked to sign in, whatever is or is not at an address.
        checked = self._or_sign_in_again(_planned_by_values(super().admin_view(self._or_not_found(view), cacheable)))
        # Django's lists and forms load jQuery, which makes markup as soon as it is loaded; the site's own pages do not.
        return checked if getattr(view, "__self__", None) is self else without_trusted_types(checked)

    def _or_sign_in_again(self, view: Any) -> Any:
        """Say it to those whose session ended before they pressed, and lead them back to where they pressed."""

        @wraps(view)
        def shown(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if request.method != "POST" or request.path == reverse("admin:logout") or self.has_permission(request):
                answer: HttpResponseBase = view(request, *args, **kwargs)
                return answer
            messages.warning(request, SIGNED_OUT)
            # Not the address itself: what takes only a POST has no page to come back to.
            page = urlsplit(request.headers.get("Referer", ""))
            came_from = urlunsplit(("", "", page.path, page.query, ""))
            is_ours = page.netloc == request.get_host() and came_from.startswith(reverse("admin:index"))
            return redirect_to_login(came_from if is_ours else reverse("admin:index"), reverse("admin:login"))

        return shown

    def _or_not_found(self, view: Any) -> Any:
        @wraps(view)
        def shown(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            try:
                answer: HttpResponseBase = view(request, *args, **kwargs)
            except Http404:
                context = {**self.each_context(request), "title": "There is nothing here"}
                return TemplateResponse(request, "admin/bitloot/not_found.html", context, status=404)
            return answer

        return shown

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[Any]:
        """Return the lists that they may see in sections instead of apps; those of one app as Django does."""
        apps = super().get_app_list(request, app_label)
        if app_label is not None:
            return apps
        left = {entry["model"]._meta.label_lower: self._named(entry) for app in apps for entry in app["models"]}
        sections: list[Any] = []
        for section in SECTIONS:
            entries = [left.pop(label) for label in section.models if label in left]
            sections.append(_as_app(section.name, entries))
        sections.append(_as_app("System", list(left.values())))
        return [section for section in sections if section["models"]]

    def _named(self, entry: dict[str, Any]) -> dict[str, Any]:
        page = self.get_model_admin(entry["model"])
        return {**entry, "name": page.title} if isinstance(page, BaseAdmin) else entry

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        term = request.GET.get("q", "").strip()
        found = self.find(request, term) if term else {}
        own = {
            "title": ("Found" if found["places"] else "Nothing found") if term else self.index_title,
            "term": term,
            "found": found,
            # Not beside what was found, which nobody should wait for.
            "panels": [] if term else [panel.shown(request) for panel in self.panels(request)],
        }
        return super().index(request, {**own, **(extra_context or {})})

    def system(self, request: HttpRequest) -> TemplateResponse:
        """Show every list that they may see, also those that the header leaves out."""
        own = {"title": "All lists", "app_list": self.get_app_list(request), "tools": self._tools(request)}
        context = {**self.each_context(request), **own}
        return TemplateResponse(request, "admin/bitloot/system.html", context)

    def runbook(self, request: HttpRequest) -> TemplateResponse:
        """Show docs/runbook.md, which reasons and alerts link to."""
        known = runbook()
        if known is None:
            raise Http404
        context = {**self.each_context(request), "title": "Runbook", "runbook": known}
        return TemplateResponse(request, "admin/bitloot/runbook.html", context)

    def pages(self, request: HttpRequest) -> list[BaseAdmin]:
        """Return our model admins whose list they may view, in the order of the sections."""
        pages = [self.get_model_admin(model) for model in self._models()]
        return [page for page in pages if isinstance(page, BaseAdmin) and page.has_view_permission(request)]

    def _models(self) -> list[type[Model]]:
        named = [apps.get_model(label) for section in SECTIONS for label in section.models]
        models = [model for model in apps.get_models() if self.is_registered(model)]
        return [*named, *(model for model in models if model not in named)]

    def panels(self, request: HttpRequest) -> list[Panel]:
        cases = partial(open_cases, pages=self.pages(request))
        own = [Panel(title="Decide now", template="admin/bitloot/cases.html", query=cases, place=10)]
        added = [panel for page in self.pages(request) for panel in page.panels if panel.is_for(request)]
        return sorted((*own, *added), key=lambda panel: panel.place)

    def find(self, request: HttpRequest, term: str) -> dict[str, Any]:
        """Look an id or an address up in every list that they may see: the orders it leads to, and where it stands."""
        orders: dict[Any, Any] = {}
        found = []
        for page in self.pages(request):
            if not page.in_finder:
                continue
            rows, _ = page.get_search_results(request, page.get_queryset(request), term)
            if first := list(rows[:FOUND_PER_LIST]):
                orders |= {order.pk: order for order in page.orders_of(first) if order is not None}
                url = list_url(page.opts.label_lower, q=term)
                links = [link(row) for row in first]
                found.append({"name": page.title, "links": links, "url": url})
        return {"orders": self._orders(request, list(orders.values())), "places": found}

    def _orders(self, request: HttpRequest, orders: list[Any]) -> list[dict[str, Any]]:
        page = self.get_model_admin(apps.get_model("orders.order"))
        if not page.has_view_permission(request):
            return []
        rows = page.get_queryset(request).filter(pk__in=[order.pk for order in orders[:FOUND_PER_LIST]])
        hits: list[dict[str, Any]] = [
            {"link": link(row), "order": row, "state": page.state_and_why(row)}  # type: ignore[attr-defined]
            for row in rows
        ]
        if len(hits) == 1 and isinstance(page, DecisionAdmin):
            back = request.get_full_path()
            hits[0]["choices"] = page.choices_about(request, hits[0]["order"], back=back, quiet=True)
        return hits

    def _tools(self, request: HttpRequest) -> list[dict[str, str]]:
        pages = [self.get_model_admin(model) for model in self._models()]
        tools = [tool for page in pages for tool in getattr(page, "tools", ())]
        own = [{"label": "Runbook", "url": reverse("admin:runbook")}] if runbook() else []
        return own + [
            {"label": tool.label, "url": reverse(tool.view)} for tool in tools if request.user.has_perm(tool.permission)
        ]

    def _header(self, request: HttpRequest) -> list[dict[str, Any]]:
        pages = {page.opts.label_lower: page for page in self.pages(request)}
        return [
            {"name": name, "url": list_url(label), "count": count_waiting(pages[label])}
            for label, name in HEADER.items()
            if label in pages
        ]


def _planned_by_values(view: Any) -> Any:
    @wraps(view)
    def planned(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        with planned_by_values():
            answer: HttpResponseBase = view(request, *args, **kwargs)
            # Templates ask, too.
            return answer.render() if isinstance(answer, TemplateResponse) else answer

    return planned


def _as_app(name: str, entries: list[Any]) -> dict[str, Any]:
    """Return a section in the form in which Django's templates expect an app."""
    return {
        "name": name,
        "app_label": name.lower(),
        "app_url": f"{reverse('admin:system')}#{name.lower()}",
        "has_module_perms": True,
        "models": entries,
    }
