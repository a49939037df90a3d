import base64
import dataclasses
import hashlib
import threading
import uuid
from datetime import UTC, datetime, timedelta
from unittest import mock

import pytest
import requests
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import aes_key_wrap
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from bitloot.core.queue import LeaseLost
from orders.alerts import raise_alert
from orders.exceptions import InvalidTransition
from orders.models import Alert, OrderEvent
from storage import services, tasks
from storage.exceptions import KeyBelongsElsewhere, KeyShredded, KeyUnreadable
from storage.models import Key, KeyDeliveryLog
from storage.objects import ObjectMissing, key_store
from storage.sealing import MasterKeys, WrappedKey, master_key_ready, open_sealed
from storage.tests.factories import OPENER, SERIAL, claim, make_item, make_key

pytestmark = pytest.mark.django_db
UNPADDED = "=="


def opened(material, ciphertext):
    """Open a key as the browser does: with what reveal hands out and the bytes behind the link."""
    raw = {name: base64.urlsafe_b64decode(getattr(material, name) + UNPADDED) for name in ("data_key", "nonce", "aad")}
    return AESGCM(raw["data_key"]).decrypt(raw["nonce"], ciphertext, raw["aad"])


def rotate(settings):
    settings.KEY_ENCRYPTION_SECRET, old = "n" * 43, settings.KEY_ENCRYPTION_SECRET
    settings.KEY_ENCRYPTION_SECRET_FALLBACKS = [old]
    return MasterKeys.from_secrets("n" * 43).primary.id, MasterKeys.from_secrets(old).primary.id


def end_retention(key):
    KeyDeliveryLog.objects.filter(key=key).update(expires_at=timezone.now() - timedelta(seconds=1))


def timeline(key):
    return [(event.from_status, event.to_status) for event in OrderEvent.objects.filter(kind="key").order_by("id")]


# --- Sealing a key that came -----------------------------------------------------------------------------------------


def test_a_stored_key_is_sealed_bound_and_logged(settings):
    settings.KEY_ENVIRONMENT = "staging"
    item = make_item()
    key = services.store_key(item=item, supplier_key_id="k-1", plaintext=SERIAL, content_type="text/plain")
    key.refresh_from_db()
    assert (key.status, key.supplier_key_id, key.environment) == ("received", "k-1", "staging")
    assert key.ciphertext_sha256 == hashlib.sha256(key.ciphertext).hexdigest()
    assert open_sealed(key.sealed(bytes(key.ciphertext)), key.binding, keys=MasterKeys.from_settings()) == SERIAL
    assert key.binding.order == str(item.order_id)
    assert timeline(key) == [("", "received")]


def test_the_delivery_log_says_who_may_open_it_until_when(settings):
    settings.KEY_RETENTION_DAYS = 10
    key = make_key(make_item("bea@example.org"))
    log = key.delivery
    log.refresh_from_db()
    assert (log.order_id, log.customer_email, log.object_key) == (key.item.order_id, "bea@example.org", key.object_name)
    assert (log.status, log.times_accessed, log.last_accessed_at) == ("stored", 0, None)
    assert abs(log.expires_at - timezone.now() - timedelta(days=10)) < timedelta(minutes=1)


def test_the_clear_key_is_in_no_column_and_no_repr(caplog):
    caplog.set_level("DEBUG")
    key = make_key()
    columns = Key.objects.filter(pk=key.pk).values_list().get() + KeyDeliveryLog.objects.values_list().get()
    for shown in (*columns, repr(key), str(key), repr(vars(key)), caplog.text):
        assert SERIAL not in (bytes(shown) if isinstance(shown, bytes | memoryview) else str(shown).encode())


def test_the_same_supplier_key_again_is_the_same_row():
    item = make_item()
    arguments = {"item": item, "supplier_key_id": "k-1", "plaintext": SERIAL, "content_type": "text/plain"}
    first, again = services.store_key(**arguments), services.store_key(**arguments)
    assert again.pk == first.pk
    assert bytes(again.ciphertext) == first.ciphertext
    assert (Key.objects.count(), KeyDeliveryLog.objects.count(), OrderEvent.objects.count()) == (1, 1, 1)


def test_a_key_of_another_item_is_refused_with_an_alert():
    key, other = make_key(), make_item()
    with pytest.raises(KeyBelongsElsewhere, match=f"belongs to order item {key.item_id}") as caught:
        services.store_key(item=other, supplier_key_id=key.supplier_key_id, plaintext=b"B", content_type="text/plain")
    services.report_sold_twice(caught.value)
    alert = Alert.objects.get()
    assert (alert.kind, alert.about_pk, alert.order) == ("key_sold_twice", str(key.pk), other.order)
    assert SERIAL.decode() not in alert.message
    assert not other.keys.exists()


@pytest.mark.parametrize("plaintext", [b"", bytes(services.MAX_KEY_BYTES + 1)])
def test_an_empty_or_huge_key_is_refused(plaintext):
    with pytest.raises(ValueError, match="a key has 1 to"):
        make_key(plaintext=plaintext)
    assert not Key.objects.exists()


def test_a_constraint_other_than_the_suppliers_key_is_not_swallowed():
    name = make_key().object_name
    with (
        mock.patch("storage.services.new_object_name", return_value=name),
        pytest.raises(IntegrityError),
        transaction.atomic(),
    ):
        make_key()


@pytest.mark.django_db(transaction=True)
def test_racing_workers_store_a_key_once():
    item, start, stored = make_item(), threading.Barrier(6), []

    def store():
        start.wait()
        try:
            key = services.store_key(item=item, supplier_key_id="k-1", plaintext=SERIAL, content_type="text/plain")
            stored.append(key.pk)
        finally:
            connection.close()

    run_in_threads([store] * 6)
    assert len(stored) == 6
    assert set(stored) == {Key.objects.get().pk}
    assert (KeyDeliveryLog.objects.count(), OrderEvent.objects.count()) == (1, 1)


@pytest.mark.django_db(transaction=True)
def test_of_two_items_racing_for_one_key_one_gets_it():
    items, start, stored, refused = [make_item(), make_item()], threading.Barrier(2), [], []

    def store(item):
        start.wait()
        try:
            stored.append(
                services.store_key(item=item, supplier_key_id="k-1", plaintext=SERIAL, content_type="text/plain")
            )
        except KeyBelongsElsewhere as err:
            refused.append(item)
            services.report_sold_twice(err)
        finally:
            connection.close()

    run_in_threads([lambda item=item: store(item) for item in items])
    assert (len(stored), len(refused)) == (1, 1)
    assert Key.objects.get().item_id == stored[0].item_id
    assert Alert.objects.get().kind == "key_sold_twice"


def run_in_threads(calls):
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# --- The copy in the object store ------------------------------------------------------------------------------------


def test_an_upload_to_r2_is_read_back_opened_and_only_then_dropped_here(r2, s3):
    key = make_key()
    ciphertext = key.ciphertext
    services.upload(claim(key))
    key.refresh_from_db()
    assert (key.status, key.ciphertext, key.next_attempt_at, key.claim_token) == ("stored", None, None, None)
    assert key.stored_at is not None
    assert s3.client().get_object(Bucket=s3.bucket, Key=key.object_name)["Body"].read() == ciphertext
    assert timeline(key) == [("", "received"), ("received", "stored")]


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


# --- Links -----------------------------------------------------------------------------------------------------------


def test_a_link_to_r2_opens_without_us_and_ends_in_time(r2, settings):
    settings.SIGNED_URL_TTL_SECONDS = 600
    key = make_key()
    ciphertext = key.ciphertext
    services.upload(claim(key))
    key.refresh_from_db()
    link = services.download_url(key)
    assert requests.get(link.url, timeout=60).content == ciphertext
    assert "X-Amz-Expires=600" in link.url
    assert abs(link.expires_at - datetime.now(UTC) - timedelta(seconds=600)) < timedelta(seconds=5)
    assert link.url not in repr(link)


def test_what_only_r2_holds_is_served_by_us_to_a_browser_that_cannot_reach_it(client, r2, settings):
    key = make_key()
    ciphertext = bytes(key.ciphertext)
    services.upload(claim(key))
    key.refresh_from_db()
    assert key.ciphertext is None
    link = services.fallback_url(key)
    assert link.url.startswith(f"{settings.SITE_URL}/objects/")
    assert client.get(link.url.removeprefix(settings.SITE_URL)).content == ciphertext


def test_a_link_of_ours_names_site_object_and_end(settings):
    settings.SITE_URL = "https://shop.example"
    key = make_key()
    link = services.download_url(key)
    expires = int(link.expires_at.timestamp())
    assert link.url.startswith(f"https://shop.example/objects/{key.object_name}?expires={expires}&signature=")


def test_a_destroyed_key_has_no_link():
    key = make_key()
    services.shred(key, reason="refunded")
    with pytest.raises(KeyShredded):
        services.download_url(key)


def test_an_unknown_or_destroyed_name_leads_nowhere():
    key = make_key()
    services.shred(key, reason="refunded")
    for name in (key.object_name, "unknown"):
        with pytest.raises(ObjectMissing):
            services.read_ciphertext(name)


def test_a_link_made_before_the_upload_still_leads_to_the_key(stub):
    key = make_key()
    ciphertext = key.ciphertext
    services.upload(claim(key))
    assert services.read_ciphertext(key.object_name) == ciphertext


def test_a_changed_object_is_not_handed_out(stub):
    key = make_key()
    services.upload(claim(key))
    stub.fail("GET", "flip a bit")
    with pytest.raises(KeyUnreadable, match="was changed"):
        services.read_ciphertext(key.object_name)
    assert Alert.objects.get().kind == "key_integrity"


def test_a_lost_object_is_reported(stub):
    key = make_key()
    services.upload(claim(key))
    stub.objects.clear()
    with pytest.raises(KeyUnreadable, match="is lost"):
        services.read_ciphertext(key.object_name)
    assert "gone from the store" in Alert.objects.get().message


def test_a_store_that_is_away_is_no_lost_key(stub):
    key = make_key()
    services.upload(claim(key))
    stub.fail("GET", "503", "503")
    with pytest.raises(KeyUnreadable, match="503"):
        services.read_ciphertext(key.object_name)
    assert not Alert.objects.exists()


# --- Revealing -------------------------------------------------------------------------------------------------------


def test_reveal_hands_out_what_a_browser_needs():
    key = make_key()
    (material,) = services.reveal(order=key.item.order, keys=[key], by=OPENER)
    assert (material.key.pk, material.algorithm) == (key.pk, "A256GCM")
    assert opened(material, bytes(key.ciphertext)) == SERIAL
    assert not {"=", "+", "/"} & set(material.data_key + material.nonce + material.aad)


def test_reveal_keeps_the_order_it_was_asked_in():
    item = make_item()
    keys = [make_key(item, b"key %d" % number) for number in range(4)]
    materials = services.reveal(order=item.order, keys=keys[::-1], by=OPENER)
    assert [material.key.pk for material in materials] == [key.pk for key in keys[::-1]]
    assert [opened(m, bytes(m.key.ciphertext)) for m in materials] == [b"key 3", b"key 2", b"key 1", b"key 0"]


def test_reveal_counts_each_access_and_keeps_the_first_view():
    key = make_key()
    services.reveal(order=key.item.order, keys=[key], by=OPENER)
    first = Key.objects.get().viewed_at
    assert first is not None
    services.reveal(order=key.item.order, keys=[key], by=OPENER)
    log = KeyDeliveryLog.objects.get()
    assert (log.status, log.times_accessed) == ("handed_out", 2)
    assert log.last_accessed_at >= first
    assert Key.objects.get().viewed_at == first


def test_reveal_hides_the_data_key_from_a_repr():
    key = make_key()
    (material,) = services.reveal(order=key.item.order, keys=[key], by=OPENER)
    assert material.data_key not in repr(material)


def test_reveal_of_another_orders_key_is_refused():
    mine, theirs = make_key(), make_key()
    with pytest.raises(KeyBelongsElsewhere):
        services.reveal(order=mine.item.order, keys=[mine, theirs], by=OPENER)
    assert set(KeyDeliveryLog.objects.values_list("times_accessed", flat=True)) == {0}


def test_reveal_of_a_destroyed_key_says_so():
    item = make_item()
    kept, gone = make_key(item), make_key(item)
    services.shred(gone, reason="returned")
    with pytest.raises(KeyShredded):
        services.reveal(order=item.order, keys=[kept, gone], by=OPENER)
    assert KeyDeliveryLog.objects.get(key=kept).times_accessed == 0


def test_reveal_ends_with_the_retention_even_before_the_sweep():
    key = make_key()
    end_retention(key)
    with pytest.raises(KeyShredded, match="retention"):
        services.reveal(order=key.item.order, keys=[key], by=OPENER)
    with pytest.raises(KeyShredded):
        services.ready_keys(key.item.order)


@pytest.mark.parametrize("change", [{"wrapped_data_key": b"x" * 40}, {"master_key_id": "00000000"}])
def test_reveal_of_a_key_we_cannot_open_tells_staff_and_counts_nothing(change):
    key = make_key()
    Key.objects.filter(pk=key.pk).update(**change)
    with pytest.raises(KeyUnreadable):
        services.reveal(order=key.item.order, keys=[key], by=OPENER)
    alert = Alert.objects.get()
    assert (alert.kind, alert.order) == ("key_integrity", key.item.order)
    assert "KEY_ENCRYPTION_SECRET" in alert.message
    assert KeyDeliveryLog.objects.get().times_accessed == 0


def test_reveal_takes_as_many_queries_for_three_keys_as_for_one(django_assert_num_queries):
    item = make_item()
    keys = [make_key(item) for _ in range(3)]
    services.reveal(order=item.order, keys=keys, by=OPENER)  # the first time owes a mail, and notes when it was
    for batch in (keys[:1], keys):
        with django_assert_num_queries(6):
            services.reveal(order=item.order, keys=batch, by=OPENER)


def test_ready_keys_are_those_that_open_oldest_first(django_assert_num_queries):
    item = make_item()
    keys = [make_key(item) for _ in range(3)]
    make_key()
    services.shred(keys[1], reason="returned")
    with django_assert_num_queries(1):
        assert services.ready_keys(item.order) == [keys[0], keys[2]]


def test_an_order_without_keys_has_none_ready():
    assert services.ready_keys(make_item().order) == []


# --- Destroying ------------------------------------------------------------------------------------------------------


def test_shredding_destroys_the_data_key_at_once_and_the_object_by_the_queue(stub):
    key = make_key()
    services.upload(claim(key))
    assert services.shred(key, reason="the order was refunded") is True
    row = Key.objects.get()
    assert (row.status, row.wrapped_data_key, row.ciphertext) == ("shredded", None, None)
    assert row.shredded_at is not None
    assert KeyDeliveryLog.objects.get().status == "deleted"
    assert len(stub.objects) == 1
    tasks.drain()
    assert stub.objects == {}
    assert Key.objects.get().next_attempt_at is None
    event = OrderEvent.objects.last()
    assert (event.to_status, event.message) == ("shredded", "The key was destroyed: the order was refunded")


def test_a_restored_object_does_not_open_once_its_data_key_is_gone(stub):
    key = make_key()
    services.upload(claim(key))
    backup = dict(stub.objects)
    services.shred(key, reason="refunded")
    tasks.drain()
    stub.objects.update(backup)
    row = Key.objects.get()
    with pytest.raises(Exception, match="wrapped data key was changed"):
        open_sealed(row.sealed(backup[f"/keys/{key.object_name}"]), row.binding, keys=MasterKeys.from_settings())
    with pytest.raises(ObjectMissing):
        services.read_ciphertext(key.object_name)
    with pytest.raises(KeyShredded):
        services.reveal(order=key.item.order, keys=[key], by=OPENER)


def test_shredding_again_changes_nothing():
    key = make_key()
    services.shred(key, reason="refunded")
    assert services.shred(key, reason="refunded") is False
    assert timeline(key) == [("", "received"), ("received", "shredded")]


def test_a_shredded_key_goes_nowhere_else():
    key = make_key()
    services.shred(key, reason="refunded")
    with pytest.raises(InvalidTransition, match="shredded -> stored"):
        key.move(Key.Status.STORED, message="no")


def test_a_key_shredded_while_it_is_copied_leaves_no_object_behind(stub):
    key = make_key()
    uploading = claim(key)
    services.shred(key, reason="refunded")
    assert Key.objects.get().next_attempt_at == uploading.claimed_until
    services.upload(uploading)
    assert len(stub.objects) == 1
    assert Key.objects.get().claim_token is None
    tasks.drain()
    assert stub.objects == {}
    assert Key.objects.get().status == "shredded"


def test_removing_an_object_waits_for_the_store(stub):
    key = make_key()
    services.upload(claim(key))
    services.shred(key, reason="refunded")
    stub.fail("DELETE", "503", "503")
    services.handle(claim(key))
    key.refresh_from_db()
    assert (key.attempts, key.next_attempt_at > timezone.now()) == (1, True)
    services.handle(claim(key))
    key.refresh_from_db()
    assert (stub.objects, key.next_attempt_at, key.error) == ({}, None, "")


def test_the_database_refuses_a_destroyed_key_that_still_opens():
    key = make_key()
    with pytest.raises(IntegrityError, match="key_gone_once_shredded"), transaction.atomic():
        Key.objects.filter(pk=key.pk).update(status="shredded")
    with pytest.raises(IntegrityError, match="key_openable_until_shredded"), transaction.atomic():
        Key.objects.filter(pk=key.pk).update(wrapped_data_key=None)
    with pytest.raises(IntegrityError, match="key_ciphertext_until_stored"), transaction.atomic():
        Key.objects.filter(pk=key.pk).update(ciphertext=None)


def test_the_sweep_destroys_what_is_past_its_retention_and_nothing_else(settings):
    kept, viewed, unseen = make_key(), make_key(), make_key()
    services.reveal(order=viewed.item.order, keys=[viewed], by=OPENER)
    end_retention(viewed)
    end_retention(unseen)
    assert services.expire_deliveries() == 2
    assert services.expire_deliveries() == 0
    assert list(Key.objects.exclude(status="shredded")) == [kept]
    statuses = KeyDeliveryLog.objects.values_list("key", "status")
    assert dict(statuses) == {kept.pk: "stored", viewed.pk: "expired", unseen.pk: "expired"}


def test_the_retention_task_sweeps():
    key = make_key()
    end_retention(key)
    tasks.retention()
    assert Key.objects.get().status == "shredded"


@pytest.mark.django_db(transaction=True)
def test_a_key_is_either_revealed_or_destroyed_first():
    for _ in range(5):
        key = make_key()
        revealed, start = [], threading.Barrier(2)

        def reveal(key=key, revealed=revealed, start=start):
            start.wait()
            try:
                revealed.extend(services.reveal(order=key.item.order, keys=[key], by=OPENER))
            except KeyShredded:
                revealed.append(None)
            finally:
                connection.close()

        def shred(key=key, start=start):
            start.wait()
            services.shred(Key.objects.select_related("item__order").get(pk=key.pk), reason="refunded")
            connection.close()

        run_in_threads([reveal, shred])
        log = KeyDeliveryLog.objects.get(key=key)
        assert log.status == "deleted"
        assert log.times_accessed == (1 if revealed[0] else 0)


# --- Changing the master key -----------------------------------------------------------------------------------------


def test_rewrapping_moves_every_key_to_the_primary_and_leaves_the_ciphertexts(settings):
    keys = [make_key() for _ in range(5)]
    before = {key.pk: bytes(key.ciphertext) for key in keys}
    new, old = rotate(settings)
    assert services.keys_under_other_masters() == {old: 5}
    assert services.rewrap_keys(batch=2) == 5
    assert services.rewrap_keys(batch=2) == 0
    settings.KEY_ENCRYPTION_SECRET_FALLBACKS = []
    assert services.keys_under_other_masters() == {}
    assert set(Key.objects.values_list("master_key_id", flat=True)) == {new}
    for key in Key.objects.all():
        assert bytes(key.ciphertext) == before[key.pk]
        (material,) = services.reveal(order=key.item.order, keys=[key], by=OPENER)
        assert opened(material, before[key.pk]).startswith(SERIAL)


def test_rewrapping_binds_what_an_earlier_version_wrapped_without_its_place(settings):
    former, present = make_key(), make_key()
    unbind(former)
    assert services.keys_under_other_masters() == {former.master_key_id: 1}
    (material,) = services.reveal(order=former.item.order, keys=[former], by=OPENER)
    assert opened(material, bytes(former.ciphertext)).startswith(SERIAL)
    before = bytes(present.wrapped_data_key)
    assert (services.rewrap_keys(), services.rewrap_keys()) == (1, 0)
    former.refresh_from_db()
    assert former.wrapped.is_bound
    assert bytes(Key.objects.get(pk=present.pk).wrapped_data_key) == before
    (material,) = services.reveal(order=former.item.order, keys=[former], by=OPENER)
    assert opened(material, bytes(former.ciphertext)).startswith(SERIAL)


def test_a_key_bound_meanwhile_is_not_written_again():
    key = unbind(make_key())
    stale = Key.objects.get()
    assert services.rewrap_keys() == 1
    bound = bytes(Key.objects.get().wrapped_data_key)
    assert services._rewrap([stale], MasterKeys.from_settings()) == 0
    assert bytes(Key.objects.get(pk=key.pk).wrapped_data_key) == bound


def test_a_row_moved_to_another_order_hands_out_no_data_key():
    """Its thief would open the ciphertext with the data key alone, without asking whether the tag is right."""
    victim, thief = make_key(), make_key()
    Key.objects.filter(pk=victim.pk).update(item=thief.item)
    KeyDeliveryLog.objects.filter(key=victim).update(order=thief.item.order)
    with pytest.raises(KeyUnreadable, match="does not belong here"):
        services.reveal(order=thief.item.order, keys=[Key.objects.get(pk=victim.pk)], by=OPENER)
    assert Alert.objects.get().kind == "key_integrity"


def unbind(key):
    """Wrap the data key as the first version did: under the master key, without its place."""
    keys = MasterKeys.from_settings()
    former = aes_key_wrap(keys.primary.secret, keys.unwrap(key.wrapped, key.binding))
    Key.objects.filter(pk=key.pk).update(wrapped_data_key=former)
    key.refresh_from_db()
    return key


def test_reveal_works_before_during_and_after_a_rotation(settings):
    done, waiting = make_key(), make_key()
    rotate(settings)
    assert services._rewrap([done], MasterKeys.from_settings()) == 1
    for key in (done, waiting):
        (material,) = services.reveal(order=key.item.order, keys=[key], by=OPENER)
        assert opened(material, bytes(key.ciphertext)).startswith(SERIAL)


def test_a_key_shredded_while_it_is_rewrapped_stays_shredded(settings):
    key = make_key()
    rotate(settings)
    services.shred(Key.objects.get(), reason="refunded")
    assert services._rewrap([key], MasterKeys.from_settings()) == 0
    assert Key.objects.get().wrapped_data_key is None
    assert services.rewrap_keys() == 0


def test_a_key_that_does_not_unwrap_is_left_with_an_alert_and_stops_no_other(settings):
    broken, foreign, good = make_key(), make_key(), make_key()
    Key.objects.filter(pk=broken.pk).update(wrapped_data_key=b"x" * 40)
    Key.objects.filter(pk=foreign.pk).update(master_key_id="00000000")
    new, old = rotate(settings)
    assert services.rewrap_keys(batch=1) == 1
    assert Key.objects.get(pk=good.pk).master_key_id == new
    assert services.keys_under_other_masters() == {"00000000": 1, old: 1}
    assert services.unknown_master_keys() == ["00000000"]
    assert set(Alert.objects.values_list("kind", "about_pk")) == {
        ("key_integrity", str(broken.pk)),
        ("key_integrity", str(foreign.pk)),
    }


def test_the_command_says_when_the_old_secret_can_go(settings, capsys):
    make_key()
    new, _ = rotate(settings)
    call_command("rewrap_keys")
    assert capsys.readouterr().out.splitlines() == [
        f"1 keys are now under master key {new}.",
        "None is left under another: KEY_ENCRYPTION_SECRET_FALLBACKS can go.",
    ]


def test_the_command_fails_when_keys_are_left(settings):
    make_key()
    settings.KEY_ENCRYPTION_SECRET = "q" * 43
    with pytest.raises(CommandError, match="Not re-wrapped: 1 under "):
        call_command("rewrap_keys", "--batch", "1")


def test_a_process_without_a_keys_master_key_knows_it(settings):
    key = make_key()
    assert services.unknown_master_keys() == []
    settings.KEY_ENCRYPTION_SECRET = "q" * 43
    assert master_key_ready() is True
    assert services.unknown_master_keys() == [key.master_key_id]
    services.shred(key, reason="refunded")
    assert services.unknown_master_keys() == []


# --- Swaps between rows ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "columns", [["ciphertext"], ["ciphertext", "nonce"], ["ciphertext", "nonce", "wrapped_data_key"]]
)
def test_columns_moved_to_another_row_do_not_open(columns):
    mine, theirs = make_key(), make_key()
    Key.objects.filter(pk=mine.pk).update(**{column: getattr(theirs, column) for column in columns})
    mine.refresh_from_db()
    with pytest.raises(Exception, match="does not belong here"):
        open_sealed(mine.sealed(bytes(mine.ciphertext)), mine.binding, keys=MasterKeys.from_settings())


@pytest.mark.parametrize("field", ["environment", "content_type", "item"])
def test_a_row_moved_to_another_place_does_not_open(field):
    key, other = make_key(), make_item()
    value = other if field == "item" else "elsewhere"
    Key.objects.filter(pk=key.pk).update(**{field: value})
    moved = Key.objects.get(pk=key.pk)
    with pytest.raises(Exception, match="does not belong here"):
        open_sealed(moved.sealed(bytes(moved.ciphertext)), moved.binding, keys=MasterKeys.from_settings())


def test_a_copy_under_another_key_id_does_not_open():
    key = make_key()
    binding = dataclasses.replace(key.binding, key=str(uuid.uuid4()))
    with pytest.raises(Exception, match="does not belong here"):
        open_sealed(key.sealed(bytes(key.ciphertext)), binding, keys=MasterKeys.from_settings())


def test_wrapped_key_of_a_row_is_what_sealing_made():
    key = make_key()
    assert key.wrapped == WrappedKey(bytes(key.wrapped_data_key), key.master_key_id)


def test_descriptions_name_ids_only():
    key = make_key()
    assert (str(key), str(key.delivery)) == (f"key {key.pk}", f"delivery of {key.object_name}")


def test_raising_the_store_alert_by_hand_uses_the_kind_that_uploads_close(stub):
    raise_alert("object_store", "object store", "seen by staff")
    key = make_key()
    stub.fail("PUT", "403")
    services.upload(claim(key))
    services.upload(claim(key))
    assert Alert.objects.get().status == "closed"


def test_one_code_for_two_units_is_noticed_whatever_the_supplier_calls_it():
    key = make_key(plaintext=b"SAME-CODE")
    for item in (make_item(), key.item):
        with pytest.raises(KeyBelongsElsewhere), transaction.atomic():
            make_key(item, plaintext=b" SAME-CODE\r\n")
    assert Key.objects.count() == 1
    assert "SAME" not in key.fingerprint
    assert hashlib.sha256(b"SAME-CODE").hexdigest() != key.fingerprint


def test_a_code_is_noticed_after_its_key_was_shredded_and_while_a_secret_is_rotated(settings):
    key = make_key(plaintext=b"SAME-CODE")
    services.shred(key, reason="asked")
    rotate(settings)
    with pytest.raises(KeyBelongsElsewhere):
        make_key(plaintext=b"SAME-CODE")


def test_another_store_has_other_fingerprints():
    ours, theirs = MasterKeys.from_secrets("a" * 40), MasterKeys.from_secrets("b" * 40)
    assert ours.fingerprints(b"CODE") != theirs.fingerprints(b"CODE")
