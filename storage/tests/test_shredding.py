"""Keys that are destroyed: by staff, and by the sweep when their retention has ended."""

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from bitloot.tests.parallel import at_once
from orders.exceptions import InvalidTransition
from orders.models import OrderEvent
from storage import services, tasks
from storage.exceptions import KeyShredded
from storage.models import Key, KeyDeliveryLog
from storage.objects import ObjectMissing
from storage.sealing import MasterKeys, open_sealed
from storage.tests.factories import OPENER, claim, end_retention, make_key, timeline

pytestmark = pytest.mark.django_db


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
    assert timeline() == [("", "received"), ("received", "shredded")]


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

        def reveal(key=key):
            try:
                return services.reveal(order=key.item.order, keys=[key], by=OPENER)
            except KeyShredded:
                return None

        def shred(key=key):
            services.shred(Key.objects.select_related("item__order").get(pk=key.pk), reason="refunded")

        revealed, _ = at_once(reveal, shred)
        log = KeyDeliveryLog.objects.get(key=key)
        assert log.status == "deleted"
        assert log.times_accessed == (1 if revealed else 0)
