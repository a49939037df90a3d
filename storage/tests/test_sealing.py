import dataclasses
import json

import pytest
from cryptography.hazmat.primitives.keywrap import aes_key_wrap
from hypothesis import given
from hypothesis import strategies as st

from storage import sealing
from storage.sealing import Binding, MasterKeyMissing, MasterKeys, SealBroken, Sealed, WrappedKey, open_sealed, seal

SECRET, OLDER, OTHER = "p" * 43, "o" * 43, "x" * 43
KEYS = MasterKeys.from_secrets(SECRET)
PLACE = Binding("production", "order-1", "item-1", "key-1", "text/plain")
SERIAL = b"AAAAA-BBBBB-CCCCC"


@given(st.binary(max_size=2000))
def test_what_was_sealed_opens_at_its_place(plaintext):
    assert open_sealed(seal(plaintext, PLACE, keys=KEYS), PLACE, keys=KEYS) == plaintext


def test_the_ciphertext_is_the_plaintexts_length_plus_a_tag_and_shows_nothing_of_it():
    sealed = seal(SERIAL, PLACE, keys=KEYS)
    assert len(sealed.ciphertext) == len(SERIAL) + 16
    assert len(sealed.nonce) == 12
    assert len(sealed.data_key.wrapped) == 41
    assert SERIAL not in sealed.ciphertext


def test_each_seal_has_a_data_key_and_a_nonce_of_its_own():
    seals = [seal(SERIAL, PLACE, keys=KEYS) for _ in range(50)]
    assert len({sealed.nonce for sealed in seals}) == 50
    assert len({KEYS.unwrap(sealed.data_key, PLACE) for sealed in seals}) == 50
    assert len({sealed.ciphertext for sealed in seals}) == 50


def test_the_associated_data_is_canonical_json_of_the_place():
    assert PLACE.aad == (
        b'{"content_type":"text/plain","env":"production","item":"item-1","key":"key-1","order":"order-1","version":1}'
    )


@given(st.lists(st.text(), min_size=5, max_size=5), st.integers(0, 100))
def test_no_two_places_share_their_associated_data(texts, version):
    document = json.loads(Binding(*texts, version).aad)
    names = ("env", "order", "item", "key", "content_type")
    assert [*(document[name] for name in names), document["version"]] == [*texts, version]


@given(bit=st.integers(0, (len(SERIAL) + 16) * 8 - 1))
def test_a_flipped_bit_of_the_ciphertext_is_noticed(bit):
    sealed = seal(SERIAL, PLACE, keys=KEYS)
    broken = dataclasses.replace(sealed, ciphertext=_flip(sealed.ciphertext, bit))
    with pytest.raises(SealBroken, match="does not belong here"):
        open_sealed(broken, PLACE, keys=KEYS)


@given(bit=st.integers(0, 95))
def test_a_flipped_bit_of_the_nonce_is_noticed(bit):
    sealed = seal(SERIAL, PLACE, keys=KEYS)
    with pytest.raises(SealBroken, match="does not belong here"):
        open_sealed(dataclasses.replace(sealed, nonce=_flip(sealed.nonce, bit)), PLACE, keys=KEYS)


@given(bit=st.integers(0, 327))
def test_a_flipped_bit_of_the_wrapped_data_key_is_noticed(bit):
    sealed = seal(SERIAL, PLACE, keys=KEYS)
    broken = dataclasses.replace(
        sealed, data_key=WrappedKey(_flip(sealed.data_key.wrapped, bit), sealed.data_key.master_key_id)
    )
    with pytest.raises(SealBroken, match="wrapped data key was changed"):
        open_sealed(broken, PLACE, keys=KEYS)


@given(st.binary(max_size=60), st.binary(max_size=30), st.binary(max_size=60))
def test_made_up_bytes_never_open(ciphertext, nonce, wrapped):
    made_up = Sealed(ciphertext, nonce, WrappedKey(wrapped, KEYS.primary.id))
    with pytest.raises(SealBroken):
        open_sealed(made_up, PLACE, keys=KEYS)


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Binding)])
def test_a_key_does_not_open_at_another_place(field):
    sealed = seal(SERIAL, PLACE, keys=KEYS)
    elsewhere = dataclasses.replace(PLACE, **{field: 2 if field == "version" else "elsewhere"})
    with pytest.raises(SealBroken, match="does not belong here"):
        open_sealed(sealed, elsewhere, keys=KEYS)


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Binding)])
def test_a_data_key_does_not_unwrap_at_another_place(field):
    """Whoever ignores the ciphertext's tag needs nothing but the data key."""
    sealed = seal(SERIAL, PLACE, keys=KEYS)
    elsewhere = dataclasses.replace(PLACE, **{field: 2 if field == "version" else "elsewhere"})
    with pytest.raises(SealBroken, match="does not belong here"):
        KEYS.unwrap(sealed.data_key, elsewhere)


@pytest.mark.parametrize("part", ["ciphertext", "nonce", "data_key"])
def test_parts_of_two_seals_do_not_open_together(part):
    one, other = seal(SERIAL, PLACE, keys=KEYS), seal(b"DDDDD", PLACE, keys=KEYS)
    with pytest.raises(SealBroken, match="does not belong here"):
        open_sealed(dataclasses.replace(one, **{part: getattr(other, part)}), PLACE, keys=KEYS)


@pytest.mark.parametrize("length", range(28))
def test_a_truncated_ciphertext_or_nonce_does_not_open(length):
    sealed = seal(SERIAL, PLACE, keys=KEYS)
    with pytest.raises(SealBroken):
        open_sealed(dataclasses.replace(sealed, ciphertext=sealed.ciphertext[:length]), PLACE, keys=KEYS)
    nonce = (sealed.nonce * 3)[:length]
    if length != 12:
        with pytest.raises(SealBroken, match="was cut"):
            open_sealed(dataclasses.replace(sealed, nonce=nonce), PLACE, keys=KEYS)


def test_another_stores_master_key_is_missing_rather_than_tried():
    sealed = seal(SERIAL, PLACE, keys=MasterKeys.from_secrets(OTHER))
    with pytest.raises(MasterKeyMissing, match=f"master key {sealed.data_key.master_key_id} is in none of our secrets"):
        open_sealed(sealed, PLACE, keys=KEYS)


def test_a_wrong_master_key_under_the_right_id_does_not_open():
    sealed = seal(SERIAL, PLACE, keys=MasterKeys.from_secrets(OTHER))
    renamed = dataclasses.replace(sealed, data_key=WrappedKey(sealed.data_key.wrapped, KEYS.primary.id))
    with pytest.raises(SealBroken, match="wrapped data key was changed"):
        open_sealed(renamed, PLACE, keys=KEYS)


def test_after_a_rotation_old_seals_open_by_the_fallback_and_new_ones_use_the_primary():
    old = seal(SERIAL, PLACE, keys=MasterKeys.from_secrets(OLDER))
    rotated = MasterKeys.from_secrets(SECRET, [OLDER])
    assert open_sealed(old, PLACE, keys=rotated) == SERIAL
    assert seal(SERIAL, PLACE, keys=rotated).data_key.master_key_id == KEYS.primary.id


def test_a_rewrapped_key_opens_without_the_old_master_key_and_its_ciphertext_is_untouched():
    old = seal(SERIAL, PLACE, keys=MasterKeys.from_secrets(OLDER))
    rotated = MasterKeys.from_secrets(SECRET, [OLDER])
    fresh = rotated.wrap(rotated.unwrap(old.data_key, PLACE), PLACE)
    assert open_sealed(dataclasses.replace(old, data_key=fresh), PLACE, keys=KEYS) == SERIAL


def test_unwrapping_needs_the_old_master_key():
    old = seal(SERIAL, PLACE, keys=MasterKeys.from_secrets(OLDER))
    with pytest.raises(MasterKeyMissing):
        KEYS.unwrap(old.data_key, PLACE)


def test_a_data_key_in_format_1_opens_its_ciphertext_and_no_other_place():
    data_key = KEYS.unwrap((sealed := seal(SERIAL, PLACE, keys=KEYS)).data_key, PLACE)
    former = WrappedKey(aes_key_wrap(KEYS.primary.secret, data_key), KEYS.primary.id)
    assert (former.is_bound, sealed.data_key.is_bound) == (False, True)
    assert open_sealed(dataclasses.replace(sealed, data_key=former), PLACE, keys=KEYS) == SERIAL
    elsewhere = dataclasses.replace(PLACE, order="elsewhere")
    with pytest.raises(SealBroken, match="does not belong here"):
        open_sealed(dataclasses.replace(sealed, data_key=former), elsewhere, keys=KEYS)


def test_secrets_do_not_show_in_a_repr():
    assert "secret" not in repr(KEYS)
    assert SECRET not in repr(KEYS)
    assert repr(KEYS.primary) == f"MasterKey(id='{KEYS.primary.id}')"


def test_empty_fallbacks_count_for_nothing():
    assert MasterKeys.from_secrets(SECRET, ["", ""]) == KEYS


def test_the_self_test_passes_with_a_secret_and_fails_without(settings):
    assert sealing.master_key_ready() is True
    settings.KEY_ENCRYPTION_SECRET = ""
    assert sealing.master_key_ready() is False


def _flip(raw: bytes, bit: int) -> bytes:
    changed = bytearray(raw)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)
