"""Regions in the reader's language, where the shop knows them."""

from django import template

from bitloot.shop.words import region_name

register = template.Library()
register.filter(region_name)
