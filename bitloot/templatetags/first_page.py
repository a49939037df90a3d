from typing import Any

from django import template
from django.template import RequestContext

from bitloot.staff import site

register = template.Library()


@register.inclusion_tag("admin/store/first_page.html", takes_context=True)
def what_needs_a_person(context: RequestContext) -> dict[str, Any]:
    return site.first_page(context["request"])


@register.inclusion_tag("admin/store/found.html", takes_context=True)
def what_was_found(context: RequestContext) -> dict[str, Any]:
    """Search in every list for the `q` of the address."""
    request = context["request"]
    term = request.GET.get("q", "").strip()
    return {"term": term, "found": site.find(request, term) if term else []}
