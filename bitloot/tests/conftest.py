"""What tests of the admin share: a superuser at the door, and one order with a row of every model hanging on it."""

import pytest

from bitloot.tests.staff import make_rows, make_staff


@pytest.fixture
def boss(client):
    """The client, logged in as a superuser."""
    client.user = make_staff(superuser=True)
    client.force_login(client.user)
    return client


@pytest.fixture
def rows():
    return make_rows()
