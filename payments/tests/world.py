"""A customer, NOWPayments (the real sandbox) and our staff around one order: what the payment stories are told with."""

import contextlib
import hashlib
import hmac
import json
import queue
import threading
import uuid
from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q
from django.db.models.functions import Now

from bitloot.core.money import plain
from bitloot.core.tests.failpoints import happening_at
from fulfillment.models import Reservation
from orders.access import make_token
from orders.models import Alert, Email, Order
from orders.services import Line, place_order
from orders.tasks import housekeeping
from orders.tests.factories import make_product
from payments import creation, refunds, review
from payments.exceptions import NoAnswer, NotPayable
from payments.models import Coin, Payment, Refund
from payments.tasks import drain_payments
from webhooks.models import WebhookLog
from webhooks.services import replay
from webhooks.tasks import drain_webhooks

STAFF = "ada"
IPN_WAIT = 60
NO_EXTRAS = {"status": "waiting", "paid": Decimal(0), "fields": {}}
# One address that fits each coin's pattern.
ADDRESSES = {"btc": "bc1" + "q" * 39, "ltc": "ltc1" + "q" * 39, "eth": "0x" + "ab" * 20, "xrp": "r" + "4" * 33}
_COUNTS = Q(status="finished") | Q(status="partially_paid")


@dataclass(frozen=True)
class Ipn:
    """One call of the provider, byte for byte."""

    body: bytes
    signature: str

    @property
    def payment_id(self):
        return str(json.loads(self.body)["payment_id"])


class Postbox(ThreadingHTTPServer):
    """Takes the sandbox's IPNs off the wire, so that a test decides when, in which order and how often they arrive."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Slot)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.arrived = defaultdict(queue.Queue)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()


class _Slot(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        story = urlsplit(self.path).path.split("/")[1]
        self.server.arrived[story].put(Ipn(body, self.headers["x-nowpayments-sig"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def signed(body):
    """Sign as the provider documents it, with code of our own: the sandbox's signer and the store's share nothing."""
    raw = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    secret = settings.NOWPAYMENTS_IPN_SECRET[0].encode()
    return Ipn(raw, hmac.new(secret, raw, hashlib.sha512).hexdigest())


def make_coins():
    for code, needs_memo in (("btc", False), ("eth", False), ("ltc", False), ("xrp", True)):
        memo = {"takes_memo": needs_memo, "needs_memo": needs_memo}
        Coin.objects.create(code=code, name=code.upper(), network=code, **memo)


class World:
    """One order and everything around it. Payments are numbered in the order in which the customer chose coins."""

    def __init__(self, client, sandbox, letters=None):
        self.client, self.sandbox, self.letters = client, sandbox, letters
        make_coins()
        product = make_product(price=Decimal("24.99"), supplier_product_id="64b000000000000000000001")
        self.order = place_order(email="kim@example.org", lines=[Line(product.slug, 1)]).order
        self.token = make_token(self.order, "api")
        self.payments = []  # the provider's ids, in the order in which they came to be
        self.truth = {}  # what the provider says of each: status, paid, fields
        self.plain_truth = {}  # the same as the payment was created, to take overrides back
        self.refused = []  # answers that were not the expected ones

    # --- the customer

    def api(self, path, body):
        headers = {"Authorization": f"Bearer {self.token}"}
        return self.client.post(path, body, content_type="application/json", headers=headers)

    def choose(self, coin):
        """Choose a coin on the order's page."""
        try:
            payment = creation.start_payment(order=self.order, coin=coin)
        except (NoAnswer, NotPayable) as err:
            self.refused.append(type(err).__name__)
        else:
            if payment.external_id not in self.payments:
                self.meet(payment.external_id)
                self.next_ipn()

    def choose_unanswered(self, coin, *, lost=False):
        """Choose a coin, and the provider makes the payment, but its answer is lost; return its first IPN."""
        self.spoil("nowpayments.payment.create", "accept_then_silent", 1, hold_s=0.05)
        self.choose(coin)
        ipn = self.next_ipn()
        self.meet(ipn.payment_id)
        return None if lost else ipn

    def choose_overtaken(self, coin):
        """Choose a coin, and the provider's first IPN is here before its answer to our call is."""
        with happening_at("payment.created", lambda: self.deliver(self.next_ipn())):
            payment = creation.start_payment(order=self.order, coin=coin)
        self.meet(payment.external_id)
        self.catch_up()

    def meet(self, external_id):
        """Take notice of a payment that the provider made."""
        self.payments.append(external_id)
        self.truth[external_id] = dict(NO_EXTRAS)
        as_made = self.sandbox.control(f"payments/{external_id}/status", {"status": "waiting", "silent": True})
        self.plain_truth[external_id] = as_made

    def page(self):
        answer = self.client.get(f"/api/orders/{self.order.pk}", headers={"Authorization": f"Bearer {self.token}"})
        assert answer.status_code == 200, answer.content
        return answer.json()

    # --- the provider

    def next_ipn(self):
        return self.letters.get(timeout=IPN_WAIT)

    def says(self, number, status, *, paid=None, silent=False, **fields):
        """Let the provider change its mind about a payment; return the IPN about it. `paid` is a share of the asked."""
        external_id = self.payments[number]
        was = self.truth[external_id]
        share = was["paid"] if paid is None else Decimal(paid)
        self.truth[external_id] = {"status": status, "paid": share, "fields": {**was["fields"], **fields}}
        self._control(external_id, silent=silent)
        return None if silent else self.next_ipn()

    def restore(self, truth):
        """Put the provider back to what it said before, without telling anybody."""
        for external_id, said in truth.items():
            if self.truth[external_id] != said:
                self.truth[external_id] = said
                self._control(external_id, silent=True)

    def _control(self, external_id, *, silent):
        said, created = self.truth[external_id], self.plain_truth[external_id]
        overridden = getattr(self, "_overridden", set()) | set(said["fields"])
        self._overridden = overridden
        change = {
            "status": said["status"],
            "actually_paid": str(Decimal(str(created["pay_amount"])) * said["paid"]),
            "fields": {name: said["fields"].get(name, created.get(name)) for name in overridden},
            "silent": silent,
            "any": True,
        }
        self.sandbox.control(f"payments/{external_id}/status", change)

    def deposit(self, number, mode):
        """Send a second time, or in another coin, to the address of a payment: the provider makes a child of it."""
        child = self.sandbox.pay(self.payments[number], mode)
        external_id = str(child["payment_id"])
        self.payments.append(external_id)
        self.truth[external_id] = {"status": child["payment_status"], "paid": Decimal(1), "fields": {}}
        self.plain_truth[external_id] = child
        return self.next_ipn()

    def lies(self, number, *, signed=True, **fields):
        """Let an IPN say what the provider does not when it is asked."""
        self.sandbox.control(f"payments/{self.payments[number]}/ipn", {"fields": fields, "signed": signed})
        return self.next_ipn()

    def payout(self):
        """Return the notice of a payout, which comes to the same URL under the same secret."""
        return signed({"id": "5004747811", "batch_withdrawal_id": "5000000713", "status": "FINISHED", "amount": "0.1"})

    def stranger(self):
        return signed({"payment_id": 4400000001, "payment_status": "finished", "order_id": str(uuid.uuid4())})

    def nameless_child(self):
        """Return the IPN of a second deposit that names its parent but not its order."""
        self.deposit(0, "repeat")
        return self.says(len(self.payments) - 1, "finished", order_id=None)

    def spoil(self, op, fault, times, **args):
        self.sandbox.fault(op, fault, times=times, args=args)

    def calm(self):
        self.sandbox.calm()

    # --- the store

    def deliver(self, ipn, *, expect=200):
        """Post the IPN to the real view and let the worker look at the inbox."""
        answer = self.post(ipn)
        if answer.status_code != expect:
            self.refused.append(answer.status_code)
        drain_webhooks()

    def post(self, ipn):
        headers = {"x-nowpayments-sig": ipn.signature}
        return self.client.post("/api/payments/ipn", ipn.body, content_type="application/json", headers=headers)

    def catch_up(self):
        """Let the pauses of all webhooks that wait pass."""
        WebhookLog.objects.exclude(next_attempt_at=None).update(next_attempt_at=Now())
        drain_webhooks()

    def replay_everything(self):
        for log in WebhookLog.objects.all():
            replay(log)
        drain_webhooks()

    def sweep(self):
        """Let the pauses of all payments that are watched pass."""
        Payment.objects.exclude(next_attempt_at=None).update(next_attempt_at=Now())
        drain_payments()

    def age(self, **by):
        """Move everything into the past, as if that time had gone by."""
        shift = timedelta(**by)
        Payment.objects.update(
            created_at=F("created_at") - shift,
            expires_at=F("expires_at") - shift,
            coins_seen_at=F("coins_seen_at") - shift,
        )
        Order.objects.update(created_at=F("created_at") - shift, expires_at=F("expires_at") - shift)
        housekeeping()

    def stay_unread(self, **by):
        """Move into the past when the provider was last understood."""
        Payment.objects.update(unread_since=F("unread_since") - timedelta(**by))

    def move_order(self, move, **words):
        getattr(Order.objects.get(pk=self.order.pk), move)(**words)

    def payment(self, number):
        return Payment.objects.get(external_id=self.payments[number])

    # --- staff

    def accept(self, number):
        review.accept_as_paid(self.payment(number), actor=STAFF, reason="looked at the chain")

    def refund(self, number):
        refunds.request_refund(self.payment(number), actor=STAFF, reason="the customer asked")

    def ask_for_rest(self, number):
        review.ask_for_rest(self.payment(number), actor=STAFF)

    def give_addresses(self):
        for refund in Refund.objects.filter(status="requested"):
            body = {"order_id": str(self.order.pk), "refund": str(refund.pk), "address": ADDRESSES[refund.currency]}
            answer = self.api("/api/payments/refund-address", body)
            assert answer.status_code == 200, answer.content

    def send_refunds(self):
        for refund in Refund.objects.filter(status="requested"):
            refunds.mark_sent(
                refund, actor=STAFF, transaction_id=f"0x{refund.pk.hex}", destination=refund.destination_id
            )

    def finish_refunds(self):
        for refund in Refund.objects.filter(status="sent"):
            refunds.mark_done(refund, actor=STAFF)

    # --- the outcome

    def amount_due(self):
        """Return what is left of the price, counted here anew."""
        counted = [p.price_amount if p.status == "finished" else p.credit for p in Payment.objects.filter(_COUNTS)]
        return max(self.order.total - sum(counted), 0)

    @contextlib.contextmanager
    def undone(self):
        """Take back afterwards what happens to our rows inside the block."""
        with transaction.atomic():
            try:
                yield
            finally:
                transaction.set_rollback(True)

    def order_now(self):
        order = Order.objects.get(pk=self.order.pk)
        return _with_reason(order)

    def payments_now(self):
        """Return "status: reason" of each payment, in the order in which the provider made them."""
        rows = sorted(Payment.objects.all(), key=lambda row: self._number(row.external_id))
        return tuple(_with_reason(row) for row in rows)

    def _number(self, external_id):
        return self.payments.index(external_id) if external_id in self.payments else len(self.payments)

    def timeline(self):
        """Return "order pending > paid" for a move and "payment: sentence" for a note, after the order's beginning."""
        return tuple(_line(event) for event in self.order.events.all())[1:]

    def mails(self):
        """Return the kinds of the customer's mails after the first, which confirms the order.

        Without those of coins that were seen, which the timeline tells as well; test_settlement has them.
        """
        told = (Email.Kind.ALERT, Email.Kind.PAYMENT_SEEN)
        mails = Email.objects.filter(order=self.order).exclude(kind__in=told).order_by("id")
        return tuple(mail.kind for mail in mails)[1:]

    def alerts(self):
        """Return "kind: what the payment needs" of each open alert."""
        return tuple(sorted(f"{a.kind}{_why(a.message)}" for a in Alert.objects.filter(status=Alert.Status.OPEN)))

    def refunds(self):
        rows = Refund.objects.order_by("created_at")
        return tuple(f"{row.status} {plain(row.amount)} {row.currency}" for row in rows)

    def inbox(self):
        return tuple(log.status for log in WebhookLog.objects.order_by("id"))

    def settled(self):
        """Return what counts in the end: states, reasons, money, alerts; not the way there."""
        return self.rows()[0]

    def rows(self):
        """Return what counts in the end, and with it all that decides what happens next."""
        order = Order.objects.get(pk=self.order.pk)
        is_bought = Reservation.objects.filter(item__order=order).exists()
        assert is_bought == (order.paid_at is not None)
        payments = sorted(Payment.objects.all(), key=lambda row: self._number(row.external_id))
        states = tuple(sorted(_with_reason(row) for row in payments))
        money = tuple((p.external_id, p.status, p.credit, p.actually_paid, p.provider_status) for p in payments)
        return (_with_reason(order), states, self.alerts(), self.refunds()), money

    def everything(self):
        """Return every row that a payment leaves, but for times and counters."""
        events = tuple((e.kind, e.from_status, e.to_status, e.message, e.actor) for e in self.order.events.all())
        return (self.rows(), events, tuple(Email.objects.order_by("id").values_list("kind", "reason", "to")))


def _with_reason(row):
    return f"{row.status}: {row.reason}" if row.reason else row.status


def _line(event):
    moved = f"{event.kind} {event.from_status} > {event.to_status}"
    return moved if event.to_status else f"{event.kind}: {event.message}"


def _why(message):
    return ": " + message.split(" needs attention: ")[1].split(".")[0] if " needs attention: " in message else ""
