"""Covers as the shop serves them: decoded, written anew in two sizes, named by their content.

What is uploaded or fetched is never served itself: only pixels pass, so no script, position or name of a camera does.
"""

import struct
import zlib
from collections.abc import Container, Iterator
from contextlib import suppress
from datetime import datetime
from hashlib import sha256
from io import BytesIO
from typing import Any

from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.urls import reverse

MAX_BYTES = 5 * 1024 * 1024
MAX_PIXELS = 25_000_000  # decoded, that many take 100 MB
LARGE, SMALL = 800, 400  # the longer side
FOLDER = "covers"
FORMATS = ("JPEG", "PNG", "WEBP")
QUALITY = 82
_UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, IndexError, OverflowError, struct.error, zlib.error)


class BadPicture(Exception):
    """It is not kept; the message says why, and what would be."""


def keep(content: bytes) -> str:
    """Store a picture in both sizes and return the digest that names them. Raises BadPicture, or OSError."""
    if len(content) > MAX_BYTES:
        raise BadPicture(f"The picture is larger than {MAX_BYTES // 1024 // 1024} MiB. Use a smaller file.")
    large, small = _webp(content, LARGE), _webp(content, SMALL)
    digest = sha256(large).hexdigest()[:40]
    for side, body in ((LARGE, large), (SMALL, small)):
        storages["covers"].save(_place(digest, side), ContentFile(body))
    return digest


def unnamed(pictures: Container[str], *, before: datetime) -> Iterator[str]:
    """Yield the files older than `before` of pictures that are not among these. Raises OSError."""
    store = storages["covers"]
    try:
        _, files = store.listdir(FOLDER)
    except FileNotFoundError:  # no cover was ever kept
        return
    for file in files:
        place = f"{FOLDER}/{file}"
        # A picture that is kept once more is young again, before a product names it.
        with suppress(FileNotFoundError):  # somebody else removed it just now
            if file.partition("-")[0] not in pictures and store.get_modified_time(place) < before:
                yield place


def forget(place: str) -> None:
    """Remove one of the files that `unnamed` found. Raises OSError."""
    storages["covers"].delete(place)


def url(digest: str, side: int = LARGE) -> str:
    return reverse("cover", args=[digest, side])


def as_jpeg(digest: str) -> bytes:
    """Return the small size as mail programs show it. Raises OSError."""
    from PIL import Image

    with Image.open(BytesIO(read(digest, SMALL)), formats=FORMATS) as image:
        return _written(_flat(image), "JPEG")


def read(digest: str, side: int) -> bytes:
    """Return what `keep` stored. Raises FileNotFoundError, or another OSError while the object store is silent."""
    with storages["covers"].open(_place(digest, side)) as file:
        return bytes(file.read())


def _place(digest: str, side: int) -> str:
    return f"{FOLDER}/{digest}-{side}.webp"


def _webp(content: bytes, side: int) -> bytes:
    # Only where a picture comes in: Pillow takes 10 MiB of a process.
    from PIL import Image, ImageOps

    try:
        with Image.open(BytesIO(content), formats=FORMATS) as image:
            # The header says it, before a byte is decoded: a small file may unpack into gigabytes.
            if image.width * image.height > MAX_PIXELS:
                raise BadPicture(f"The picture has {image.width} × {image.height} pixels. Use one with fewer.")
            image.thumbnail((side, side))
            upright = ImageOps.exif_transpose(image)
            return _written(upright.convert("RGBA" if upright.has_transparency_data else "RGB"), "WEBP")
    except (*_UNREADABLE, Image.DecompressionBombError, Image.DecompressionBombWarning) as err:
        raise BadPicture("This picture cannot be read. Use a JPEG, PNG or WebP file.") from err


def _flat(image: Any) -> Any:
    from PIL import Image

    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")


def _written(image: Any, kind: str) -> bytes:
    # Pillow writes what it is told only: what the file said about itself stays behind.
    file = BytesIO()
    image.save(file, kind, quality=QUALITY)
    return file.getvalue()
