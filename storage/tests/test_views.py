import json
import time

import pytest

from bitloot.core.signing import sign
from storage import services
from storage.models import Key
from storage.tests.factories import claim, make_key

pytestmark = [pytest.mark.django_db, pytest.mark.urls("storage.urls")]


@pytest.fixture(autouse=True)
def _site(settings):
    settings.SITE_URL = ""
    settings.STATIC_ROOT.mkdir(parents=True, exist_ok=True)


def test_a_link_leads_to_the_ciphertext_as_a_download(client):
    key = make_key()
    answer = client.get(services.download_url(key).url)
    assert (answer.status_code, answer.content) == (200, bytes(key.ciphertext))
    assert answer["Content-Type"] == "application/octet-stream"
    assert answer["Content-Disposition"] == "attachment"
    assert answer["Cache-Control"] == "no-store"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "ETag" not in answer
    assert "Set-Cookie" not in answer


def test_looking_has_no_effect(client):
    key = make_key()
    before = Key.objects.values().get()
    client.get(services.download_url(key).url)
    key.delivery.refresh_from_db()
    assert (Key.objects.values().get(), key.delivery.times_accessed) == (before, 0)


def _broken_links(key):
    url = services.download_url(key).url
    path, _, query = url.partition("?")
    expires, signature = (part.partition("=")[2] for part in query.split("&"))
    past = str(int(time.time()) - 1)
    return {
        "no parameters": path,
        "no signature": f"{path}?expires={expires}",
        "no end": f"{path}?signature={signature}",
        "later end": f"{path}?expires={int(expires) + 1}&signature={signature}",
        "end with a sign": f"{path}?expires=%2B{expires}&signature={signature}",
        "no number": f"{path}?expires=never&signature={signature}",
        "changed signature": f"{path}?expires={expires}&signature={_other_end(signature)}",
        "strange signature": f"{path}?expires={expires}&signature=%ff%00é",
        "other object": f"{_other_end(path)}?{query}",
        "expired": f"{path}?expires={past}&signature={sign('storage.links', key.object_name + chr(10) + past)}",
        "unknown but signed": "/objects/unknown?" + services.sign_own_url("unknown").url.partition("?")[2],
    }


def _other_end(text):
    return text[:-1] + ("0" if text[-1] != "0" else "1")


def test_every_link_that_does_not_lead_anywhere_gets_the_same_answer(client):
    answers = {why: client.get(url) for why, url in _broken_links(make_key()).items()}
    assert {why: answer.status_code for why, answer in answers.items()} == dict.fromkeys(answers, 404)
    bodies = [json.loads(answer.content) | {"request_id": ""} for answer in answers.values()]
    assert bodies == [bodies[0]] * len(answers)
    assert (bodies[0]["code"], "reveal the key again" in bodies[0]["detail"]) == ("not_found", True)


def test_a_signature_ends_with_its_secret(client, settings):
    url = services.download_url(make_key()).url
    settings.ORDER_TOKEN_SECRET = "another " * 10
    assert client.get(url).status_code == 404


def test_a_destroyed_key_is_gone_at_once(client):
    key = make_key()
    url = services.download_url(key).url
    services.shred(key, reason="refunded")
    assert client.get(url).status_code == 404


def test_a_store_that_is_away_is_503_with_a_sentence(client, stub):
    key = make_key()
    url = services.download_url(key).url
    services.upload(claim(key))
    stub.fail("GET", "503", "503")
    answer = client.get(url)
    assert (answer.status_code, answer["Retry-After"]) == (503, "60")
    assert "Try again in a few minutes" in json.loads(answer.content)["detail"]


def test_a_changed_object_is_503_and_nothing_of_it_is_shown(client, stub):
    key = make_key()
    url = services.download_url(key).url
    services.upload(claim(key))
    stub.fail("GET", "flip a bit")
    answer = client.get(url)
    assert answer.status_code == 503
    assert answer["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("method", ["post", "put", "delete", "patch", "head", "options"])
def test_only_get_is_taken(client, method):
    assert getattr(client, method)(services.download_url(make_key()).url).status_code == 405
