"""Which keys are lost with the bucket: what changes while it is listed is no loss."""

from collections.abc import Callable, Iterator

import pytest

from storage import services
from storage.models import Key
from storage.objects import EmbeddedStorage, key_store
from storage.tests.conftest import use_store
from storage.tests.factories import claim, make_key

pytestmark = pytest.mark.django_db


class BusyStore(EmbeddedStorage):
    """Files of which others make use at the moment they are listed."""

    meanwhile: Callable[[], object] = staticmethod(bool)

    def names(self) -> Iterator[str]:
        found = list(super().names())
        self.meanwhile()
        yield from found


@pytest.fixture(autouse=True)
def busy(settings, tmp_path, monkeypatch):
    use_store(settings, "tests.test_missing_objects.BusyStore", {"location": tmp_path / "objects"})
    return lambda happens: monkeypatch.setattr(BusyStore, "meanwhile", staticmethod(happens))


def uploaded() -> Key:
    """Return a key whose only copy is in the object store."""
    key = make_key()
    services.upload(claim(key))
    Key.objects.filter(pk=key.pk).update(ciphertext=None)
    key.refresh_from_db()
    return key


def test_a_key_whose_object_is_gone_is_named():
    lost, _kept, _ours = uploaded(), uploaded(), make_key()
    key_store().delete(lost.object_name)
    assert services.missing_objects() == [lost.pk]


def test_a_key_that_is_uploaded_meanwhile_is_not(busy):
    busy(uploaded)
    assert services.missing_objects() == []


def test_a_key_that_is_shredded_meanwhile_is_not(busy):
    key = uploaded()
    key_store().delete(key.object_name)
    busy(lambda: services.shred(key, reason="asked for"))
    assert services.missing_objects() == []
