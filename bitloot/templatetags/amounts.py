"""Amounts and moments for people, as their language writes them: 6.49 EUR, 6,49 EUR."""

from datetime import datetime
from decimal import Decimal

from django import template
from django.conf import settings
from django.utils.formats import date_format, number_format
from django.utils.timezone import localtime
from django.utils.translation import pgettext

register = template.Library()


@register.filter
def money(amount: Decimal | str, currency: str = "") -> str:
    """Write an amount of the shop's currency, or of the one that is named."""
    return f"{number_format(Decimal(amount), 2)} {currency or settings.STORE_CURRENCY}"


@register.filter
def moment(at: datetime) -> str:
    """Write day, hour and minute. We know nobody's time zone, so all of them are UTC and say so."""
    return date_format(localtime(at), pgettext("Django's format of a moment", "j F, H:i")) + " UTC"
