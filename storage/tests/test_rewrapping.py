"""Changing the master key, and rows whose wrapped keys were moved to another place."""

import dataclasses
import uuid

import pytest
from cryptography.hazmat.primitives.keywrap import aes_key_wrap
from django.core.management import CommandError, call_command

from orders.models import Alert
from storage import services
from storage.exceptions import KeyUnreadable
from storage.models import Key, KeyDeliveryLog
from storage.sealing import MasterKeys, WrappedKey, master_key_ready, open_sealed
from storage.tests.factories import OPENER, SERIAL, make_item, make_key, opened, rotate

pytestmark = pytest.mark.django_db


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
