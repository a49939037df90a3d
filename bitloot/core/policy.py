"""Exceptions from the Content Security Policy of the settings."""

from csp.decorators import csp_replace

# For pages whose library turns text into markup as soon as it is loaded: the admin's jQuery, and Swagger's.
without_trusted_types = csp_replace({"require-trusted-types-for": None, "trusted-types": None})
