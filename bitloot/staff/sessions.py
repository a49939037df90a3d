"""The sessions of the admin: whose each is, and where it began."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth import SESSION_KEY, get_user_model
from django.contrib.auth.signals import user_logged_in
from django.contrib.sessions.models import Session
from django.db.models.functions import Now
from django.dispatch import receiver
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from bitloot.core.api import client_network
from bitloot.core.sessions import SessionStore

MAX_SESSIONS = 1_000
_BEGAN = "signed_in"


@dataclass(frozen=True)
class Begun:
    """How a session began, as it remembers."""

    user_id: str
    network: str
    agent: str
    at: datetime | None


@receiver(user_logged_in)
def remember(request: Any, user: Any, **_: Any) -> None:
    """Let the session know where it began, for the list of sessions."""
    session = getattr(request, "session", None)
    if session is not None:
        agent = request.headers.get("User-Agent", "")[:200].replace("\x00", "")
        session[_BEGAN] = {"network": client_network(request), "agent": agent, "at": timezone.now().isoformat()}


def begun(session: Session) -> Begun:
    held = SessionStore().decode(session.session_data)
    began = held.get(_BEGAN, {})
    at = parse_datetime(began.get("at", ""))
    return Begun(str(held.get(SESSION_KEY, "")), began.get("network", ""), began.get("agent", ""), at)


def last_page(session: Session) -> datetime:
    """Return when a page was last opened with it."""
    # Each page that is opened moves the end on by this much (`has_permission` in site.py).
    return session.expire_date - timedelta(seconds=settings.SESSION_COOKIE_AGE)


def live() -> list[Session]:
    """Return the sessions of accounts that have not ended, the latest first, at most MAX_SESSIONS."""
    # Whose a session is stands inside of it: to choose from them, each has to be decoded.
    rows = Session.objects.filter(expire_date__gt=Now()).order_by("-expire_date")[:MAX_SESSIONS]
    return [row for row in rows if begun(row).user_id]


def names_of(sessions: Iterable[Session]) -> dict[str, str]:
    """Return the names of the sessions' accounts by their ids."""
    ids = {begun(session).user_id for session in sessions}
    users = get_user_model().objects.filter(pk__in=ids)
    return {str(user.pk): user.get_username() for user in users}
