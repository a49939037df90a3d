import json

import pytest

from webhooks.payload import differences, hexdump, indented, view_of, visible


def test_indented_json_keeps_every_token_as_it_was_sent():
    sent = '{"b":1.10,"a":[1e3,{"x":"{ [ ,: \\" }"}],"b":2,"empty":{},"none":[]}'
    assert indented(sent) == "\n".join(
        [
            "{",
            '  "b": 1.10,',
            '  "a": [',
            "    1e3,",
            "    {",
            '      "x": "{ [ ,: \\" }"',
            "    }",
            "  ],",
            '  "b": 2,',
            '  "empty": {},',
            '  "none": []',
            "}",
        ]
    )


@pytest.mark.parametrize("body", ["", "{", "[1,]", "no json", "[" * 100_000])
def test_what_is_no_json_is_not_indented(body):
    assert indented(body) == ""


def test_deep_json_stays_small():
    assert len(indented("[" * 500 + "]" * 500)) < 100_000
    assert json.loads(indented("[" * 500 + "1" + "]" * 500))


def test_hidden_characters_are_shown_by_their_code_points():
    assert visible("a\u202eb\x1b\n\té") == "a⟨U+202E⟩b⟨U+001B⟩\n\té"


def test_binary_bodies_are_shown_as_hex():
    shown = view_of(b"\xff\xfe<b>" + bytes(20))
    assert shown["size"] == 25
    assert shown["hex"].splitlines()[0].startswith("000000  ff fe 3c 62 3e 00")
    assert shown["hex"].splitlines()[0].endswith(" ..<b>...........")
    assert len(shown["hex"].splitlines()) == 2
    assert hexdump(b"") == ""


def test_text_bodies_are_shown_as_they_came_and_indented():
    assert view_of(b'{"a":1}') == {"size": 7, "raw": '{"a":1}', "pretty": '{\n  "a": 1\n}'}
    assert view_of(b"plain") == {"size": 5, "raw": "plain", "pretty": ""}


def test_difference_names_each_key_that_changed_with_both_values_as_they_were_sent():
    before = b'{"a":1.10,"same":1,"list":[1,{"x":"y"}],"gone":null,"text":"1"}'
    now = b'{"a":1.1,"same":1,"list":[1,{"x":"z"},2],"text":1,"new":{}}'
    assert differences(before, now) == [
        ("a", "1.10", "1.1"),
        ("list[1].x", '"y"', '"z"'),
        ("gone", "null", ""),
        ("text", '"1"', "1"),
        ("list[2]", "", "2"),
        ("new", "", "{}"),
    ]
    assert differences(b"{}", b"\xff") is differences(b"{", b"{}") is differences(b"[" * 100_000, b"{}") is None
    assert differences(b'{"a":1}', b'{ "a" : 1 }') == []
