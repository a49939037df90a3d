"""The page for people whose request ends here: what happened, and what they can do."""

from dataclasses import dataclass

from django.http import HttpResponse
from django.template.loader import render_to_string
from django.utils.translation import gettext_lazy as _

from bitloot.core.sentences import Words
from bitloot.core.store import store

_TO_THE_SHOP, _TO_ALL_GAMES = _("Back to the shop"), _("See all games")


@dataclass(frozen=True)
class Stop:
    status: int
    headline: Words
    paragraphs: tuple[Words, ...]
    button: Words
    back: str = "/"


FORBIDDEN = Stop(
    403,
    _("You may not open this page"),
    (_("This page is not meant for visitors. If you came here from a link, please go back and try another way."),),
    _TO_ALL_GAMES,
)
FORM_REFUSED = Stop(
    403,
    _("Please send the form again"),
    (
        _(
            "We could not tell whether the form came from our own page, so nothing was ordered. This happens when the"
            " page was open for very long or when cookies are blocked."
        ),
        _("Allow cookies for this site, go back, reload the page and send the form again."),
    ),
    _TO_THE_SHOP,
)
# The admin's, in English as all of it.
STAFF_FORBIDDEN = Stop(
    403,
    "Your permissions do not cover this",
    ("Nothing was changed. Ask a colleague whose permissions cover it, or a superuser to give you the permission.",),
    "Back to the admin",
    back="/admin/",
)
STAFF_FORM_REFUSED = Stop(
    403,
    "Please send the form again",
    (
        "Nothing was changed. The form was older than your session, as when you signed in again in another tab, or"
        " cookies are blocked.",
        "Go back, reload the page, look at what it shows now, and send the form again.",
    ),
    "Back to the admin",
    back="/admin/",
)
STAFF_BROKEN = Stop(
    500,
    "Something broke on our side",
    (
        "It has been noted. Please try again in a minute. If you were deciding something, first look whether it was"
        " carried out: the page's history has a line for each decision.",
        "If it happens again, give the reference to whoever runs the shop: the log has it as request=…",
    ),
    "Back to the admin",
    back="/admin/",
)
NOT_FOUND = Stop(
    404,
    _("This page does not exist"),
    (
        _(
            "The address may have been mistyped, or the game is no longer for sale. If you are looking for an order,"
            " open it with the link we e-mailed you."
        ),
    ),
    _TO_ALL_GAMES,
)
TOO_OFTEN = Stop(
    429,
    _("A little too fast"),
    (
        _(
            "We got very many requests from your network in a short time, so this one was not handled."
            " Please wait a minute and try again: nothing was lost."
        ),
    ),
    _TO_THE_SHOP,
)
BROKEN = Stop(
    500,
    _("Something broke on our side"),
    (
        _(
            "It has been noted. Please try again in a minute. If you were placing an order: sending the form again"
            " does not order twice, and no money moves without you sending it."
        ),
        _("If it happens again, write to us with the reference below."),
    ),
    _TO_THE_SHOP,
)
AWAY = Stop(
    503,
    _("We will be right back"),
    (
        _(
            "The shop does not answer at the moment. Please try again in a minute: nothing was lost, and what you have"
            " paid for is safe."
        ),
    ),
    _TO_THE_SHOP,
)


def stop_page(stop: Stop, *, headers: dict[str, str] | None = None, reference: str = "") -> HttpResponse:
    """Return the page; `reference` is the request's id, by which the log is searched."""
    # Rendered without the request: context processors read the session, and a page about a broken database must not.
    shown = vars(stop) | store() | {"reference": reference}
    return HttpResponse(render_to_string("stop.html", shown), status=stop.status, headers=headers)
