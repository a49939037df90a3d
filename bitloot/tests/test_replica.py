"""A real streaming replica: staff's lists come from it while it keeps up, everything else never does."""

import json
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
import requests
from django.utils import timezone

from bitloot.core.replica import LATE_SECONDS, PAUSE_SECONDS
from bitloot.tests.services import Postgres, PostgresReplica, StartFailed, Store, free_port, wait_until
from bitloot.tests.shopper import Shopper

pytestmark = [pytest.mark.chaos, pytest.mark.replica, pytest.mark.timeout(400)]
LOUD = ("log_statement=all", "hot_standby_feedback=on")
WHO = "DJANGO_SUPERUSER_USERNAME", "DJANGO_SUPERUSER_PASSWORD", "DJANGO_SUPERUSER_EMAIL"


@dataclass
class Shop:
    store: Store
    primary: Postgres
    replica: PostgresReplica
    staff: requests.Session = field(default_factory=requests.Session)
    token: dict[str, str] = field(default_factory=dict)

    def shows(self, path: str, word: str) -> bool:
        answer = self.staff.get(f"{self.store.url}{path}", headers=self.token if "/api/" in path else {}, timeout=60)
        assert answer.status_code == 200, answer.text
        return word in answer.text

    def asked(self) -> list[str]:
        """Return what the shop asked the replica so far, apart from whether it is late."""
        said = re.findall(r"statement: (.*)", self.replica.process.log.read_text())
        return [line for line in said if re.search("FROM|UPDATE|INSERT|DELETE", line) and "pg_" not in line]

    def doctor(self, **overrides: str) -> tuple[str, str]:
        try:
            said = self.store.manage("doctor", "--only", "replica", "--json", **overrides)
        except StartFailed as err:
            said = str(err)
        (finding,) = json.loads(said[said.index("{") : said.rindex("}") + 1])["findings"]
        return finding["level"], finding["message"]


@pytest.fixture
def installed(tmp_path: Path) -> Iterator[Shop]:
    """A shop over a primary with a replica; none of its processes runs yet."""
    with Postgres() as primary:
        small = primary.url.replace("//postgres@", f"//bitloot_app:{secrets.token_urlsafe(24)}@")
        ports = {"port": free_port(), "sandbox_port": free_port()}
        store = Store(tmp_path / "store", **ports, DATABASE_URL=small, REDIS_URL="", THROTTLE_SCALE="0")
        for command in (("migrate", "--verbosity", "0"), ("grant_rights",)):
            store.manage(*command, MIGRATE_DATABASE_URL=primary.url)
        store.seed()
        with PostgresReplica(of=primary, settings=LOUD) as replica:
            url = small.replace(f":{primary.port}/", f":{replica.port}/")
            store.env["DATABASE_REPLICA_URL"] = url
            for part in store.parts.values():
                part.env = store.env
            yield Shop(store, primary, replica)


@pytest.fixture
def shop(installed: Shop) -> Iterator[Shop]:
    store, password = installed.store, secrets.token_urlsafe(24)
    who = dict(zip(WHO, ("robin", password, "robin@shop.example"), strict=True))
    store.manage("createsuperuser", "--no-input", **who)
    try:
        store.start()
        sign_in(installed, "robin", password)
        yield installed
    finally:
        store.stop()


def sign_in(shop, name, password):
    url, session = shop.store.url, shop.staff
    session.trust_env = False
    page = session.get(f"{url}/admin/login/", timeout=60)
    form = {"username": name, "password": password, "csrfmiddlewaretoken": page.cookies["csrftoken"]}
    came = session.post(f"{url}/admin/login/?next=/admin/", data=form, timeout=60, headers={"Referer": url})
    assert came.url.endswith("/admin/"), came.text
    token = session.post(f"{url}/api/admin/login", json={"name": name, "password": password}, timeout=60)
    shop.token["Authorization"] = f"Token {token.json()['token']}"


def deliver(shop):
    shopper = Shopper(shop.store.url)
    order = shopper.order()
    payment = shopper.payment(order)
    url = f"{shop.store.sandbox_url}/control/payments/{payment['payment_id']}/pay"
    shopper.json("POST", url, json={"mode": "exact"})
    shopper.wait_fulfilled(order)
    shopper.open_keys(order)
    return order["id"]


def on(server, sql):
    with psycopg.connect(server.url, autocommit=True) as connection:
        return connection.execute(sql).fetchone()[0]


def has_caught_up(shop):
    written = on(shop.primary, "SELECT pg_current_wal_lsn()")
    return on(shop.replica, f"SELECT pg_last_wal_replay_lsn() >= '{written}'")


def journal_of_today(shop):
    today = timezone.now().date().isoformat()
    return shop.store.manage("export_accounting", "--since", today, "--until", today)


def said_by_web(shop, sentence):
    return shop.store.parts["web"].log.read_text().count(sentence)


@pytest.mark.nightly
def test_lists_come_from_the_replica_while_it_keeps_up_and_nothing_else_does(shop):
    shop.staff.get(f"{shop.store.url}/admin/", timeout=60)  # its figures are kept for a while
    before = shop.asked()
    order = deliver(shop)
    page = f"/admin/orders/order/{order}/change/"
    assert shop.shows(page, order)
    assert shop.shows(f"/api/admin/orders/{order}", order)
    assert shop.asked() == before
    wait_until(lambda: has_caught_up(shop), seconds=30, what="the replica to catch up")
    lists = ["/admin/orders/order/", "/api/admin/orders"]
    assert [shop.shows(path, order) for path in lists] == [True, True]
    assert order in journal_of_today(shop)
    assert shop.doctor()[0] == "ok"

    on(shop.replica, "SELECT pg_wal_replay_pause()::text")
    late = deliver(shop)
    assert [shop.shows(path, late) for path in lists] == [False, False]
    assert late not in journal_of_today(shop)
    assert shop.shows(page.replace(order, late), late), "the page that decides is not the list's"
    read = shop.asked()
    assert [line for line in read if re.search("INSERT|UPDATE|DELETE|auth_|django_session|knox", line)] == []
    assert any("orders_order" in line for line in read)

    wait_until(lambda: shop.shows(lists[0], late), seconds=2 * LATE_SECONDS, what="a list of the primary's")
    assert shop.shows(lists[1], late)
    sentence = f"the replica is more than {LATE_SECONDS} s behind"
    assert said_by_web(shop, f"Lists are read from the primary: {sentence}") == 1
    assert shop.doctor() == ("look", f"staff's lists are read from the primary: {sentence}")

    on(shop.replica, "SELECT pg_wal_replay_resume()::text")
    back = "Lists are read from the replica again"
    wait_until(lambda: shop.shows(lists[0], late) and said_by_web(shop, back), seconds=2 * PAUSE_SECONDS, what=back)

    shop.replica.kill9()
    newest = deliver(shop)
    assert [shop.shows(path, newest) for path in lists] == [True, True]
    assert newest in journal_of_today(shop)
    assert said_by_web(shop, "the replica does not answer (OperationalError)") == 1


def test_a_server_that_is_no_replica_of_ours_is_not_read(installed):
    on(installed.replica, "SELECT pg_promote()::text")
    said = "staff's lists are read from the primary: DATABASE_REPLICA_URL leads to a server that is no replica"
    assert installed.doctor() == ("look", f"{said}, or no longer one")
    with Postgres() as other, PostgresReplica(of=other) as another:
        said = "staff's lists are read from the primary: DATABASE_REPLICA_URL leads to a replica of another server"
        assert installed.doctor(DATABASE_REPLICA_URL=another.url) == ("look", said)
