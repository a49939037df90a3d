"""A webhook's body as staff read it: as it came, indented, and beside the one before it."""

import json
import re
import unicodedata
from collections.abc import Iterator
from typing import Any

# Nested deeper, a small body would become megabytes of blanks.
DEEPEST_INDENT = 30
BYTES_PER_LINE = 16
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')


def view_of(body: bytes) -> dict[str, Any]:
    """Return the body for staff: as it came (as hex if it is no text), and indented if it is JSON."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return {"size": len(body), "hex": hexdump(body)}
    return {"size": len(body), "raw": visible(text), "pretty": visible(indented(text))}


def indented(text: str) -> str:
    """Indent JSON without reading it into values: numbers, repeated members and their order stay as they were sent."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return ""
    lines, depth = [""], 0
    for part in _TOKEN.findall(text):
        if part in "}]":
            depth -= 1
            lines.append(_indent(depth))
        lines[-1] += f"{part} " if part == ":" else part
        depth += part in "{["
        if part in "{[,":
            lines.append(_indent(depth))
    # What is empty, {} or [], stays on one line.
    return re.sub(r"([{\[])\n\s*([}\]])", r"\1\2", "\n".join(line.rstrip() for line in lines))


def _indent(depth: int) -> str:
    return "  " * min(depth, DEEPEST_INDENT)


def visible(text: str) -> str:
    """Write characters that hide or reorder others (controls, bidi marks) as their code points."""
    return "".join(f"⟨U+{ord(sign):04X}⟩" if _hides(sign) else sign for sign in text)


def _hides(sign: str) -> bool:
    return unicodedata.category(sign) in ("Cc", "Cf", "Cs", "Co") and sign not in "\n\t"


def hexdump(body: bytes) -> str:
    lines = []
    for start in range(0, len(body), BYTES_PER_LINE):
        part = body[start : start + BYTES_PER_LINE]
        shown = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"{start:06x}  {part.hex(' '):<{3 * BYTES_PER_LINE}} {shown}")
    return "\n".join(lines)


def differences(before: bytes, now: bytes) -> list[tuple[str, str, str]] | None:
    """Return each key whose value differs, with both values as they were sent; None unless both are JSON."""
    try:
        old, new = (dict(_leaves(json.loads(body, parse_int=_AsSent, parse_float=_AsSent))) for body in (before, now))
    except (ValueError, RecursionError):
        return None
    names = dict.fromkeys((*old, *new))
    return [(name, old.get(name, ""), new.get(name, "")) for name in names if old.get(name) != new.get(name)]


class _AsSent(str):
    """A number, digit for digit."""

    __slots__ = ()


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if value and isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, f"{path}.{name}" if path else name)
    elif value and isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _leaves(inner, f"{path}[{number}]")
    else:
        text = str(value) if isinstance(value, _AsSent) else json.dumps(value, ensure_ascii=False)
        yield visible(path or "the body"), visible(text)
