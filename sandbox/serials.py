"""Licence keys: text that looks like a real one, or a picture of it."""

import base64
import hashlib
import hmac
import struct
import zlib

ALPHABET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
# Five rows of three pixels per character, one octal digit a row.
# fmt: off
FONT = {
    "2": "61247", "3": "61216", "4": "55711", "5": "74616", "6": "34652", "7": "71222", "8": "25252", "9": "25316",
    "A": "25755", "B": "65656", "C": "34443", "D": "65556", "E": "74647", "F": "74644", "G": "34553", "H": "55755",
    "J": "11152", "K": "55655", "L": "44447", "M": "57755", "N": "75555", "P": "65644", "Q": "25573", "R": "65655",
    "S": "34216", "T": "72222", "U": "55557", "V": "55552", "W": "55775", "X": "55255", "Y": "55222", "Z": "71247",
    "-": "00700",
}
# fmt: on
SCALE = 4
MARGIN = 8
NOISE_ROWS = 4


def serial_for(secret: str, *parts: object) -> str:
    digest = _digest(secret, *parts)
    letters = [ALPHABET[byte % 32] for byte in digest[:15]]
    return "-".join("".join(letters[start : start + 5]) for start in (0, 5, 10))


def picture_of(serial: str, secret: str) -> str:
    """Draw the serial over a strip of random pixels; return the PNG in base64."""
    rows = [_text_row(serial, row) for row in range(5)] + _noise(len(serial) * 4, secret, serial)
    return base64.b64encode(_png(_enlarge(rows))).decode()


def _text_row(serial: str, row: int) -> list[int]:
    pixels = []
    for character in serial:
        bits = int(FONT[character][row], 8)
        pixels += [0 if bits & mask else 255 for mask in (4, 2, 1)] + [255]
    return pixels


def _noise(width: int, secret: str, serial: str) -> list[list[int]]:
    rows = [[255] * width]
    for row in range(NOISE_ROWS):
        shades = b"".join(_digest(secret, serial, row, block) for block in range(width // 32 + 1))
        rows.append(list(shades[:width]))
    return rows


def _enlarge(rows: list[list[int]]) -> list[bytes]:
    side = b"\xff" * MARGIN
    lines = [side + b"".join(bytes([pixel]) * SCALE for pixel in row) + side for row in rows for _ in range(SCALE)]
    blank = b"\xff" * len(lines[0])
    return [blank] * MARGIN + lines + [blank] * MARGIN


def _png(lines: list[bytes]) -> bytes:
    header = struct.pack(">IIBBBBB", len(lines[0]), len(lines), 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + line for line in lines), 9)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _digest(secret: str, *parts: object) -> bytes:
    return hmac.new(secret.encode(), ":".join(map(str, parts)).encode(), hashlib.sha256).digest()
