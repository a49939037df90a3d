"""One-time codes that bring an order's token: the one a checkout leaves in the address bar, and six digits by mail.

Only what a code is for rests in the database. The codes themselves are derived from the row and our secret.
"""

import hmac
import uuid
from datetime import timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Now

from bitloot.core import queries, wakeup
from bitloot.core.signing import is_signed, keyed_digest, sign
from orders.access import make_token
from orders.exceptions import CodeRefused
from orders.mailboxes import tidy
from orders.models import CODE_LIVES_FOR, AccessCode, Email, Order

CODES_PER_HOUR = 3
TRIES = 5
KEPT_FOR = timedelta(days=1)
_SALT = "bitloot.orders.code"
# Made out of the order's own row, so that the same statements run for an order that does not exist.
_OWE_MAIL = """
INSERT INTO orders_email (order_id, kind, "to", reason, status, error, attempts, crashes)
SELECT id, %s, email, '', 'queued', '', 0, 0 FROM orders_order WHERE id = %s
"""
_MAKE_CODE = """
INSERT INTO orders_accesscode (id, order_id, kind, tries) SELECT %s, id, 'mail', 0 FROM orders_order WHERE id = %s
"""


def hand_over_code(order: Order) -> str:
    """Return a code for the address bar; browsers keep addresses, and this one opens nothing the second time."""
    code = AccessCode(order=order, kind=AccessCode.Kind.HAND_OVER)
    queries.insert(code)
    return f"c.{code.pk.hex}.{sign(_SALT, code.pk.hex)}"


def mail_code(*, order_id: uuid.UUID, email: str) -> None:
    """Mail six digits to the order's own address if it is this one; the same statements run either way.

    At most three an hour, and a new one ends those before it: what can be guessed at stays 15 tries an hour.
    """
    with transaction.atomic():
        # Locked as `Order.lock` does it, so that parallel requests cannot pass the limit together.
        order = Order.objects.select_for_update(no_key=True).filter(pk=order_id).first()
        recent = Email.objects.filter(
            order_id=order_id, kind=Email.Kind.ACCESS_CODE, created_at__gt=Now() - timedelta(hours=1)
        ).count()
        matches = order is not None and order.email.lower() == tidy(email).lower()
        # The nil id belongs to no order: a stranger's guess runs the same statements and changes nothing.
        pk = order_id if matches and recent < CODES_PER_HOUR else uuid.UUID(int=0)
        end_codes(pk)
        owe_mail(pk, Email.Kind.ACCESS_CODE)
        queries.execute(_MAKE_CODE, [_stored(uuid.uuid4()), _stored(pk)])
    wakeup.notify("orders")


def redeem(*, order_id: uuid.UUID, text: str) -> str:
    """Return the order's token for a code. Raises CodeRefused, the same for whatever is wrong with it."""
    code = text.strip().replace(" ", "")
    row = _handed_over(order_id, code) if code.startswith("c.") else _mailed(order_id, code)
    # Read before the code is spent: links that are ended in between take the token along with them.
    order = Order.objects.get(pk=order_id)
    # Compare-and-set: of two that send the same code at once one gets the token.
    if _open_codes(order_id).filter(pk=row.pk).update(ended_at=Now()) != 1:
        raise CodeRefused
    return make_token(order, "api")


def digits_of(row: AccessCode) -> str:
    return f"{int(keyed_digest(_SALT, f'digits:{row.pk.hex}'), 16) % 1_000_000:06}"


def code_to_mail(order: Order) -> AccessCode | None:
    """Return the code that can still be entered, unless the order's links were ended since `order` was read."""
    mailed = _open_codes(order.pk).filter(kind=AccessCode.Kind.MAIL)
    # In one statement: a code that was asked for after a correction must not go to the address before it.
    return mailed.filter(order__link_generation=order.link_generation).order_by("-created_at").first()


def owe_mail(order_id: uuid.UUID, kind: Email.Kind) -> None:
    """Owe the order's address a mail; nothing happens if there is no such order."""
    queries.execute(_OWE_MAIL, [kind.value, _stored(order_id)])


def end_codes(order_id: uuid.UUID) -> None:
    """End what was handed out and not used; with the links, or when a newer code is mailed."""
    _open_codes(order_id).update(ended_at=Now())


def reap() -> int:
    deleted, _ = AccessCode.objects.filter(created_at__lt=Now() - KEPT_FOR).delete()
    return deleted


def _handed_over(order_id: uuid.UUID, code: str) -> AccessCode:
    _, name, signature = (*code.split(".", 2), "", "")[:3]
    # The signature first: what we did not make up is not even looked for.
    if not is_signed(_SALT, name, signature):
        raise CodeRefused
    row = _open_codes(order_id).filter(pk=uuid.UUID(hex=name), kind=AccessCode.Kind.HAND_OVER).first()
    if row is None:
        raise CodeRefused
    return row


def _mailed(order_id: uuid.UUID, code: str) -> AccessCode:
    mailed = _open_codes(order_id).filter(kind=AccessCode.Kind.MAIL, tries__lt=TRIES)
    row = mailed.order_by("-created_at").first()
    # The try is counted before the digits are compared, in one statement: parallel guesses get no more than five.
    if row is None or mailed.filter(pk=row.pk).update(tries=F("tries") + 1) != 1:
        raise CodeRefused
    # compare_digest raises for text that is not ASCII.
    if not (code.isascii() and hmac.compare_digest(code, digits_of(row))):
        raise CodeRefused
    return row


def _open_codes(order_id: uuid.UUID) -> QuerySet[AccessCode]:
    return AccessCode.objects.filter(order_id=order_id, ended_at=None, created_at__gt=Now() - CODE_LIVES_FOR)


def _stored(value: uuid.UUID) -> Any:
    return Order._meta.pk.get_db_prep_value(value, connection)
