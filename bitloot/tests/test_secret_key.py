import pytest

from bitloot.tests.staff import make_staff

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(("is_kept", "status"), [(True, 200), (False, 302)])
def test_sessions_of_staff_outlive_a_new_secret_key_while_the_old_one_is_a_fallback(client, settings, is_kept, status):
    client.force_login(make_staff(superuser=True))
    settings.SECRET_KEY, old = "n" * 60, settings.SECRET_KEY
    settings.SECRET_KEY_FALLBACKS = [old] if is_kept else []
    assert client.get("/admin/").status_code == status
