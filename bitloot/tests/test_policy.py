"""Trusted Types: no text becomes a script or markup in the shop's pages; test_browser shows that they work with it."""

import pytest

from bitloot.tests.staff import make_staff
from orders.tests.factories import make_order, make_product

pytestmark = pytest.mark.django_db
DEMANDED = "require-trusted-types-for 'script'"


def policy(client, path):
    return client.get(path)["Content-Security-Policy"]


def test_every_page_of_the_shop_demands_trusted_types(client):
    product, order = make_product(), make_order()
    for path in (
        "/",
        f"/products/{product.slug}",
        f"/checkout?product={product.slug}",
        f"/orders/{order.pk}",
        f"/orders/{order.pk}/receipt",
        "/nowhere",
    ):
        assert DEMANDED in policy(client, path), path
        assert "trusted-types 'none'" in policy(client, path), path
    assert DEMANDED in policy(client, "/admin/login/")


def test_pages_of_the_admin_without_jquery_demand_them_too(client):
    client.force_login(make_staff(superuser=True))
    for path in (
        "/admin/",
        "/admin/?q=x",
        "/admin/system/",
        "/admin/runbook/",
        "/admin/password_change/",
        "/admin/orders/",
    ):
        page = client.get(path)
        assert DEMANDED in page["Content-Security-Policy"], path
        assert "jquery" not in page.content.decode(), path
    assert DEMANDED in policy(client, "/admin/join/x/y/")


def test_only_lists_and_forms_of_the_admin_and_the_pages_of_the_api_do_without(client):
    client.force_login(make_staff(superuser=True))
    for path in ("/admin/orders/order/", "/admin/orders/product/add/", "/api/docs"):
        assert "trusted-types" not in policy(client, path), path
        assert "script-src 'self'" in policy(client, path), path
