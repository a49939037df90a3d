"""A bought key as it comes: text and pictures are shown, everything else is handed over as a download.

What was paid for is never kept from its buyer because of its label, so nothing here refuses a serial that is there.
"""

import base64
import binascii
import re

TEXT = "text/plain"
UNKNOWN = "application/octet-stream"
MAX_TEXT_BYTES = 64 * 1024
_DATA_URI = re.compile(r"\s*data:[^,]{0,200};base64,", re.IGNORECASE)
_WHITESPACE = re.compile(r"\s+")


def read_serial(serial: str, label: str) -> tuple[bytes, str]:
    """Return a key's bytes and the type it is handed over with. `label` is the type that the supplier names."""
    if _named(label) == TEXT:
        return read_text(serial)
    if picture := _picture(serial):
        return picture
    # As it came: the customer may still be able to read it, or can show it to the supplier.
    return _as_bytes(serial), UNKNOWN


def picture_type(content: bytes) -> str:
    """Return the type of a picture that browsers show, by its first bytes; "" for anything else."""
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if content.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if content.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    return "image/webp" if content[:4] == b"RIFF" and content[8:12] == b"WEBP" else ""


def _named(label: str) -> str:
    content_type = label.partition(";")[0].strip().lower()
    return TEXT if content_type == "text" else content_type


def read_text(serial: str) -> tuple[bytes, str]:
    """Return a code's bytes and whether they are shown or handed over as a download."""
    content = _as_bytes(serial)
    # The page shows a text; one with halves of a character cannot be shown, and a long one is better saved.
    shown = len(content) <= MAX_TEXT_BYTES and content.decode("utf-8", "replace").encode() == content
    return content, TEXT if shown else UNKNOWN


def _picture(serial: str) -> tuple[bytes, str] | None:
    """Return a picture whatever its label says, if it is one, written as base64 in any of its spellings."""
    content = _from_base64(_DATA_URI.sub("", serial, count=1))
    content_type = picture_type(content) if content else ""
    return (content, content_type) if content and content_type else None


def _from_base64(encoded: str) -> bytes | None:
    """Decode base64 that may be wrapped, unpadded or in the alphabet for URLs."""
    plain = _WHITESPACE.sub("", encoded).rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


def _as_bytes(serial: str) -> bytes:
    # A lone half of a surrogate pair is not text in UTF-8, and JSON can carry one all the same.
    return serial.encode("utf-8", "surrogatepass")
