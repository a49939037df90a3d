"""Entries that hold together: each carries the SHA-256 of the one before, so none can be changed, moved or left out.

A digest is over the entry as RFC 8785 writes it, so that any program can check a pack without BitLoot.
"""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

import rfc8785

FORMAT = "bitloot-evidence-1"
START = "0" * 64

Entry = dict[str, Any]


def chained(parts: Iterable[tuple[str, str, dict[str, Any]]]) -> list[Entry]:
    """Make entries of (kind, moment, facts)."""
    entries: list[Entry] = []
    before = START
    for number, (kind, at, facts) in enumerate(parts, start=1):
        entry = {"number": number, "kind": kind, "at": at, "facts": facts, "before": before}
        entries.append(entry)
        before = digest_of(entry)
    return entries


def digest_of(entry: Entry) -> str:
    return hashlib.sha256(rfc8785.dumps(entry)).hexdigest()


def problems(pack: Any) -> Iterator[str]:
    """Yield what is wrong with a pack that somebody brings; nothing if it is as it was made."""
    if not isinstance(pack, dict) or pack.get("format") != FORMAT or not isinstance(pack.get("entries"), list):
        yield f"This is not a pack of the format {FORMAT}."
        return
    before = START
    for number, entry in enumerate(pack["entries"], start=1):
        if not isinstance(entry, dict) or entry.get("number") != number:
            yield f"Entry {number} is missing, or not in its place."
            return
        if entry.get("before") != before:
            yield f"Entry {number - 1 or 1} was changed, or an entry before {number} was left out."
            return
        try:
            before = digest_of(entry)
        except (rfc8785.CanonicalizationError, TypeError):
            yield f"Entry {number} holds what no pack can hold."
            return
    if pack.get("digest") != before:
        yield "The last entry was changed, or entries after it were left out: the final digest is another one."
