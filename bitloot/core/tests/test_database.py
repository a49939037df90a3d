import json

import pytest
import responses
from django.db import connection, transaction

from bitloot.core.database import leave_connection
from bitloot.core.providers import Transport


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_a_connection_goes_back_to_the_pool_unless_a_transaction_is_open():
    with transaction.atomic():
        leave_connection()
        assert connection.connection is not None
    leave_connection()
    assert connection.connection is None


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
@responses.activate
def test_nobody_keeps_a_connection_while_a_provider_answers():
    url = "https://provider.example/thing"
    responses.add_callback("GET", url, lambda _: (200, {}, json.dumps(connection.connection is None)))
    connection.ensure_connection()
    provider = Transport(provider="provider", base_url="https://provider.example", headers={})
    assert provider.request("GET", "/thing").json() is True


@pytest.mark.django_db
def test_the_transaction_around_a_test_survives():
    with connection.cursor() as cursor:
        leave_connection()
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)
