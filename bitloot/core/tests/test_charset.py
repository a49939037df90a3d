import json

import pytest

from bitloot.core.charset import readable_only


def status_of(content_type):
    statuses = []

    def inside(_environ, start_response):
        start_response("200 OK", [])
        return [b""]

    b"".join(readable_only(inside)({"CONTENT_TYPE": content_type}, lambda status, _: statuses.append(status)))
    return statuses[0]


@pytest.mark.parametrize("parameter", [
    "charset=hex", "charset=rot13", "charset=zlib", "charset=undefined", "charset=idna", "charset=\0", "Charset=BASE64",
    "x*=nonsense''y", "boundary=x; charset*=utf-8''hex",
])  # fmt: skip
def test_what_no_text_can_be_read_with_is_refused(parameter):
    assert status_of(f"multipart/form-data; {parameter}").startswith("415")


@pytest.mark.parametrize("content_type", [
    "", "application/json", "application/json; charset=utf-8", 'text/plain; charset="UTF-8"', "text/plain; a=b",
    "application/x-www-form-urlencoded; charset=iso-8859-1", "text/plain; charset=utf-16", "aplication/json;",
])  # fmt: skip
def test_other_requests_are_answered(content_type):
    assert status_of(content_type).startswith("200")


def test_who_is_refused_reads_why():
    headers = {}
    answer = readable_only(lambda *_: pytest.fail("it went on"))
    sent = b"".join(answer({"CONTENT_TYPE": "application/json; charset=hex"}, lambda _, sent: headers.update(sent)))
    assert (headers["Content-Type"], headers["Content-Length"]) == ("application/problem+json", str(len(sent)))
    said = json.loads(sent)
    assert (said["status"], said["code"]) == (415, "unsupported_media_type")
    assert said["detail"].endswith("Send UTF-8.")
