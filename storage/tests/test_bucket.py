"""Setting a bucket up, and looking whether it works, against a server that checks signatures and against moto."""

from io import StringIO

import boto3
import pytest
from django.core.cache import caches
from django.core.management import CommandError, call_command
from moto import mock_aws

from storage import bucket, probe
from storage.r2 import R2Storage
from tools.dev.supervise import wait_until


@pytest.fixture(autouse=True)
def forgotten():
    caches["local"].clear()


@pytest.fixture
def moto():
    with mock_aws():
        boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="bitloot-keys")
        yield R2Storage(
            bucket_name="bitloot-keys",
            endpoint_url="https://s3.amazonaws.com",
            access_key="key",
            secret_key="secret",
            region_name="us-east-1",
        )


def test_an_empty_bucket_lacks_everything_and_then_nothing(moto):
    assert len(bucket.differences(moto)) == 3
    bucket.set_up(moto)
    assert bucket.differences(moto) == []
    bucket.set_up(moto)
    assert len(moto.client.get_bucket_cors(Bucket=moto.bucket_name)["CORSRules"]) == 1


def test_rules_of_others_stay(moto):
    theirs = {"ID": "theirs", "AllowedOrigins": ["https://else.example"], "AllowedMethods": ["PUT"]}
    moto.client.put_bucket_cors(Bucket=moto.bucket_name, CORSConfiguration={"CORSRules": [theirs]})
    bucket.set_up(moto)
    rules = moto.client.get_bucket_cors(Bucket=moto.bucket_name)["CORSRules"]
    assert [rule["ID"] for rule in rules] == ["theirs", "bitloot"]


def test_no_rule_may_ever_destroy_a_key():
    for rule in bucket.lifecycle_rules():
        assert "Expiration" not in rule or rule["Filter"]["Prefix"] == "probe-"


def test_without_a_bucket_there_is_nothing_to_set_up_or_look_at():
    assert probe.problems() == []
    with pytest.raises(CommandError, match="R2_BUCKET"):
        call_command("setup_bucket")


def test_a_real_server_is_set_up_and_checked(r2):
    with pytest.raises(CommandError):
        call_command("setup_bucket", "--check", stdout=StringIO())
    call_command("setup_bucket", stdout=StringIO())
    call_command("setup_bucket", "--check", stdout=StringIO())
    assert probe.problems() == []
    assert not r2.client.list_objects_v2(Bucket=r2.bucket_name, Prefix="probe-").get("KeyCount")
    r2.client.delete_bucket_cors(Bucket=r2.bucket_name)


def test_a_browser_that_may_not_read_is_named(stub, settings):
    stub.lets_read = "https://else.example"
    (problem,) = probe.problems()
    assert "setup_bucket" in problem
    stub.lets_read = settings.SITE_URL
    assert [probe.problems(), stub.objects] == [[], {}]


def test_a_store_that_refuses_is_named(stub):
    stub.fail("PUT", "403")
    (problem,) = probe.problems()
    assert "cannot be used" in problem
    assert "403" in problem


@pytest.mark.django_db
def test_readyz_names_it_and_looks_once_a_minute(stub, client, settings):
    settings.METRICS_TOKEN = "a-token-of-ours"
    token = {"Authorization": "Bearer a-token-of-ours"}
    stub.fail("PUT", "403")

    def is_named():
        return any("403" in line for line in client.get("/readyz", headers=token).json()["degraded"])

    # On a busy machine the first look may take longer than /readyz waits for it.
    wait_until(is_named, seconds=30, what="the refusal")
    calls = len(stub.calls)
    client.get("/readyz", headers=token)
    assert len(stub.calls) == calls


def test_stored_rules_are_compared_with_our_pages(settings, moto):
    bucket.set_up(moto)
    settings.SITE_URL = "https://moved.example"
    assert len(bucket.differences(moto)) == 1
