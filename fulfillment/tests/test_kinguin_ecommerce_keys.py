"""The keys of an order at Kinguin's eCommerce API: page by page, as text, picture or download."""

import base64
import json
import logging

import pytest
import responses
from responses.matchers import query_param_matcher

from bitloot.core.providers import ProviderUnavailable
from fulfillment.kinguin import (
    KinguinRejected,
    SupplierKey,
    UnreadableKey,
)
from fulfillment.tests.kinguin_wire import (
    KEYS,
    ORDER_ID,
    PRODUCT_ID,
    client,
    recorded,
)

__all__ = ["client"]  # a fixture

KEY = recorded("keys_text")[0]

PNG = recorded("keys_image")[0]


def test_key_text(client, wire):
    wire.get(KEYS, json=recorded("keys_text"), match=[query_param_matcher({"page": "1", "limit": "3"})])
    assert client.delivered(ORDER_ID) == [
        SupplierKey("6a20aa31e4d991383ee20001", b"FAKE1-FAKE2-FAKE3", "text/plain", PRODUCT_ID)
    ]


def test_key_image(client, wire):
    wire.get(KEYS, json=recorded("keys_image"))
    [key] = client.delivered(ORDER_ID)
    assert (key.content_type, key.serial) == ("image/png", base64.b64decode(PNG["serial"]))


def test_keys_pending(client, wire):
    wire.get(KEYS, json=recorded("keys_empty"))
    assert client.delivered(ORDER_ID) == []


def test_keys_pending_as_answered_until_2024(client, wire):
    wire.get(KEYS, json={"kind": "OrderNotDispatchedYet", "status": 422, "detail": "Not yet."}, status=422)
    assert client.delivered(ORDER_ID) == []


def test_keys_of_an_unknown_order_are_rejected(client, wire):
    wire.get(KEYS, json=recorded("error_order_not_found_STATUS_ASSUMED"), status=404)
    with pytest.raises(KinguinRejected):
        client.delivered(ORDER_ID)


def numbered(first, last):
    return [{**KEY, "id": f"key{number}", "serial": f"SERIAL-{number}"} for number in range(first, last + 1)]


def test_keys_are_paged_until_the_last(client, wire):
    for page, rows in enumerate([numbered(1, 3), numbered(4, 6), numbered(7, 7)], 1):
        wire.get(KEYS, json=rows, match=[query_param_matcher({"page": str(page), "limit": "3"})])
    assert [key.key_id for key in client.delivered(ORDER_ID)] == [f"key{number}" for number in range(1, 8)]


def test_keys_of_a_host_that_ignores_the_page_are_read_once(client, wire):
    wire.get(KEYS, json=numbered(1, 9))
    assert len(client.delivered(ORDER_ID)) == 9
    assert len(wire.calls) == 2


def test_keys_repeated_on_another_page_count_once(client, wire):
    wire.get(KEYS, json=[*numbered(1, 2), *numbered(2, 2)])
    wire.get(KEYS, json=[*numbered(2, 3), *numbered(1, 1)])
    wire.get(KEYS, json=[])
    assert [key.serial for key in client.delivered(ORDER_ID)] == [b"SERIAL-1", b"SERIAL-2", b"SERIAL-3"]


def test_keys_without_end_are_no_answer(client):
    with responses.RequestsMock() as mock:
        pages = iter(range(1, 1000))
        mock.add_callback(
            "GET",
            KEYS,
            lambda _: (200, {}, json.dumps([{**KEY, "id": f"{page}-{i}"} for page in [next(pages)] for i in "abc"])),
        )
        with pytest.raises(ProviderUnavailable, match="do not end"):
            client.delivered(ORDER_ID)
        assert len(mock.calls) == 40


@pytest.mark.parametrize("serial", ["", " ", "\n\t", None])
def test_keys_without_a_serial_are_not_there_yet(client, wire, serial):
    wire.get(KEYS, json=[{**KEY, "serial": serial}])
    assert client.delivered(ORDER_ID) == []


def test_a_key_may_have_several_lines_and_any_script(client, wire):
    serial = "Zeile 1: ключ\r\nhttps://redeem.example/ 🎮  "
    wire.get(KEYS, json=[{**KEY, "serial": serial, "type": "Text/Plain; charset=utf-8"}])
    assert [key.serial for key in client.delivered(ORDER_ID)] == [serial.encode()]


JPEG, GIF = b"\xff\xd8\xff\xe0rest", b"GIF89arest"


@pytest.mark.parametrize(("kind", "image"), [("image/jpeg", JPEG), ("image/gif", GIF), ("IMAGE/JPEG", JPEG)])
def test_an_image_of_each_kind(client, wire, kind, image):
    wire.get(KEYS, json=[{**KEY, "type": kind, "serial": base64.b64encode(image).decode()}])
    assert [(key.serial, key.content_type) for key in client.delivered(ORDER_ID)] == [(image, kind.lower())]


WEBP = b"RIFF\x1a\x00\x00\x00WEBPVP8 "

PNG_BYTES = base64.b64decode(PNG["serial"])

ODD_PICTURES = {
    "a line break": (PNG["serial"][:40] + "\r\n" + PNG["serial"][40:], "image/png", PNG_BYTES),
    "no padding": (base64.b64encode(JPEG + b"x").decode().rstrip("="), "image/jpeg", JPEG + b"x"),
    "the alphabet of URLs": (base64.urlsafe_b64encode(JPEG + b"\xfb\xff").decode(), "image/jpeg", JPEG + b"\xfb\xff"),
    "a data URI": ("data:image/png;base64," + PNG["serial"], "image/png", PNG_BYTES),
    "a data URI with parameters": ("\n data:image/png;name=key.png;base64," + PNG["serial"], "image/png", PNG_BYTES),
    "WebP": (base64.b64encode(WEBP).decode(), "image/webp", WEBP),
}


@pytest.mark.parametrize("label", ["image/png", "image/jpg", "IMAGE/JPG; name=key", "application/pdf", "", None])
@pytest.mark.parametrize("name", ODD_PICTURES)
def test_a_picture_is_what_its_bytes_say_however_it_is_written_and_labelled(client, wire, name, label):
    written, content_type, content = ODD_PICTURES[name]
    wire.get(KEYS, json=[{**KEY, "type": label, "serial": written}])
    assert [(key.serial, key.content_type) for key in client.delivered(ORDER_ID)] == [(content, content_type)]


@pytest.mark.parametrize(
    ("label", "serial"),
    [
        ("image/svg+xml", "<svg>SECRET</svg>"),
        ("application/pdf", "SECRET"),
        ("", "SECRET"),
        (None, "AAAA-BBBB-CCCC"),
        (7, "SECRET"),
        ("text/html", "<b>SECRET</b>"),
        ("image/png", "SECRET-SECRET"),
        ("image/png", "SECRÉT"),
        ("image/png", base64.b64encode(b"<html>SECRET").decode()),
        ("image/png", "data:image/png,SECRET"),
        ("text/plain", "x" * (64 * 1024 + 1)),
        ("text/plain", "half a pair \ud83d"),
    ],
)
def test_what_cannot_be_shown_is_handed_over_as_it_came(client, wire, label, serial):
    wire.get(KEYS, json=[{**KEY, "type": label, "serial": serial}])
    [key] = client.delivered(ORDER_ID)
    assert (key.serial, key.content_type) == (serial.encode("utf-8", "surrogatepass"), "application/octet-stream")


@pytest.mark.parametrize(
    "serial",
    [
        "x" * 64 * 1024,
        "é" * 32 * 1024,
        "one\r\ntwo\r\n",
        "NUL \x00 in it",
        "\u202eright to left",
        "😀",
        "\ufeffBOM",
        "a\xa0b",
    ],
)
@pytest.mark.parametrize("label", ["text/plain", "TEXT/PLAIN; charset=utf-16", "text"])
def test_any_text_is_shown_byte_for_byte(client, wire, label, serial):
    wire.get(KEYS, json=[{**KEY, "type": label, "serial": serial}])
    [key] = client.delivered(ORDER_ID)
    assert (key.serial, key.content_type) == (serial.encode(), "text/plain")


def test_a_number_is_a_code(client, wire):
    wire.get(KEYS, json=[{**KEY, "serial": 12345678901234567890}])
    assert [key.serial for key in client.delivered(ORDER_ID)] == [b"12345678901234567890"]


UNREADABLE = [{"serial": ["SECRET"]}, {"serial": {"code": "SECRET"}}, {"serial": True}]


@pytest.mark.parametrize("members", UNREADABLE)
def test_an_unreadable_key_is_named_and_its_neighbours_are_kept(client, wire, members):
    wire.get(KEYS, json=[{**KEY, "id": "bad1", "serial": "SECRET", **members}, {**KEY, "id": "good"}])
    with pytest.raises(UnreadableKey) as caught:
        client.delivered(ORDER_ID)
    assert caught.value.key_id == "bad1"
    assert [key.key_id for key in caught.value.readable] == ["good"]
    assert "SECR" not in repr(caught.value) + str(caught.value)
    assert caught.value.__context__ is None or caught.value.__suppress_context__


@pytest.mark.parametrize("row", [1, None, [], {}, {**KEY, "id": None}, {**KEY, "id": 7}, {**KEY, "id": "../x"}])
def test_a_key_without_an_id_is_named_and_its_neighbours_are_kept(client, wire, row):
    wire.get(KEYS, json=[row, {**KEY, "id": "good"}])
    with pytest.raises(UnreadableKey, match="it has no id") as caught:
        client.delivered(ORDER_ID)
    assert [key.key_id for key in caught.value.readable] == ["good"]


def test_a_page_that_cannot_be_read_withholds_no_key_of_the_pages_before_it(client, wire):
    wire.get(KEYS, json=[{**KEY, "id": f"good{number}"} for number in range(3)])
    wire.get(KEYS, body=b"<html>")
    with pytest.raises(UnreadableKey, match="Key page 2 is unreadable") as caught:
        client.delivered(ORDER_ID)
    assert [key.key_id for key in caught.value.readable] == ["good0", "good1", "good2"]


def test_no_serial_is_ever_in_a_repr_or_a_log_line(client, wire, caplog):
    caplog.set_level(logging.DEBUG)
    wire.get(KEYS, json=recorded("keys_two_text"))
    keys = client.delivered(ORDER_ID)
    assert len(keys) == 2
    assert "FAKE" not in repr(keys) + str(keys[0]) + caplog.text
