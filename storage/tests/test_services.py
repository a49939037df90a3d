import hashlib
from datetime import timedelta
from functools import partial
from unittest import mock

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from bitloot.tests.parallel import at_once
from orders.models import Alert, OrderEvent
from storage import services
from storage.exceptions import KeyBelongsElsewhere
from storage.models import Key, KeyDeliveryLog
from storage.sealing import MasterKeys, open_sealed
from storage.tests.factories import SERIAL, make_item, make_key, rotate, timeline

pytestmark = pytest.mark.django_db


def test_a_stored_key_is_sealed_bound_and_logged(settings):
    settings.KEY_ENVIRONMENT = "staging"
    item = make_item()
    key = services.store_key(item=item, supplier_key_id="k-1", plaintext=SERIAL, content_type="text/plain")
    key.refresh_from_db()
    assert (key.status, key.supplier_key_id, key.environment) == ("received", "k-1", "staging")
    assert key.ciphertext_sha256 == hashlib.sha256(key.ciphertext).hexdigest()
    assert open_sealed(key.sealed(bytes(key.ciphertext)), key.binding, keys=MasterKeys.from_settings()) == SERIAL
    assert key.binding.order == str(item.order_id)
    assert timeline() == [("", "received")]


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
    item = make_item()

    def store():
        return services.store_key(item=item, supplier_key_id="k-1", plaintext=SERIAL, content_type="text/plain").pk

    stored = at_once(*[store] * 6)
    assert stored == [Key.objects.get().pk] * 6
    assert (KeyDeliveryLog.objects.count(), OrderEvent.objects.count()) == (1, 1)


@pytest.mark.django_db(transaction=True)
def test_of_two_items_racing_for_one_key_one_gets_it():
    items, stored, refused = [make_item(), make_item()], [], []

    def store(item):
        try:
            stored.append(
                services.store_key(item=item, supplier_key_id="k-1", plaintext=SERIAL, content_type="text/plain")
            )
        except KeyBelongsElsewhere as err:
            refused.append(item)
            services.report_sold_twice(err)

    at_once(*[partial(store, item) for item in items])
    assert (len(stored), len(refused)) == (1, 1)
    assert Key.objects.get().item_id == stored[0].item_id
    assert Alert.objects.get().kind == "key_sold_twice"


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
