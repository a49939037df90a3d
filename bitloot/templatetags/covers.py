from django import template

from bitloot.shop.covers import cover_path

register = template.Library()
register.filter(cover_path)
