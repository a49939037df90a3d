"""R2Storage against moto: the requests that leave, without a server of its own."""

from collections import Counter
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest
from django.core.files.base import ContentFile
from django.utils import timezone
from moto import mock_aws

from storage.objects import ObjectConflict, ObjectMissing
from storage.r2 import R2Files, R2Storage
from tools.dev.supervise import free_port

BODY = b"sealed bytes"
BUCKET = "bitloot-keys"


@pytest.fixture
def r2():
    with mock_aws():
        boto3.client("s3", region_name="us-east-1").create_bucket(Bucket=BUCKET)
        store = R2Storage(
            bucket_name=BUCKET,
            endpoint_url="https://s3.amazonaws.com",
            access_key="key-of-the-store",
            secret_key="secret-of-the-store",
            region_name="us-east-1",
        )
        store.seen = Counter()
        store.client.meta.events.register("before-call.s3", lambda model, **_: store.seen.update([model.name]))
        yield store


def test_put_is_one_conditional_request(r2):
    conditions = []
    r2.client.meta.events.register(
        "before-call.s3.PutObject", lambda params, **_: conditions.append(params["headers"].get("If-None-Match"))
    )
    r2.put("a-name", BODY)
    assert r2.seen == {"PutObject": 1}
    assert conditions == ["*"]
    assert r2.get("a-name") == BODY


def test_second_put_of_the_same_bytes_is_recognised(r2):
    r2.put("a-name", BODY)
    r2.put("a-name", BODY)
    assert r2.get("a-name") == BODY


def test_put_never_overwrites_other_bytes(r2):
    r2.put("a-name", BODY)
    with pytest.raises(ObjectConflict):
        r2.put("a-name", b"other bytes")
    assert r2.get("a-name") == BODY


def test_missing_object_is_told_apart(r2):
    with pytest.raises(ObjectMissing):
        r2.get("nobody")


def test_delete_is_final_and_repeatable(r2):
    r2.put("a-name", BODY)
    r2.delete("a-name")
    r2.delete("a-name")
    with pytest.raises(ObjectMissing):
        r2.get("a-name")


def test_signed_url_names_one_object_for_a_while_and_not_the_secret(r2):
    url = r2.signed_url("a-name", 900)
    asked = parse_qs(urlsplit(url).query)
    assert urlsplit(url).path.endswith("/a-name")
    assert asked["X-Amz-Expires"] == ["900"]
    assert asked["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
    assert "secret-of-the-store" not in url


@pytest.fixture
def shown():
    """The store of what everybody sees, such as covers."""
    with mock_aws():
        boto3.client("s3", region_name="us-east-1").create_bucket(Bucket=BUCKET)
        yield R2Files(
            bucket_name=BUCKET,
            endpoint_url="https://s3.amazonaws.com",
            access_key="key-of-the-store",
            secret_key="secret-of-the-store",
            region_name="us-east-1",
        )


def test_what_is_shown_is_listed_dated_written_again_and_deleted(shown):
    for body in (BODY, b"the same picture, say"):
        assert shown.save("covers/a.webp", ContentFile(body)) == "covers/a.webp"
        assert shown.open("covers/a.webp").read() == body
    shown.save("keys/b", ContentFile(BODY))
    assert shown.listdir("covers") == ([], ["a.webp"])
    assert abs(timezone.now() - shown.get_modified_time("covers/a.webp")) < timedelta(minutes=1)
    shown.delete("covers/a.webp")
    assert shown.listdir("covers") == ([], [])


@pytest.mark.parametrize("read", [R2Files.open, R2Files.get_modified_time])
def test_what_is_not_there_is_a_file_that_is_not_found(shown, read):
    with pytest.raises(FileNotFoundError):
        read(shown, "covers/nothing.webp")


@pytest.mark.parametrize(
    "call",
    [
        lambda files: files.listdir("covers"),
        lambda files: files.get_modified_time("covers/a.webp"),
        lambda files: files.open("covers/a.webp"),
        lambda files: files.delete("covers/a.webp"),
        lambda files: files.save("covers/a.webp", ContentFile(BODY)),
    ],
)
def test_a_silent_store_is_an_error_of_the_system_to_who_reads_files(call):
    nobody = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(OSError, match="is not reached|does not answer|Error"):
        call(R2Files(bucket_name=BUCKET, endpoint_url=nobody, access_key="key", secret_key="secret"))
