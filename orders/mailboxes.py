"""Which addresses we write to, and how many orders may mail one mailbox or one domain."""

import re
from email.utils import quote

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import EmailValidator
from django.utils.translation import gettext_lazy as _

from bitloot.core.limits import count
from bitloot.core.signing import keyed_digest

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


LETTERS = "letters"
LETTERS_SENTENCE = _(
    "We cannot write to an address with letters such as é or 用 before the @. Please give another one: the link to your"
    " key goes there."
)
TOO_MANY_ORDERS = _("There were too many orders for this address. Try again in an hour.")


class MailboxValidator(EmailValidator):
    """Django's, without hosts that only our own mail server knows, and with dots anywhere in the local part."""

    user_regex = re.compile(rf"(?:{EmailValidator.user_regex.pattern})|(?:{_DOTTED.pattern}\Z)", re.IGNORECASE)
    literal_regex = re.compile(r"(?!)")  # no address literal: root@[10.0.0.1] would be mailed inside our network

    def __call__(self, value: str | None) -> None:
        # Such mailboxes exist, but Django writes the name in another form, which a mail server takes for another one.
        if not str(value or "").rpartition("@")[0].isascii():
            raise ValidationError(LETTERS_SENTENCE, code=LETTERS)
        super().__call__(value)


validate_mailbox = MailboxValidator(allowlist=[])  # Django's list has localhost


def deliverable(address: str) -> str:
    """Return the address as mail programs write it: a local part that is not plain words and dots is quoted."""
    local, _, host = address.rpartition("@")
    is_plain = all(local.split(".")) or local.startswith('"')
    return address if is_plain else f'"{quote(local)}"@{host}'


def is_mailed_too_often(address: str) -> bool:
    """Count one more order for this mailbox and domain; return whether one of them has had too many in an hour."""
    if not settings.THROTTLE_SCALE:
        return False
    local, _, host = address.lower().rpartition("@")
    mailbox = f"{local.partition('+')[0]}@{host}"  # kim+1@ and kim+2@ arrive in one mailbox
    limits = [(mailbox, ORDERS_PER_MAILBOX)]
    if host not in LARGE_DOMAINS:
        limits.append((host, ORDERS_PER_DOMAIN))
    # The cache holds no addresses. Each is counted, also if the first is over its limit already.
    counts = [count(f"orders:{keyed_digest('orders.mailboxes', name)}", seconds=HOUR) for name, _ in limits]
    return any(n > most * settings.THROTTLE_SCALE for n, (_, most) in zip(counts, limits, strict=True))
