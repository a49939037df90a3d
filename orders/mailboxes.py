"""Which addresses we write to, and how many orders may mail one mailbox or one domain."""

import re
import unicodedata
from datetime import timedelta
from email.utils import quote
from typing import Any

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import EmailValidator
from django.db.models.functions import Now
from django.utils.functional import SimpleLazyObject
from django.utils.translation import gettext_lazy as _

from bitloot.core.hosts import in_ascii
from bitloot.core.limits import count_each
from bitloot.core.signing import keyed_digest
from bitloot.core.smtp import has_plain_name
from orders.models import Email

HOUR = 3600
ORDERS_PER_MAILBOX = 40
ORDERS_PER_DOMAIN = 300
# Where so many people have their mailbox that a limit would lock them all out for one attacker.
LARGE_DOMAINS = frozenset(
    {
        "gmail.com", "googlemail.com", "outlook.com", "hotmail.com", "live.com", "msn.com", "yahoo.com", "icloud.com",
        "me.com", "aol.com", "proton.me", "protonmail.com", "gmx.de", "gmx.net", "web.de", "t-online.de", "mail.ru",
        "yandex.ru", "qq.com", "163.com", "126.com", "naver.com", "docomo.ne.jp", "ezweb.ne.jp", "softbank.ne.jp",
        "yahoo.co.jp", "orange.fr", "free.fr", "libero.it", "wp.pl", "o2.pl", "seznam.cz",
    }
)  # fmt: skip
# Japanese carriers gave out addresses with dots in a row and at the end.
_DOTTED = re.compile(r"[-!#$%&'*+/=?^_`{}|~0-9A-Za-z.]+")
_LETTER = re.compile(r"[^\x00-\x7f]")
# How one mailbox may be spelled: to many mail servers "kim"@, k.im@ and kim@ are the same.
_DECORATION = str.maketrans("", "", '".\\')
# Ends of names that mean something inside of a network only.
_INSIDE = (".local", ".localdomain", ".localhost", ".internal")

NO_LETTERS = "Our mail server does not take addresses with letters such as é or 用 before the @."  # of the failed mail
LETTERS_SENTENCE = _(
    "We cannot write to an address with letters such as é or 用 before the @. Please give another one: the link to your"
    " key goes there."
)
TOO_MANY_ORDERS = _("There were too many orders for this address. Try again in an hour.")


class MailboxValidator(EmailValidator):
    """Django's, without hosts that only our own mail server knows, and with dots anywhere in the local part."""

    # Compiled on first use, like Django's own: that takes 50 ms, and most commands never need it.
    user_regex: Any = SimpleLazyObject(
        lambda: re.compile(rf"(?:{EmailValidator.user_regex.pattern})|(?:{_DOTTED.pattern}\Z)", re.IGNORECASE)
    )
    literal_regex = re.compile(r"(?!)")  # no address literal: root@[10.0.0.1] would be mailed inside our network

    def __call__(self, value: str | None) -> None:
        local, at, host = str(value or "").rpartition("@")
        # No-break spaces, marks that turn the direction of writing.
        if not local.isprintable() or not _is_written_as_it_is_read(host) or host.lower().endswith(_INSIDE):
            raise ValidationError(self.message, code=self.code, params={"value": value})
        # Django knows ASCII only. Any other letter stands where one of those may.
        super().__call__(_LETTER.sub("x", local) + at + in_ascii(host))


def _is_written_as_it_is_read(host: str) -> bool:
    """Return whether it is a host's name, and in the one spelling that it has."""
    try:
        in_ascii(host)
    except UnicodeError:
        return False
    return True


validate_mailbox = MailboxValidator(allowlist=[])  # Django's list has localhost


class MailboxInput(forms.TextInput):
    """Not type=email: with that, browsers refuse letters beyond ASCII before the @."""

    def __init__(self, attrs: dict[str, Any] | None = None) -> None:
        keyboard = {"inputmode": "email", "autocomplete": "email", "autocapitalize": "none", "spellcheck": "false"}
        # The title is what browsers say of an address that is cut off.
        shape = {"pattern": r".+@.+\..+", "title": _("you@example.org")}
        super().__init__({**keyboard, **shape, **(attrs or {})})


class MailboxField(forms.EmailField):
    default_validators = [validate_mailbox]
    widget = MailboxInput

    def to_python(self, value: Any) -> Any:
        return tidy(super().to_python(value) or "")


def tidy(address: str) -> str:
    """Return the address as it is kept and compared: a letter with an accent can be typed as one sign or as two."""
    return unicodedata.normalize("NFC", address.strip())


def letters_are_taken() -> bool:
    """Return whether our mail reaches names with such letters, as far as is known.

    What a provider's API takes is documented. What a mail server takes is seen when the first such mail leaves; for a
    day after one that failed, customers are asked for another address at once.
    """
    if not settings.EMAIL_TAKES_LETTERS:
        return False
    day_ago = Now() - timedelta(days=1)
    return not Email.objects.filter(status=Email.Status.FAILED, error=NO_LETTERS, created_at__gt=day_ago).exists()


def is_beyond_us(address: str) -> bool:
    return not has_plain_name(address) and not letters_are_taken()


def deliverable(address: str) -> str:
    """Return the address as mail programs write it: a local part that is not plain words and dots is quoted.

    The host is written here: Django would make strasse.de of straße.de.
    """
    local, _, host = address.rpartition("@")
    is_plain = all(local.split(".")) or local.startswith('"')
    name = local if is_plain else f'"{quote(local)}"'
    return f"{name}@{_in_ascii(host)}"


def is_mailed_too_often(address: str) -> bool:
    """Count one more order for this mailbox and domain; return whether one of them has had too many in an hour."""
    if not settings.THROTTLE_SCALE:
        return False
    local, _, host = tidy(address).lower().rpartition("@")
    plain = local.translate(_DECORATION).partition("+")[0]  # kim+1@ and kim+2@ arrive in one mailbox
    mailbox = f"{plain}@{_in_ascii(host)}"
    limits = [(mailbox, ORDERS_PER_MAILBOX)]
    if host not in LARGE_DOMAINS:
        limits.append((_in_ascii(host), ORDERS_PER_DOMAIN))
    # The cache holds no addresses. Each is counted, also if the first is over its limit already.
    counts = count_each([f"orders:{keyed_digest('orders.mailboxes', name)}" for name, _ in limits], seconds=HOUR)
    return any(n > most * settings.THROTTLE_SCALE for n, (_, most) in zip(counts, limits, strict=True))


def _in_ascii(host: str) -> str:
    """Return one spelling for bücher.example and xn--bcher-kva.example."""
    try:
        return in_ascii(host)
    except UnicodeError:
        return host
