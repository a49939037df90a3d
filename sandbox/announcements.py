"""What Kinguin tells the shop about its orders and products, in the dialect the order came in through."""

import hashlib
import hmac
from sqlite3 import Row

from sandbox import javascript
from sandbox.store import Tx
from sandbox.webhooks import Webhook, post
from sandbox.world import World, milliseconds_stamp

# What the event is called in each dialect's webhook; the other two do not tell of everything.
EVENTS: dict[str, dict[str, str]] = {
    "ecommerce": {name: name for name in ("processing", "completed", "canceled", "refunded")},
    "reservations": {
        "processing": "reserve",
        "given": "give",
        "completed": "delivered",
        "canceled": "cancel",
        "refunded": "cancel",
    },
    "orders": {"completed": "order.ready", "canceled": "order.cancelled", "refunded": "order.cancelled"},
}


def announce(world: World, tx: Tx, purchase: Row, event: str) -> None:
    if event not in EVENTS[purchase["dialect"]]:
        return
    # A lie tells of keys that are not there yet, or of an end that did not happen.
    lie = "canceled" if event == "completed" else "completed"
    post(world, tx, _webhook(world, purchase, event), lie=_webhook(world, purchase, lie))


def announce_product(world: World, tx: Tx, product: Row) -> None:
    body = {
        "kinguinId": product["kinguin_id"],
        "productId": product["id"],
        "qty": product["qty"],
        "textQty": product["text_qty"],
        "cheapestOfferId": [product["offer_id"]] if product["qty"] else [],
        "updatedAt": milliseconds_stamp(product["updated"]),
    }
    secret = world.config.kinguin_webhook_secret
    headers = {"X-Event-Name": "product.update", "X-Event-Secret": secret}
    url = f"{world.config.store_url}/api/webhooks/kinguin"
    event = "product.update"
    post(world, tx, Webhook("kinguin", url, javascript.stringify(body), headers, product["id"], product["id"], event))


def _webhook(world: World, purchase: Row, event: str) -> Webhook:
    body, headers = _WEBHOOK_SHAPES[purchase["dialect"]](world, purchase, EVENTS[purchase["dialect"]][event])
    return Webhook(
        provider="kinguin",
        url=f"{world.config.store_url}/api/webhooks/kinguin",
        body=body,
        headers=headers,
        subject=purchase["external_id"] or purchase["id"],
        order_id=purchase["id"],
        event=event,
    )


def _ecommerce_webhook(world: World, purchase: Row, event: str) -> tuple[str, dict[str, str]]:
    body = {
        "orderId": purchase["id"],
        "orderExternalId": purchase["external_id"],
        "status": event,
        "updatedAt": milliseconds_stamp(purchase["updated"]),
    }
    headers = {"X-Event-Name": "order.status", "X-Event-Secret": world.config.kinguin_webhook_secret}
    return javascript.stringify(body), headers


def _reservations_webhook(world: World, purchase: Row, event: str) -> tuple[str, dict[str, str]]:
    body = javascript.stringify({"reservationId": purchase["id"], "event": event})
    return body, {"X-Auth-Token": world.config.kinguin_webhook_secret}


def _orders_webhook(world: World, purchase: Row, event: str) -> tuple[str, dict[str, str]]:
    body = javascript.stringify({"orderId": purchase["id"], "event": event})
    digest = hmac.new(world.config.kinguin_webhook_secret.encode(), body.encode(), hashlib.sha512).hexdigest()
    return body, {"X-KINGUIN-SIGNATURE": digest}


_WEBHOOK_SHAPES = {
    "ecommerce": _ecommerce_webhook,
    "reservations": _reservations_webhook,
    "orders": _orders_webhook,
}
