import json
import logging
import sys
import threading
import uuid

import pytest
from django.http import HttpRequest

from bitloot.core import logs
from bitloot.core.logs import HIDDEN, Facts, JsonLine, Line, Redactor
from bitloot.core.signing import sign

SECRET = "our+own(secret)*of.many$letters-0123456789"


def line(message, *arguments, exc_info=None):
    record = logging.LogRecord("payments.sync", logging.INFO, "sync.py", 1, message, arguments, exc_info)
    Facts().filter(record)
    return Line(secrets=[SECRET]).format(record)


def after_time(text):
    return text.split(" ", 2)[2]


def test_a_line_has_the_facts_that_are_known_in_one_order():
    with logs.about(client="192.0.2.0/24", request="r1"):
        assert after_time(line("hello %s", "you")) == ("INFO payments.sync request=r1 client=192.0.2.0/24 hello you")
        logs.note(order="o1", staff="ada")
        assert after_time(line("hello")) == (
            "INFO payments.sync request=r1 order=o1 client=192.0.2.0/24 staff=ada hello"
        )
    assert after_time(line("hello")) == "INFO payments.sync hello"


def test_facts_end_with_their_block_and_stay_in_their_thread():
    seen = []
    with logs.about(request="outer"):
        with logs.about(order="inner"):
            logs.note(staff="ada")
            assert logs.known_facts() == {"request": "outer", "order": "inner", "staff": "ada"}
        thread = threading.Thread(target=lambda: seen.append(logs.known_facts()))
        thread.start()
        thread.join()
        assert logs.known_facts() == {"request": "outer"}
    assert seen == [{}]


def test_a_fact_noted_outside_of_a_block_stays_in_no_thread():
    logs.note(order="o1")
    assert logs.known_facts() == {}


def test_what_django_logs_after_the_request_has_its_id():
    record = logging.makeLogRecord({"name": "django.request", "msg": "Not Found", "request": HttpRequest()})
    record.request.request_id = "r1"
    Facts().filter(record)
    assert record.facts == " request=r1"


def test_nobodys_text_makes_a_second_line_or_a_second_fact():
    with logs.about(staff="eve staff=ada\nrequest=r2", order=""):
        shown = line("their answer: %s", "no\r\n2026-01-01 INFO forged\u2028line")
    assert len(shown.splitlines()) == 1
    assert " staff=eve_staff=ada_request=r2 their answer: no\\n2026-01-01 INFO forged\\nline" in shown


def test_a_traceback_keeps_its_lines_and_loses_its_secrets():
    try:
        raise ValueError(f"refused {SECRET}")
    except ValueError as err:
        shown = line("it failed", exc_info=(ValueError, err, err.__traceback__))
    assert len(shown.splitlines()) > 2
    assert SECRET not in shown
    assert f"ValueError: refused {HIDDEN}" in shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"key {SECRET}!", f"key {HIDDEN}!"),
        ("postgres://bitloot:pass-word@db:5432/bitloot", f"postgres://{HIDDEN}@db:5432/bitloot"),
        ("GET /objects/k?expires=17&signature=abc.def-1 HTTP", f"GET /objects/k?expires=17&signature={HIDDEN} HTTP"),
        (
            "https://r2/k?X-Amz-Credential=AKIA%2Fauto&X-Amz-Date=2&X-Amz-Signature=00ff",
            f"https://r2/k?X-Amz-Credential={HIDDEN}&X-Amz-Date=2&X-Amz-Signature={HIDDEN}",
        ),
        ("Authorization: Bearer a.1.17.x", f"Authorization: Bearer {HIDDEN}"),
        (f"Authorization: Token {'0f' * 32}", f"Authorization: Token {HIDDEN}"),
        ("basic dXNlcjpwYXNz", f"basic {HIDDEN}"),
        ("sold AAAAA-BBBBB-CCCCC to nobody", f"sold {HIDDEN} to nobody"),
        ("sold 4f9a2-0c1de-77aab-9q8w7", f"sold {HIDDEN}"),
        ("to ada.lovelace+games@example.org: 550", f"to {HIDDEN}@example.org: 550"),
        ('to "ada.lovelace"@example.org', f"to {HIDDEN}@example.org"),
    ],
)  # fmt: skip
def test_what_opens_something_or_names_someone_is_hidden(text, shown):
    assert Redactor([SECRET])(text) == shown


def test_order_tokens_links_and_codes_are_hidden_wherever_they_stand():
    for text in (sign("salt", "value"), f"a.1.17.{sign('salt', 'value')}", f"#c.{uuid.uuid4().hex}.{sign('s', 'v')}"):
        assert text.rpartition(".")[2] not in Redactor()(f"see /orders/1{text}, then")


@pytest.mark.parametrize(
    "text",
    [
        "order 7d9e8f10-1a2b-4c3d-8e4f-5a6b7c8d9e0f: pending -> paid",
        "kinguin POST /v2/order: 201 in 12 ms",
        "payments.payment 12345678-1234-1234-1234-123456789012 failed",
        "2026-01-31 12:00:00,000 needs 0.00012 btc of client 2001:db8::/64",
        "the token is too old, ask for a token of today",
    ],
)
def test_everyday_words_stay(text):
    assert Redactor([SECRET])(text) == text


def test_without_secrets_nothing_is_hidden_by_value():
    assert Redactor(["", ""])("plain") == "plain"


def test_a_line_of_json_has_the_same_facts_and_hides_the_same(capsys):
    try:
        raise ValueError(SECRET)
    except ValueError:
        failed = sys.exc_info()
    record = logging.LogRecord("payments.sync", logging.INFO, "sync.py", 1, "a\nsecret: %s", (SECRET,), failed)
    record.call = {"provider": "kinguin", "status": 200, "milliseconds": 12}
    with logs.about(request="r1", order="o1"):
        Facts().filter(record)
    text = JsonLine(secrets=[SECRET]).format(record)
    found = json.loads(text)
    traceback = found.pop("traceback")
    assert found.pop("time").endswith("+00:00")
    assert found == {
        "level": "INFO", "logger": "payments.sync", "request": "r1", "order": "o1", "message": f"a\nsecret: {HIDDEN}",
        "provider": "kinguin", "status": 200, "milliseconds": 12,
    }  # fmt: skip
    assert traceback.endswith(f"ValueError: {HIDDEN}")
    assert (SECRET in text, "\n" in text) == (False, False)
