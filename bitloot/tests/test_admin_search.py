"""Searching and filtering the admin's lists, also with what people paste and strangers type."""

import pytest

from bitloot.tests.staff import LISTS, list_of, make_rows, page_of, text

EVIL = "<script>alert(1)</script>"

pytestmark = pytest.mark.django_db


FOUND_BY = {
    "an order by its id": ("orders.order", "order", lambda rows: str(rows.order.pk)),
    "an order by its id without hyphens": ("orders.order", "order", lambda rows: rows.order.pk.hex),
    "an order as a mail spells it": ("orders.order", "order", lambda rows: f"  Order {str(rows.order.pk).upper()} "),
    "an order by the start of its id": ("orders.order", "order", lambda rows: str(rows.order.pk)[:8]),
    "an order by its short id": ("orders.order", "order", lambda rows: f"#{rows.order.pk.hex[:12]}"),
    "an order by its address in capitals": ("orders.order", "order", lambda rows: rows.order.email.upper()),
    "an order by the start of its address": ("orders.order", "order", lambda rows: rows.order.email.split("@")[0]),
    "a payment by its id": ("payments.payment", "payment", lambda rows: rows.payment.external_id),
    "a payment by its address": ("payments.payment", "payment", lambda rows: rows.payment.pay_address),
    "a payment by its refund": ("payments.payment", "payment", lambda rows: rows.refund.transaction_id),
    "a payment by its memo": ("payments.payment", "payment", lambda rows: rows.payment.payin_extra_id),
    "a payment by the address of its refund": (
        "payments.payment",
        "payment",
        lambda rows: rows.refund_address.address,
    ),
    "a payment by the memo of its refund": ("payments.payment", "payment", lambda rows: rows.refund_address.extra_id),
    "a refund by its address": ("payments.refund", "refund", lambda rows: rows.refund_address.address),
    "a refund by its memo": ("payments.refund", "refund", lambda rows: rows.refund_address.extra_id),
    "a payment by its order": ("payments.payment", "payment", lambda rows: str(rows.order.pk)),
    "a refund by its transaction": ("payments.refund", "refund", lambda rows: rows.refund.transaction_id),
    "a purchase by the supplier's id": (
        "fulfillment.reservation",
        "reservation",
        lambda rows: rows.reservation.supplier_order_id,
    ),
    "a purchase by our id": ("fulfillment.reservation", "reservation", lambda rows: rows.reservation.external_id),
    "a purchase by our id without hyphens": (
        "fulfillment.reservation",
        "reservation",
        lambda rows: rows.reservation.external_id.replace("-", ""),
    ),
    "a purchase by its order": ("fulfillment.reservation", "reservation", lambda rows: str(rows.order.pk)),
    "a call by the supplier's id": (
        "fulfillment.suppliercall",
        "call",
        lambda rows: rows.reservation.supplier_order_id,
    ),
    "a key by its id": ("storage.key", "key", lambda rows: str(rows.key.pk)),
    "a key by its object": ("storage.key", "key", lambda rows: rows.key.object_name),
    "a key by its order": ("storage.key", "key", lambda rows: str(rows.order.pk)),
    "a delivery by its object": ("storage.keydeliverylog", "delivery", lambda rows: rows.key.object_name),
    "a webhook by its payment": ("webhooks.webhooklog", "log", lambda rows: rows.payment.external_id),
    "a webhook by its id": ("webhooks.webhooklog", "log", lambda rows: str(rows.log.pk)),
    "a mail by its address": ("orders.email", "email", lambda rows: rows.order.email),
}


@pytest.mark.parametrize("case", FOUND_BY)
def test_search_finds_a_row_by_every_id_that_people_hold(boss, rows, case):
    name, row, term = FOUND_BY[case]
    make_rows()
    found = boss.get(list_of(name, q=term(rows))).context["cl"].queryset
    assert getattr(rows, row) in found
    assert len(found) <= 4


def test_finder_on_the_first_page_searches_every_list(boss, rows):
    page = text(boss.get("/admin/", {"q": str(rows.order.pk)}))
    for row in (rows.order, rows.payment, rows.reservation, rows.key, rows.email):
        assert page_of(row) in page
    nothing = text(boss.get("/admin/", {"q": EVIL}))
    assert "Nothing has this id" in nothing
    assert "<h1>Nothing found</h1>" in nothing
    assert EVIL not in nothing


PASTED = ["%", "\\", "_", "\x00", "a\x00b", "'", '"', "x" * 10_240, "9" * 400, "é" * 200, "\u202e", " ", "f" * 31]


@pytest.mark.parametrize("place", range(len(LISTS) + 1))
def test_search_survives_what_people_paste(boss, place):
    # Each list gets a quarter, the finder all: the lists share their search, but not their columns.
    path, terms = "/admin/", PASTED
    if place:
        path, terms = f"/admin/{list(LISTS)[place - 1].replace('.', '/')}/", PASTED[place % 4 :: 4]
    assert {term: boss.get(path, {"q": term}).status_code for term in terms} == dict.fromkeys(terms, 200)


def test_wildcards_are_not_wild(boss, rows):
    assert boss.get(list_of("orders.order", q="k%m")).context["cl"].result_count == 0


@pytest.mark.parametrize("query", ["o=9999", "o=x", "p=-1", "p=9999", "p=x", "e=1", "all=", "status__exact=nonsense"])
def test_odd_addresses_are_answered(boss, rows, query):
    assert boss.get(f"{list_of('orders.order')}?{query}", follow=True).status_code == 200


@pytest.mark.parametrize(
    ("name", "lookup"),
    [
        ("orders.order", "items__product__slug__startswith=e"),
        ("orders.order", "email__startswith=k"),
        ("payments.payment", "order__email__startswith=k"),
        ("storage.key", "wrapped_data_key__startswith=x"),
        ("storage.key", "ciphertext__isnull=1"),
        ("orders.idempotencyrecord", "key__startswith=s"),
        ("webhooks.webhooklog", "headers__x-nowpayments-sig__startswith=a"),
        ("admin.logentry", "user__password__startswith=p"),
    ],
)
def test_address_bar_reaches_no_other_column(boss, rows, name, lookup):
    assert boss.get(f"{list_of(name)}?{lookup}").status_code == 400


@pytest.mark.parametrize(
    "query", ["status__exact=%00", "order__exact=garbage", "created_at__gte=garbage", "status__in=a,b", "order=%00"]
)
def test_filters_survive_nonsense(boss, rows, query):
    assert boss.get(f"{list_of('payments.payment')}?{query}", follow=True).status_code == 200


@pytest.mark.parametrize("name", ["orders.order", "webhooks.webhooklog", "fulfillment.suppliergate", "payments.coin"])
@pytest.mark.parametrize("pk", ["garbage", "9" * 40, "_00", "-1"])
def test_pages_of_rows_that_do_not_exist_lead_back(boss, name, pk):
    answer = boss.get(f"{list_of(name)}{pk}/change/")
    assert answer.status_code == 302


@pytest.mark.parametrize("page", ["change", "history", "delete"])
def test_an_id_that_no_row_can_have_leads_back_to_the_home_page(boss, page):
    paths = [f"/admin/{name.replace('.', '/')}/{pk}/{page}/" for name in LISTS for pk in ("%00", "_00")]
    answers = {path: boss.get(path).status_code for path in paths}
    assert set(answers.values()) <= {302, 403}, answers
