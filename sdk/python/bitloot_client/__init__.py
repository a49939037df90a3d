"""A typed client of a BitLoot shop: `bitloot_client.rest` is generated, the opening of keys is here."""

from bitloot_client.keys import KeyDamaged, KeyUnreachable, OpenedKey, fetch_and_open, open_key

__all__ = ["KeyDamaged", "KeyUnreachable", "OpenedKey", "fetch_and_open", "open_key"]
