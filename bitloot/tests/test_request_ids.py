"""The id that an answer carries leads through everything that follows: rows, other threads, providers, the admin."""

import subprocess
import sys
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import responses
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from bitloot.core import logs, traces
from bitloot.core.providers import Transport
from bitloot.tests.serving import start_serving
from bitloot.tests.staff import make_staff
from fulfillment.models import Reservation
from orders.models import Email
from orders.services import Line, place_order
from orders.tasks import drain_mails
from orders.tests.factories import make_product
from payments.calls import Calls
from payments.models import Payment
from payments.tests.factories import make_payment, on_read
from tools.dev.devenv import ROOT
from webhooks.models import WebhookLog
from webhooks.tasks import drain_webhooks
from webhooks.tests.factories import ipn, sign

pytestmark = pytest.mark.django_db
PROXY = "5f0c7b1e2d3a49f88e1b6c5d4a3f2e10"


def send_ipn(client, payment, **headers):
    body = ipn(payment_id=int(payment.external_id), order_id=str(payment.order_id))
    signed = {"x-nowpayments-sig": sign(body), **headers}
    return client.post("/api/payments/ipn", body, content_type="application/json", headers=signed)


@responses.activate
def test_an_ipn_passes_its_id_to_the_provider_the_purchase_and_the_mails(client, settings):
    settings.TRUSTED_PROXIES = 1
    payment = make_payment(external_id="5077125051")
    on_read(responses.mock, payment, "finished")
    answer = send_ipn(client, payment, **{"x-request-id": PROXY, "x-forwarded-for": "192.0.2.1"})
    assert (answer.status_code, answer["X-Request-Id"]) == (200, PROXY)
    with logs.about(request="another thread, which has none of its own"):
        drain_webhooks()
    assert {call.request.headers["X-Request-ID"] for call in responses.calls} == {PROXY}
    made = [WebhookLog.objects.get(), Reservation.objects.get(), *Email.objects.filter(kind="payment_received")]
    assert [row.request_id for row in made] == [uuid.UUID(PROXY)] * 3
    assert Payment.objects.get().request_id is None  # made by another request, long before


def test_staff_find_what_a_request_led_to_by_its_id(client):
    product = make_product()
    with logs.about(request=PROXY):
        order = place_order(email="kim@shop.example", lines=[Line(product.slug, 1)]).order
    client.force_login(make_staff(superuser=True))
    found = client.get("/admin/", {"q": PROXY}).context["found"]
    assert [entry["order"] for entry in found["orders"]] == [order]
    assert str(order.pk) not in client.get("/admin/", {"q": PROXY[::-1]}).content.decode()


def test_work_without_a_request_has_no_id():
    assert make_payment().request_id is None
    with logs.about(request="not an id"):
        assert make_payment(external_id="2").request_id is None


class Collector(BaseHTTPRequestHandler):
    def do_POST(self):
        sent = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.spans += [one for part in sent.resource_spans for scope in part.scope_spans for one in scope.spans]
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        """Stay quiet."""


@pytest.fixture
def collector():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    server.spans = []
    start_serving(server)
    traces.start(f"http://127.0.0.1:{server.server_port}")
    yield server
    traces.stop()
    server.shutdown()
    server.server_close()


def test_one_trace_leads_from_the_ipn_to_the_mail(client, settings, collector):
    settings.TRUSTED_PROXIES = 1
    payment = make_payment(external_id="5077125051")
    with responses.RequestsMock() as wire:
        on_read(wire, payment, "finished")
        send_ipn(client, payment, **{"x-request-id": PROXY, "x-forwarded-for": "192.0.2.1"})
        drain_webhooks()
    drain_mails()
    traces.stop()  # it sends what is left
    trace = [one for one in collector.spans if one.trace_id.hex() == PROXY]
    assert [one.name for one in trace] == ["POST", "nowpayments GET", "webhooks.webhooklog", "orders.email"]
    call, handling = trace[1], trace[2]
    assert call.parent_span_id == handling.span_id
    shown = {fact.key: fact.value.string_value or fact.value.int_value for one in trace for fact in one.attributes}
    assert shown == {
        "http.route": "api/payments/ipn", "http.response.status_code": 200, "bitloot.order": str(payment.order_id),
        "bitloot.row": f"orders.email:{Email.objects.get(kind='payment_received').pk}",
    }  # fmt: skip


def test_a_span_names_the_error_and_not_its_text(collector):
    with pytest.raises(ValueError, match="secret"), logs.about(request=PROXY), traces.span("work"):
        raise ValueError("a secret of ours")
    traces.stop()
    (one,) = collector.spans
    assert {fact.key: fact.value.string_value for fact in one.attributes} == {"error.type": "ValueError"}
    assert "secret" not in str(one)


def test_without_a_collector_nothing_of_it_is_loaded():
    code = "import sys, bitloot.wsgi; sys.exit('opentelemetry.sdk' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@responses.activate
def test_a_call_in_a_thread_of_its_own_names_the_request():
    responses.get("https://kinguin.example/x", json={})
    transport = Transport(provider="kinguin", base_url="https://kinguin.example", headers={})
    with logs.about(request=PROXY):
        Calls(threads=1, under_way=1, waiting=1).start(transport.request, "GET", "/x").result(5)
    transport.request("GET", "/x")
    assert [call.request.headers.get("X-Request-ID") for call in responses.calls] == [PROXY, None]


def test_a_refused_webhook_is_answered_with_its_id_too(client):
    answer = client.post("/api/payments/ipn", b"{}", content_type="application/json")
    assert (answer.status_code, len(answer["X-Request-Id"])) == (401, 32)
