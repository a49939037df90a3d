"""This machine and its installation: settings, versions, clocks, disk, static files, certificate."""

import email.utils
import platform
import shutil
import socket
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit

import django
import requests
from django.conf import settings
from django.core import checks
from django.db import connection
from packaging.requirements import Requirement

from bitloot.core.database import what_is_missing
from bitloot.ops.doctor.finding import Finding, judged, look, ok, wrong

TIMEOUT = 5
OFF, FAR_OFF = 5, 60  # seconds
SCARCE, FULL = 0.15, 0.05  # shares of the disk
RENEW, EXPIRING = 21, 7  # days


def configuration() -> Iterator[Finding]:
    yield ok("every setting was read")  # or this process would not have started
    for sentence in settings.DOUBTFUL_SETTINGS:
        yield look(sentence, "Correct it in the environment and restart web, worker and beat.")
    if settings.DEBUG:
        yield look("DEBUG is on: this is no shop for customers", "Set DEBUG=0 in production.")
        return
    for message in checks.run_checks(include_deployment_checks=True):
        if not message.is_silenced():
            yield look(f"{message.id}: {message.msg.splitlines()[0]}", message.hint or "See Django's documentation.")


def versions() -> Iterator[Finding]:
    yield ok(f"Python {platform.python_version()}, Django {django.get_version()}")
    other = [text for line in _pinned() if (text := _differs(line))]
    if other:
        shown = ", ".join(other[:5])
        yield look(
            f"{len(other)} packages are not the pinned ones: {shown}", "Run `make install`, or build the image again."
        )


def _pinned() -> list[str]:
    path = Path(settings.BASE_DIR) / "requirements.txt"
    lines = path.read_text().splitlines() if path.is_file() else []
    return [line.removesuffix("\\").strip() for line in lines if line and not line.startswith((" ", "#"))]


def _differs(line: str) -> str:
    wanted = Requirement(line)
    if wanted.marker is not None and not wanted.marker.evaluate():
        return ""
    try:
        installed = metadata.version(wanted.name)
    except metadata.PackageNotFoundError:
        return f"{wanted.name} is missing"
    return "" if wanted.specifier.contains(installed, prereleases=True) else f"{wanted.name} {installed}"


def migrations() -> Iterator[Finding]:
    if missing := what_is_missing():
        remedy = "Run `manage.py migrate`, once the database answers."
        yield wrong(f"this version waits for {missing}", remedy)
    else:
        yield ok("the database has every migration")


def clocks() -> Iterator[Finding]:
    yield from _clock("the database", _database_clock())
    yield from _clock("NOWPayments", _provider_clock(f"{settings.NOWPAYMENTS_BASE_URL}/status"))
    yield from _clock("Kinguin", _provider_clock(settings.KINGUIN_BASE_URL))


def _clock(whose: str, theirs: float | None) -> Iterator[Finding]:
    if theirs is None:
        return
    apart = abs(time.time() - theirs)
    sentence = f"the clock of {whose} and ours are {apart:.0f} s apart"
    remedy = (
        "Run an NTP service (chrony, systemd-timesyncd) on every machine: codes, links and tokens end by the clock."
    )
    yield judged(sentence, remedy, is_wrong=apart >= FAR_OFF, is_close=apart >= OFF)


def _database_clock() -> float | None:
    if connection.vendor != "postgresql":
        return None  # a file has none
    with connection.cursor() as cursor:
        cursor.execute("SELECT extract(epoch FROM clock_timestamp())")
        return float(cursor.fetchone()[0])


def _provider_clock(url: str) -> float | None:
    """Read the time that a provider writes into any answer, to the second; whether it is well is not asked here."""
    with requests.Session() as session:
        # As our clients ask: by no proxy, and with no .netrc, of this shell's environment.
        session.trust_env = False
        try:
            date = session.get(url, timeout=TIMEOUT, allow_redirects=False, stream=True).headers.get("Date")
        except requests.RequestException:
            return None
    try:
        return email.utils.parsedate_to_datetime(date).timestamp() if date else None
    except ValueError:  # what it wrote is no date, so it says nothing of our clock
        return None


def disk() -> Iterator[Finding]:
    usage = shutil.disk_usage(settings.VAR_DIR)
    left = usage.free / usage.total
    sentence = f"{usage.free / 1024**3:.1f} GiB ({left:.0%}) are free at {settings.VAR_DIR}"
    remedy = "Delete old backups and logs, or give it more room, before nothing can be written."
    yield judged(sentence, remedy, is_wrong=left < FULL, is_close=left < SCARCE)


def static_files() -> Iterator[Finding]:
    if settings.DEBUG:
        yield ok("with DEBUG they come from the source")
    elif (Path(settings.STATIC_ROOT) / "staticfiles.json").is_file():
        yield ok("collected")
    else:
        yield wrong(f"none are collected in {settings.STATIC_ROOT}: pages answer 500", "Run `manage.py collectstatic`.")


def certificate() -> Iterator[Finding]:
    site = urlsplit(settings.SITE_URL)
    if site.scheme != "https":
        yield ok("the shop is on loopback and needs none")
        return
    remedy = (
        "See the certificate's part of docs/deploy.md or docs/deploy-without-docker.md; `docker compose logs certbot`,"
        " or `certbot renew`, says why it was not renewed."
    )
    try:
        days = _days_left(str(site.hostname), site.port or 443)
    except ssl.SSLCertVerificationError as err:
        yield wrong(f"browsers refuse the certificate of {site.hostname}: {err.verify_message}", remedy)
    except OSError as err:
        sentence = (
            f"{site.hostname} cannot be reached from here ({type(err).__name__}), so its certificate was not seen"
        )
        yield look(sentence, "Look from outside as well; a firewall may keep the server from reaching itself.")
    else:
        sentence = f"the certificate of {site.hostname} ends in {days} days"
        yield judged(sentence, remedy, is_wrong=days < EXPIRING, is_close=days < RENEW)


def _days_left(host: str, port: int) -> int:
    context = ssl.create_default_context()
    with (
        socket.create_connection((host, port), TIMEOUT) as plain,
        context.wrap_socket(plain, server_hostname=host) as tls,
    ):
        ends = ssl.cert_time_to_seconds(str((tls.getpeercert() or {})["notAfter"]))
    return (datetime.fromtimestamp(ends, UTC) - datetime.now(UTC)).days
