"""The reservations dialect of BitLoot's partners: reserve, give, delivered, with a bearer token."""

import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from bitloot.core.providers import ProviderNotSent, ProviderUnavailable, Transport, UnreadableAnswer
from bitloot.core.reader import Fields
from fulfillment.kinguin import wire
from fulfillment.kinguin.protocol import (
    BadWebhook,
    Health,
    KinguinCredentialsRefused,
    KinguinRejected,
    NotSupported,
    SupplierEvent,
    SupplierKey,
    SupplierOrder,
    SupplierStatus,
    TokenExpired,
)
from fulfillment.kinguin.without_catalogue import WithoutCatalogue

STATUSES = {
    "reserve": SupplierStatus.PROCESSING,
    "reserved": SupplierStatus.PROCESSING,
    "pending": SupplierStatus.PROCESSING,
    "processing": SupplierStatus.PROCESSING,
    "give": SupplierStatus.PROCESSING,
    "given": SupplierStatus.PROCESSING,
    "delivered": SupplierStatus.COMPLETED,
    "completed": SupplierStatus.COMPLETED,
    "cancel": SupplierStatus.CANCELED,
    "canceled": SupplierStatus.CANCELED,
    "cancelled": SupplierStatus.CANCELED,
    "refunded": SupplierStatus.REFUNDED,
}
EVENTS = ("reserve", "give", "delivered", "cancel")
REFRESH_BEFORE = 60
_TOKEN = re.compile(r"[!-~]{1,4096}")


@dataclass(frozen=True)
class _Token:
    value: str
    good_until: float


class ReservationsClient(WithoutCatalogue):
    dialect = "reservations"
    can_find = False
    must_give = True
    webhook_answer = (200, b'{"ok":true}')

    def __init__(self, transport: Transport, *, client_id: str, client_secret: str) -> None:
        self._endpoint = wire.Endpoint(transport)
        self.host = self._endpoint.host
        self._credentials = {"client_id": client_id, "client_secret": client_secret}
        self._token: _Token | None = None
        self._lock = threading.Lock()

    def reserve(
        self, *, external_id: str, product_id: str, offer_id: str, quantity: int, price: Decimal, text_only: bool
    ) -> SupplierOrder:
        document = {"productId": wire.path_id(product_id, "product"), "quantity": quantity}
        # Before one is fetched: only what we had before can have expired, see `_send`.
        kept = self._token
        try:
            token = self._bearer()
        except ProviderUnavailable as err:
            raise ProviderNotSent("No token, so the reservation was not sent", status=err.status) from err
        return _order(self._send("POST", "/reservations", token, kept, document=document), external_id)

    def give(self, order_id: str) -> None:
        kept = self._token
        self._send("POST", f"/reservations/{wire.path_id(order_id, 'reservation')}/give", self._bearer(), kept)

    def read(self, order_id: str) -> SupplierOrder:
        return _order(self._delivered(order_id), "")

    def delivered(self, order_id: str) -> list[SupplierKey]:
        return wire.numbered_keys(order_id, Fields(self._delivered(order_id), what="reservation").items("codes"))

    def find(self, external_id: str) -> None:
        raise NotSupported("The reservations dialect keeps no external id, so nothing can be searched for.")

    def cancel(self, order_id: str) -> None:
        raise NotSupported("The reservations dialect cannot cancel; ask the supplier's support.")

    def health(self) -> Health:
        return wire.measured(self._check)

    def verify_webhook(self, headers: Mapping[str, str], raw: bytes, secrets: Sequence[str]) -> None:
        expected = wire.require_secrets(secrets)
        if not wire.equals_any(wire.header_bytes(wire.header(headers, "x-auth-token")), expected):
            raise BadWebhook("X-Auth-Token is missing or wrong.")

    def parse_webhook(self, headers: Mapping[str, str], raw: bytes) -> SupplierEvent:
        if raw.strip() in (b"", b"{}"):
            return SupplierEvent("ping")
        body = wire.webhook_body(raw) or {}
        order_id, event = wire.safe_id(body.get("reservationId")), wire.safe_id(body.get("event"))
        if not order_id or event not in EVENTS:
            return SupplierEvent("unknown", order_id=order_id)
        return SupplierEvent("order", event, order_id, status=event)

    def _delivered(self, order_id: str) -> Any:
        path = f"/reservations/{wire.path_id(order_id, 'reservation')}/delivered"
        kept = self._token
        try:
            document = self._send("GET", path, self._bearer(), kept)
        except KinguinRejected as err:
            if err.status != 401:
                raise
            # Once more with a fresh token. A read may be repeated; a purchase may not, see `reserve`.
            document = self._send("GET", path, self._bearer(), None)
        if Fields(document, what="reservation").raw("reservationId") != order_id:
            raise UnreadableAnswer(f"The supplier answered with another reservation than {order_id}")
        return document

    def _send(self, method: str, path: str, token: str, kept: _Token | None, *, document: Any = None) -> Any:
        """Make a call with this token; `kept` is the one that we had before, if we had one. Raises TokenExpired."""
        headers = {"Authorization": f"Bearer {token}"}
        try:
            return self._endpoint.call(method, path, document=document, headers=headers)
        except KinguinRejected as err:
            if err.status == 401:
                self._forget(token)
            # Only the refusal of a token fresh from their hands says that our credentials are no longer good.
            if err.status == 401 and kept and kept.value == token:
                raise TokenExpired(str(err), status=401, kind=err.kind, detail=err.detail) from err
            raise

    def _bearer(self) -> str:
        # Held while the token is fetched: threads that need one wait for it instead of fetching one each.
        with self._lock:
            if self._token is None or self._token.good_until <= time.monotonic():
                self._token = self._fetch_token()
            return self._token.value

    def _forget(self, token: str) -> None:
        with self._lock:
            if self._token and self._token.value == token:
                self._token = None

    def _fetch_token(self) -> _Token:
        # From before the call: at their side the token's life begins before we hear of it.
        asked_at = time.monotonic()
        try:
            answer = Fields(self._endpoint.call("POST", "/auth/token", document=self._credentials), what="token")
        except KinguinRejected as err:
            message = "The supplier refuses KINGUIN_CLIENT_ID and KINGUIN_CLIENT_SECRET"
            raise KinguinCredentialsRefused(message, status=err.status, kind="Authorization", detail=message) from err
        value = answer.raw("access_token")
        if not isinstance(value, str) or not _TOKEN.fullmatch(value):
            raise UnreadableAnswer("The supplier's token is not one that fits a header")
        return _Token(value, asked_at + float(answer.amount("expires_in")) - REFRESH_BEFORE)

    def _check(self) -> None:
        self._fetch_token()


def _order(document: Any, external_id: str) -> SupplierOrder:
    order = Fields(document, what="reservation")
    order_id = wire.safe_id(order.text("reservationId"))
    if not order_id:
        raise UnreadableAnswer("The supplier answered with a reservation id of another form")
    return SupplierOrder(
        order_id=order_id,
        external_id=external_id,
        status=wire.status_of(order.raw("status"), STATUSES),
        keys_ready=len(order.items("codes")),
    )
