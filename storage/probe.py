"""A look at the object store: can we write, read and delete, and may a browser on our pages read?"""

import secrets
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as StillRunning

import requests
from django.conf import settings
from django.core.cache import caches

from storage.objects import PROBES, KeyStore, ObjectConflict, ObjectMissing, ObjectUnavailable, key_store

TIMEOUT = (3.05, 5)
PATIENCE = 3.0
FRESH_SECONDS = 60
_CACHED = "storage.probe"
_looking = ThreadPoolExecutor(1, thread_name_prefix="probe")
_current: "Future[list[str]] | None" = None


def problems() -> list[str]:
    """Write, read and delete a probe and ask as a browser would; return what went wrong. Files on disk are fine."""
    store = key_store()
    if not store.signs_urls:
        return []
    name = f"{PROBES}{secrets.token_hex(8)}"
    found: list[str] = []
    try:
        store.put(name, name.encode())
        if store.get(name) != name.encode():
            found.append("The object store returned other bytes than were written.")
        found += _cors(store, name)
        # Where this is not reached, a rule of the bucket removes the probe within a day (storage/bucket.py).
        store.delete(name)
    except (ObjectUnavailable, ObjectMissing, ObjectConflict) as err:
        found.append(f"The object store cannot be used: {err}. Check R2_ENDPOINT, R2_BUCKET and the token.")
    return found


def recent_problems() -> list[str]:
    """Return what `problems` found in the last minute, and wait at most a moment for a new look."""
    known: list[str] | None = caches["local"].get(_CACHED)
    if known is not None:
        return known
    try:
        return _look().result(timeout=PATIENCE)
    except StillRunning:
        return [f"The object store did not answer within {PATIENCE:g} s."]


def known_problems() -> list[str] | None:
    """As `recent_problems`, without waiting: None until a look is over."""
    known: list[str] | None = caches["local"].get(_CACHED)
    if known is None:
        _look()
    return known


def _look() -> "Future[list[str]]":
    """Return the look that is under way, or begin one: a store that hangs has one thread waiting for it."""
    global _current
    # Not locked: two callers at once begin two looks, which the one thread takes in turn.
    if _current is None or _current.done():
        _current = _looking.submit(_remember)
    return _current


def _remember() -> list[str]:
    found = problems()
    caches["local"].set(_CACHED, found, FRESH_SECONDS)
    return found


def _cors(store: KeyStore, name: str) -> list[str]:
    """Ask what a browser asks before it lets our page read an object."""
    url = store.signed_url(name, 60)
    asked = {"Origin": settings.SITE_URL, "Access-Control-Request-Method": "GET"}
    with requests.Session() as session:
        session.trust_env = False
        try:
            # As a browser would: none of our proxies (`trust_env`), and a preflight that is redirected has failed.
            answer = session.options(str(url), headers=asked, timeout=TIMEOUT, allow_redirects=False, stream=True)
        except requests.RequestException as err:
            return [f"The object store did not answer as a browser would ask: {type(err).__name__}."]
        with answer:
            allowed = answer.headers.get("Access-Control-Allow-Origin", "")
    if answer.ok and allowed in ("*", settings.SITE_URL):
        return []
    return [
        f"The object store lets no browser on {settings.SITE_URL} read (CORS). Customers get their keys from our own"
        " server meanwhile. Run `manage.py setup_bucket`."
    ]
