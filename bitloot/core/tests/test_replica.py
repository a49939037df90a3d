import pytest
from django.db import router

from bitloot.core import replica
from bitloot.tests.staff import make_staff
from orders.models import Order
from orders.tests.factories import make_paid_order


@pytest.fixture(autouse=True)
def state(monkeypatch):
    monkeypatch.setattr(replica, "state", replica._State())


def test_a_row_of_the_replica_is_saved_at_the_primary(settings):
    order = Order()
    order._state.db = replica.ALIAS
    settings.DATABASE_ROUTERS = ["bitloot.core.replica.Router"]
    assert router.db_for_write(Order, instance=order) == "default"
    assert router.allow_relation(order, Order()) is True
    assert [router.allow_migrate(alias, "orders") for alias in ("default", replica.ALIAS)] == [True, False]


def test_one_that_was_away_is_not_asked_for_a_while(settings, monkeypatch, caplog):
    asked = []

    def away():
        asked.append(1)
        raise replica.NotUsable("it is away")

    settings.DATABASE_REPLICA_URL = "postgres://shop@replica/name"
    monkeypatch.setattr(replica, "seconds_behind", away)
    assert [replica.for_lists() for _ in range(3)] == ["default"] * 3
    replica.state.away_until = 0.0
    assert replica.for_lists() == "default"
    assert len(asked) == 2
    assert caplog.messages == ["Lists are read from the primary: it is away"]
    replica.state.away_until = 0.0
    monkeypatch.setattr(replica, "seconds_behind", lambda: 0.0)
    assert replica.for_lists() == replica.ALIAS
    assert caplog.messages[1:] == ["Lists are read from the replica again"]


@pytest.mark.django_db
def test_what_is_done_from_a_list_never_asks_the_replica(client, monkeypatch):
    asked = []
    monkeypatch.setattr(replica, "for_lists", lambda: asked.append(1) or "default")
    client.force_login(make_staff(superuser=True))
    order = make_paid_order()
    assert client.get("/admin/orders/order/").status_code == 200
    assert asked
    asked.clear()
    done = client.post("/admin/orders/order/", {"action": "none", "_selected_action": [str(order.pk)]})
    assert [done.status_code, asked] == [302, []]
