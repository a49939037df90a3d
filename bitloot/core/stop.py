"""The page for people whose request ends here: what happened, and what they can do."""

from dataclasses import dataclass

from django.http import HttpResponse
from django.template.loader import render_to_string

from bitloot.core.store import store


@dataclass(frozen=True)
class Stop:
    status: int
    headline: str
    paragraphs: tuple[str, ...]
    button: str = "Back to the shop"


FORBIDDEN = Stop(
    403,
    "You may not open this page",
    ("This page is not meant for visitors. If you came here from a link, please go back and try another way.",),
    "See all games",
)
FORM_REFUSED = Stop(
    403,
    "Please send the form again",
    (
        "We could not tell whether the form came from our own page, so nothing was ordered. This happens when the page"
        " was open for very long or when cookies are blocked.",
        "Allow cookies for this site, go back, reload the page and send the form again.",
    ),
)
NOT_FOUND = Stop(
    404,
    "This page does not exist",
    (
        "The address may have been mistyped, or the game is no longer for sale. If you are looking for an order,"
        " open it with the link we e-mailed you.",
    ),
    "See all games",
)
TOO_OFTEN = Stop(
    429,
    "A little too fast",
    (
        "We got very many requests from your network in a short time, so this one was not handled."
        " Please wait a minute and try again: nothing was lost.",
    ),
)
BROKEN = Stop(
    500,
    "Something broke on our side",
    (
        "It has been noted. Please try again in a minute. If you were placing an order: sending the form again does not"
        " order twice, and no money moves without you sending it.",
    ),
)


def stop_page(stop: Stop, *, headers: dict[str, str] | None = None) -> HttpResponse:
    # Rendered without the request: context processors read the session, and a page about a broken database must not.
    return HttpResponse(render_to_string("stop.html", vars(stop) | store()), status=stop.status, headers=headers)
