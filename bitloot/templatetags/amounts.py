"""Amounts and moments for people, as their language writes them: 6.49 EUR, 6,49 EUR."""

from datetime import datetime
from decimal import Decimal

from django import template
from django.utils.formats import date_format
from django.utils.timezone import localtime
from django.utils.translation import pgettext

from bitloot.core.money import money

register = template.Library()


@register.filter(name="money")
def _money(amount: Decimal | str, currency: str = "") -> str:
    return money(Decimal(amount), currency)


@register.filter
def moment(at: datetime) -> str:
    """Write day, hour and minute. We know nobody's time zone, so all of them are UTC and say so."""
    return date_format(localtime(at), pgettext("Django's format of a moment", "j F, H:i")) + " UTC"
