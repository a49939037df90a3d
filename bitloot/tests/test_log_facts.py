"""Which facts a request's log lines have while it is answered."""

import pytest
from django.test.signals import template_rendered

from bitloot.core import logs
from bitloot.tests.staff import make_staff

pytestmark = pytest.mark.django_db


@pytest.fixture
def seen():
    facts = []

    def look(**_):
        facts.append(logs.known_facts())

    template_rendered.connect(look)
    yield facts
    template_rendered.disconnect(look)


def test_lines_of_a_staff_page_name_who_opened_it(client, seen):
    ada = make_staff(superuser=True)
    client.force_login(ada)
    answer = client.get("/admin/")
    assert seen[-1] == {
        "request": answer["X-Request-Id"],
        "client": "127.0.0.0/24",
        "staff": ada.get_username(),
    }
    assert logs.known_facts() == {}


def test_lines_of_a_strangers_page_name_nobody(client, seen):
    answer = client.get("/")
    assert seen[-1] == {"request": answer["X-Request-Id"], "client": "127.0.0.0/24"}
