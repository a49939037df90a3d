"""Django looks for admin pages here; what staff see lives in `bitloot.staff`."""

from bitloot.staff import products, site

__all__ = ["products", "site"]
