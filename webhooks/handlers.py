"""From provider to the function that handles its webhooks. Each returns whether it had an effect, and a sentence."""

from collections.abc import Callable

from bitloot.core.outcome import Outcome
from bitloot.core.strict_json import MalformedJson
from fulfillment import kinguin
from fulfillment.services import handle_supplier_event
from payments.ipn import parse_ipn
from payments.sync import handle_ipn
from webhooks.models import WebhookLog


def handle_nowpayments(log: WebhookLog) -> Outcome:
    try:
        hint = parse_ipn(bytes(log.body))
    except (MalformedJson, ValueError) as err:
        # It was signed, so it is kept; but no later try would read more in it.
        return Outcome.ignored(str(err))
    if not hint.payment_id:
        return Outcome.ignored("no payment of ours, a payout perhaps")
    return handle_ipn(hint)


def handle_kinguin(log: WebhookLog) -> Outcome:
    event = kinguin.client().parse_webhook(log.headers, bytes(log.body))
    return handle_supplier_event(event)


HANDLERS: dict[str, Callable[[WebhookLog], Outcome]] = {
    WebhookLog.Provider.NOWPAYMENTS: handle_nowpayments,
    WebhookLog.Provider.KINGUIN: handle_kinguin,
}
