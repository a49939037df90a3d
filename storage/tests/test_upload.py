"""The copy of a sealed key in the object store: written, read back and opened before ours is dropped."""

from datetime import timedelta
from unittest import mock

import pytest
from django.utils import timezone

from bitloot.core.queue import LeaseLost
from orders.alerts import raise_alert
from orders.models import Alert
from storage import services, tasks
from storage.models import Key
from storage.objects import key_store
from storage.tests.factories import claim, make_key, timeline

pytestmark = pytest.mark.django_db


def test_an_upload_to_r2_is_read_back_opened_and_only_then_dropped_here(r2, s3):
    key = make_key()
    ciphertext = key.ciphertext
    services.upload(claim(key))
    key.refresh_from_db()
    assert (key.status, key.ciphertext, key.next_attempt_at, key.claim_token) == ("stored", None, None, None)
    assert key.stored_at is not None
    assert s3.client().get_object(Bucket=s3.bucket, Key=key.object_name)["Body"].read() == ciphertext
    assert timeline() == [("", "received"), ("received", "stored")]


def test_an_upload_to_files_keeps_the_copy_in_the_database(objects):
    key = make_key()
    services.upload(claim(key))
    key.refresh_from_db()
    assert key.status == "stored"
    assert objects.get(key.object_name) == bytes(key.ciphertext)


def test_the_drain_works_off_uploads_and_rests_stored_rows(stub):
    keys = [make_key() for _ in range(3)]
    tasks.drain()
    assert set(Key.objects.values_list("status", "next_attempt_at")) == {("stored", None)}
    assert len(stub.objects) == 3
    services.handle(claim(keys[0]))
    assert len(stub.calls) == 6
    assert Key.objects.get(pk=keys[0].pk).next_attempt_at is None


def test_while_r2_is_down_the_key_is_served_from_the_database_and_uploaded_later(stub):
    key = make_key()
    stub.fail("PUT", "503", "503")
    services.upload(claim(key))
    key.refresh_from_db()
    assert (key.status, key.attempts, key.claim_token) == ("received", 1, None)
    assert key.error == "put: the object store answered 503 ServiceUnavailable"
    assert key.next_attempt_at > timezone.now()
    assert "/objects/" in services.download_url(key).url
    assert services.read_ciphertext(key.object_name) == bytes(key.ciphertext)
    services.upload(claim(key))
    key.refresh_from_db()
    assert (key.status, key.attempts, key.error) == ("stored", 0, "")
    assert not Alert.objects.exists()


def test_a_store_that_stays_away_raises_one_alert_which_closes_by_itself(stub):
    key, other = make_key(), make_key()
    stub.fail("PUT", *["403"] * 6)
    for _ in range(5):
        assert not Alert.objects.exists()
        services.upload(claim(key))
    assert (Alert.objects.get().kind, Alert.objects.get().status) == ("object_store", "open")
    assert "403 SignatureDoesNotMatch" in Alert.objects.get().message
    services.upload(claim(key))
    assert Alert.objects.get().times == 2
    services.upload(claim(other))
    assert Alert.objects.get().status == "open"
    services.upload(claim(key))
    assert Alert.objects.get().status == "closed"


def test_a_copy_that_reads_back_changed_is_not_trusted(stub):
    key = make_key()
    stub.fail("GET", "flip a bit")
    services.upload(claim(key))
    key.refresh_from_db()
    assert (key.status, key.attempts) == ("received", 1)
    assert key.ciphertext is not None
    alert = Alert.objects.get()
    assert (alert.kind, alert.about_pk, alert.order) == ("key_integrity", str(key.pk), key.item.order)
    assert "is not what was written" in alert.message


def test_a_stranger_under_our_name_is_not_trusted(stub):
    key = make_key()
    stub.objects[f"/keys/{key.object_name}"] = b"stranger"
    services.upload(claim(key))
    key.refresh_from_db()
    assert (key.status, Alert.objects.get().kind) == ("received", "key_integrity")
    assert stub.objects[f"/keys/{key.object_name}"] == b"stranger"


def test_a_row_that_does_not_open_is_found_by_the_upload(stub):
    key = make_key()
    Key.objects.filter(pk=key.pk).update(content_type="image/png")
    services.upload(claim(key))
    key.refresh_from_db()
    assert key.status == "received"
    assert "does not belong here" in Alert.objects.get().message


def test_a_worker_without_the_master_key_does_not_store_the_key(stub, settings):
    key = make_key()
    settings.KEY_ENCRYPTION_SECRET = "z" * 43
    services.upload(claim(key))
    key.refresh_from_db()
    assert (key.status, Alert.objects.get().kind) == ("received", "key_integrity")
    assert services.unknown_master_keys() == [key.master_key_id]


def test_an_object_that_vanishes_after_the_write_is_written_again(stub):
    key = make_key()
    put = key_store().put
    with mock.patch.object(key_store(), "put", lambda name, content: (put(name, content), stub.objects.clear())):
        services.upload(claim(key))
    key.refresh_from_db()
    assert (key.status, key.error) == ("received", "the object is not in the store")
    services.upload(claim(key))
    key.refresh_from_db()
    assert key.status == "stored"


def test_a_worker_that_lost_its_claim_records_nothing(stub):
    key = make_key()
    late, current = claim(key), claim(key)
    with pytest.raises(LeaseLost):
        services.upload(late)
    key.refresh_from_db()
    assert (key.status, key.claim_token) == ("received", current.claim_token)
    services.upload(current)
    key.refresh_from_db()
    assert key.status == "stored"


def test_a_key_that_crashes_its_workers_rests_with_an_alert():
    key = claim(make_key())
    services.give_up(key)
    key.refresh_from_db()
    assert (key.status, key.crashes, Alert.objects.get().kind) == ("received", 0, "key_integrity")
    assert timedelta(minutes=59) < key.next_attempt_at - timezone.now() < timedelta(minutes=61)


def test_raising_the_store_alert_by_hand_uses_the_kind_that_uploads_close(stub):
    raise_alert("object_store", "object store", "seen by staff")
    key = make_key()
    stub.fail("PUT", "403")
    services.upload(claim(key))
    services.upload(claim(key))
    assert Alert.objects.get().status == "closed"
