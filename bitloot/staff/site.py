"""The admin site: who gets in, the order of its lists, the home page with its panels, and the finder."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.contrib.admin import AdminSite
from django.db.models import Count, Min
from django.db.models.functions import Now
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone

from bitloot.core import logs
from bitloot.core.admin.base import BaseAdmin
from bitloot.core.admin.formatting import NOTHING, age, link, list_url
from bitloot.core.admin.panels import Panel, Waiting
from bitloot.core.queue import QueueRow
from bitloot.staff.forms import SignInForm

FOUND_PER_LIST = 5
LATE_SECONDS = 60
MAX_WAITING = 1_000


@dataclass(frozen=True)
class Section:
    """Lists that belong together, as labels of their models."""

    name: str
    models: tuple[str, ...]


# In the order of the work. The header leads to these; what no section names goes to the last one, "System".
SECTIONS = (
    Section("Orders", ("orders.order", "orders.alert", "orders.approval", "orders.email")),
    Section("Money", ("payments.payment", "payments.refund", "payments.refundaddress")),
    Section("Delivery", ("fulfillment.reservation", "storage.key")),
    Section("Providers", ("webhooks.webhooklog",)),
    Section("Shop", ("orders.product",)),
)


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

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[Any]:
        """Return the lists that they may see in sections instead of apps; those of one app as Django does."""
        apps = super().get_app_list(request, app_label)
        if app_label is not None:
            return apps
        left = {entry["model"]._meta.label_lower: entry for app in apps for entry in app["models"]}
        sections: list[Any] = []
        for section in SECTIONS:
            entries = [left.pop(label) for label in section.models if label in left]
            sections.append(_as_app(section.name, entries, in_header=True))
        sections.append(_as_app("System", list(left.values()), in_header=False))
        return [section for section in sections if section["models"]]

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        term = request.GET.get("q", "").strip()
        own = {
            "term": term,
            "found": self.find(request, term) if term else [],
            "panels": [panel.shown(request) for panel in self.panels(request)],
        }
        return super().index(request, {**own, **(extra_context or {})})

    def pages(self, request: HttpRequest) -> Iterator[BaseAdmin]:
        """Yield our model admins whose list they may view, in the order of the sections."""
        for section in self.get_app_list(request):
            for entry in section["models"]:
                page = self.get_model_admin(entry["model"])
                if entry["perms"]["view"] and isinstance(page, BaseAdmin):
                    yield page

    def panels(self, request: HttpRequest) -> list[Panel]:
        own = [
            Panel(title="Waiting for a decision", template="admin/bitloot/waiting.html", query=self._waiting, place=10),
            Panel(title="Work that is due", template="admin/bitloot/queues.html", query=self._queues, place=80),
        ]
        added = [panel for page in self.pages(request) for panel in page.panels if panel.is_for(request)]
        return sorted((*own, *added), key=lambda panel: panel.place)

    def find(self, request: HttpRequest, term: str) -> list[dict[str, Any]]:
        """Look an id or an address up in every list that they may see."""
        found = []
        for page in self.pages(request):
            if page.in_finder:
                rows, _ = page.get_search_results(request, page.get_queryset(request), term)
                if links := [link(row) for row in rows[:FOUND_PER_LIST]]:
                    url = list_url(page.opts.label_lower, q=term)
                    found.append({"name": page.opts.verbose_name_plural, "links": links, "url": url})
        return found

    def _waiting(self, request: HttpRequest) -> dict[str, Any]:
        return {"cards": [_card(page, waiting) for page in self.pages(request) for waiting in page.waiting]}

    def _queues(self, request: HttpRequest) -> dict[str, Any]:
        return {"rows": [_queue(page.model) for page in self.pages(request) if issubclass(page.model, QueueRow)]}


def _as_app(name: str, entries: list[Any], *, in_header: bool) -> dict[str, Any]:
    """Return a section in the form in which Django's templates expect an app."""
    return {
        "name": name,
        "app_label": name.lower(),
        "app_url": f"{reverse('admin:index')}#{name.lower()}",
        "has_module_perms": True,
        "models": entries,
        "in_header": in_header,
    }


def _card(page: BaseAdmin, waiting: Waiting) -> dict[str, Any]:
    rows = page.model._default_manager.filter(status=waiting.status).order_by()
    seen = rows.aggregate(count=Count("pk"), oldest=Min(waiting.since))
    return {
        "title": waiting.title,
        "count": seen["count"],
        "oldest": age(seen["oldest"]),
        "url": list_url(page.opts.label_lower, status__exact=waiting.status),
    }


def _queue(model: type[QueueRow]) -> dict[str, Any]:
    rows = model._default_manager.filter(next_attempt_at__lte=Now()).order_by("next_attempt_at")
    waiting, oldest = rows[: MAX_WAITING + 1].count(), rows.values_list("next_attempt_at", flat=True).first()
    return {
        "name": model._meta.verbose_name_plural,
        "waiting": f"{MAX_WAITING}+" if waiting > MAX_WAITING else str(waiting),
        "oldest": age(oldest),
        "is_late": oldest is not None and (timezone.now() - oldest).total_seconds() > LATE_SECONDS,
    }
