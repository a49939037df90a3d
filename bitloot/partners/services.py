"""API keys and webhook endpoints: what staff do with them, in the admin or with `create_api_key`."""

import json
import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import requests
from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now

from bitloot.core import queries, wakeup
from bitloot.core.clients import Scope
from bitloot.core.decisions import ConfirmForm, Decision, ReasonForm, demand
from bitloot.core.outside import PORTS, is_given_out
from bitloot.partners.credentials import KeyText, digest_of, new_key, webhook_secrets
from bitloot.partners.events import TEST, Event, payload
from bitloot.partners.models import ApiKey, Endpoint, OutgoingWebhook
from bitloot.partners.signals import rights_changed
from orders.alerts import close_alert
from orders.choices import AlertKind
from orders.models import Order

MOST_ENDPOINTS = 5  # of one key
ON_ITS_WAY = "It is on its way: BitLoot tries for three days."
ENDED = "This API key has ended."


def validate_url(url: str) -> None:
    """Refuse what could never be delivered to; the address itself is checked when something is sent there."""
    try:
        requests.Request("POST", url).prepare()  # as it is sent: refuses spaces and stars in a host, and the like
        parts = urlsplit(url)
        port = parts.port
    except ValueError as err:
        raise ValidationError("This is not an address.") from err
    is_near = settings.WEBHOOKS_TO_LOOPBACK and parts.hostname in ("127.0.0.1", "localhost", "::1")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_near):
        raise ValidationError("It has to begin with https://.")
    if port not in (None, *PORTS) and not is_near:
        raise ValidationError(f"Use one of the ports {' and '.join(map(str, PORTS))}.")
    if not parts.hostname or parts.username is not None or parts.fragment:
        raise ValidationError("Write a host and a path: no user name, and no #.")
    if _is_inside(parts.hostname) and not is_near:
        raise ValidationError("This address is inside a private network, where nothing is sent.")


def _is_inside(host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return host == "localhost" or "." not in host
    return not (address.is_global and is_given_out(address))


class EndpointForm(forms.Form):
    url = forms.CharField(max_length=500, validators=[validate_url], widget=forms.URLInput(), label="Address")
    events = forms.MultipleChoiceField(
        choices=Event.choices, initial=Event.values, widget=forms.CheckboxSelectMultiple, label="Events"
    )


# --- keys ---


def create_key(
    *,
    name: str,
    email: str,
    scopes: Sequence[str],
    requests_per_minute: int = 600,
    unpaid_per_hour: int = 100,
    expires_at: datetime | None = None,
    pk: uuid.UUID | None = None,
) -> tuple[ApiKey, KeyText]:
    """Make an API key. What is returned beside it is the only time that its text is known. Raises ValidationError."""
    text = new_key()
    key = ApiKey(
        pk=pk or uuid.uuid4(),
        name=name,
        email=email,
        prefix=text.prefix,
        digest=digest_of(text),
        scopes=sorted(set(scopes)),
        requests_per_minute=requests_per_minute,
        unpaid_per_hour=unpaid_per_hour,
        expires_at=expires_at,
    )
    key.full_clean()
    if unknown := set(scopes) - set(Scope.values):
        raise ValidationError({"scopes": [f"There is no scope {', '.join(sorted(unknown))}."]})
    with transaction.atomic():
        key.save(force_insert=True)
        key.refresh_from_db()
        rights_changed.send(sender=ApiKey, about=key, what=f"made: {', '.join(key.scopes)}")
    return key, text


def renew_key(key: ApiKey, *, overlap: timedelta) -> KeyText:
    """Give a key another secret and return it; the one so far works for `overlap` longer. Raises DecisionRefused."""
    with transaction.atomic():
        # Locked: of two renewals at once, the later must keep the secret that the earlier gave out.
        locked = ApiKey.objects.select_for_update().get(pk=key.pk)
        demand(objection_to_ending(locked))
        text = new_key(locked.prefix)
        fields = {"digest": digest_of(text), "earlier_digest": locked.digest, "earlier_until": Now() + overlap}
        ApiKey.objects.filter(pk=key.pk).update(**fields)
        hours = overlap.total_seconds() / 3600
        what = (
            f"new secret; the one before works for {hours:g} h" if overlap else "new secret; the one before has ended"
        )
        rights_changed.send(sender=ApiKey, about=locked, what=what)
    return text


class LimitsForm(forms.Form):
    email = forms.EmailField(max_length=254, help_text="Who hears of it when its webhooks stop.")
    requests_per_minute = forms.IntegerField(min_value=1, max_value=100_000)
    unpaid_per_hour = forms.IntegerField(min_value=1, max_value=100_000, label="Unpaid orders per hour")


def change_limits(key: ApiKey, *, email: str, requests_per_minute: int, unpaid_per_hour: int, actor: str = "") -> None:
    """Change what a key may in an hour or minute, and whose it is. Raises DecisionRefused."""
    with transaction.atomic():
        demand(objection_to_ending(ApiKey.objects.select_for_update().get(pk=key.pk)))
        fields = {"email": email, "requests_per_minute": requests_per_minute, "unpaid_per_hour": unpaid_per_hour}
        ApiKey.objects.filter(pk=key.pk).update(**fields)
        what = f"limits: {requests_per_minute} requests a minute, {unpaid_per_hour} unpaid orders an hour; to {email}"
        rights_changed.send(sender=ApiKey, about=key, what=what)


def objection_to_ending(key: ApiKey) -> str | None:
    return None if key.ended_at is None else "It has ended already."


def end_key(key: ApiKey, *, actor: str, reason: str) -> None:
    """End a key for good; its orders stay. Raises DecisionRefused."""
    with transaction.atomic():
        # Compare-and-set: of two who end it at once, one is told so, and one line is written.
        rows = ApiKey.objects.filter(pk=key.pk, ended_at=None)
        demand(None if rows.update(ended_at=Now(), earlier_until=None) else "It has ended already.")
        rights_changed.send(sender=ApiKey, about=key, what=f"ended: {reason}")


# --- endpoints ---


def objection_to_another(key: ApiKey) -> str | None:
    if key.ended_at is not None:
        return ENDED
    return f"It has {MOST_ENDPOINTS} endpoints already." if key.endpoints.count() >= MOST_ENDPOINTS else None


def add_endpoint(key: ApiKey, *, url: str, events: Sequence[str], actor: str = "") -> Endpoint:
    """Send this key's events to an address. Raises DecisionRefused."""
    with transaction.atomic():
        # Locked while counting: two at once would both find room for the last one.
        demand(objection_to_another(ApiKey.objects.select_for_update().get(pk=key.pk)))
        return Endpoint.objects.create(api_key=key, url=url, events=sorted(set(events)))


def objection_to_changing(endpoint: Endpoint) -> str | None:
    return None if endpoint.api_key.ended_at is None else ENDED


def change_endpoint(endpoint: Endpoint, *, url: str, events: Sequence[str], actor: str = "") -> None:
    """Send the events elsewhere, or others. Raises DecisionRefused."""
    demand(objection_to_changing(endpoint))
    # Days in which the earlier address failed do not count against another one: it would be off at its first failure.
    anew = {"failing_since": None, "paused_until": None} if url != endpoint.url else {}
    Endpoint.objects.filter(pk=endpoint.pk).update(url=url, events=sorted(events), **anew)


def objection_to_switching_off(endpoint: Endpoint) -> str | None:
    return None if endpoint.is_enabled else "It is off already."


def objection_to_switching_on(endpoint: Endpoint) -> str | None:
    if endpoint.is_enabled:
        return "It is on already."
    return None if endpoint.api_key.ended_at is None else ENDED


def switch_off(endpoint: Endpoint, *, actor: str, reason: str) -> None:
    demand(None if endpoint.switch_off(reason=f"{actor}: {reason}") else "It is off already.")


def switch_on(endpoint: Endpoint, *, actor: str) -> None:
    """Send there again, at once what still waits; staff send again what was given up. Raises DecisionRefused."""
    with transaction.atomic():
        demand(objection_to_switching_on(endpoint))
        demand(None if endpoint.switch_on() else "It is on already.")
        # Not one that a worker has: its outcome says when it is due.
        endpoint.webhooks.filter(status=OutgoingWebhook.Status.QUEUED, claim_token=None).update(next_attempt_at=Now())
        wakeup.notify("partners")
        close_alert(AlertKind.ENDPOINT_OFF, endpoint, by=actor)


def renew_secret(endpoint: Endpoint, *, actor: str = "") -> None:
    """Sign with a new secret, and for a day with the earlier one as well. Raises DecisionRefused."""
    demand(objection_to_changing(endpoint))
    Endpoint.objects.filter(pk=endpoint.pk).update(generation=F("generation") + 1, renewed_at=Now())


def secret_of(endpoint: Endpoint) -> str:
    return webhook_secrets(endpoint.pk, [endpoint.generation])[0]


# --- what is sent ---


def enabled_endpoints(key_id: uuid.UUID | None, event: str) -> list[Endpoint]:
    enabled = Endpoint.objects.filter(api_key=key_id, is_enabled=True).select_related("api_key")
    return [endpoint for endpoint in enabled if event in endpoint.events and endpoint.api_key.is_live]


def owe(endpoints: Sequence[Endpoint], body: dict[str, Any], *, order: Order | None = None) -> None:
    """Write a row for each endpoint, in the caller's transaction."""
    text = json.dumps(body, separators=(",", ":"))
    for endpoint in endpoints:
        queries.insert(OutgoingWebhook(endpoint=endpoint, order=order, event=body["type"], body=text))


def objection_to_test(endpoint: Endpoint) -> str | None:
    if endpoint.api_key.ended_at is not None:
        return ENDED
    return None if endpoint.is_enabled else "It is off. Switch it on first."


def send_test(endpoint: Endpoint, *, actor: str = "") -> None:
    """Owe an event that is about nothing. Raises DecisionRefused."""
    with transaction.atomic():
        demand(objection_to_test(endpoint))
        owe([endpoint], payload(TEST, endpoint_id=str(endpoint.pk)))
        _do_not_wait_for(endpoint)


def objection_to_redelivery(webhook: OutgoingWebhook) -> str | None:
    if webhook.status not in OutgoingWebhook.ENDED:
        return ON_ITS_WAY
    return objection_to_test(webhook.endpoint)


def redeliver(webhook: OutgoingWebhook, *, actor: str = "") -> None:
    """Owe an event that has ended once more, under the same id. Raises DecisionRefused."""
    with transaction.atomic():
        demand(objection_to_test(webhook.endpoint))
        demand(None if webhook.mark_queued_again() else ON_ITS_WAY)
        _do_not_wait_for(webhook.endpoint)


def _do_not_wait_for(endpoint: Endpoint) -> None:
    Endpoint.objects.filter(pk=endpoint.pk).update(paused_until=None)
    wakeup.notify("partners")


END_KEY: Decision[ApiKey] = Decision(
    name="end",
    label="End this key",
    permission="partners.end_apikey",
    objection=objection_to_ending,
    carry_out=end_key,
    form=ReasonForm,
    consequence="Requests with it are refused from now on, and its webhooks stop. Its orders are delivered as before.",
    done="ended. Requests with it are refused.",
)
CHANGE_LIMITS: Decision[ApiKey] = Decision(
    name="limits",
    label="Change limits or contact",
    permission="partners.change_apikey",
    objection=objection_to_ending,
    carry_out=change_limits,
    form=LimitsForm,
    initial=lambda key: {name: getattr(key, name) for name in LimitsForm.base_fields},
    consequence="They hold from the next request on. Scopes stay as they are: another scope takes another key.",
    done="changed.",
)
ADD_ENDPOINT: Decision[ApiKey] = Decision(
    name="add-endpoint",
    label="Add a webhook endpoint",
    permission="partners.add_endpoint",
    objection=objection_to_another,
    carry_out=add_endpoint,
    form=EndpointForm,
    consequence="Events of orders placed with this key are sent there, signed. Its secret stands on its own page.",
    done="the endpoint is there. Open it for its secret, and send a test event.",
)
CHANGE_ENDPOINT: Decision[Endpoint] = Decision(
    name="change",
    label="Change address or events",
    permission="partners.change_endpoint",
    objection=objection_to_changing,
    carry_out=change_endpoint,
    form=EndpointForm,
    initial=lambda endpoint: {"url": endpoint.url, "events": endpoint.events},
    consequence="Events that wait go to the new address, too.",
    done="changed.",
)
SWITCH_OFF: Decision[Endpoint] = Decision(
    name="switch-off",
    label="Switch off",
    permission="partners.switch_endpoint_off",
    objection=objection_to_switching_off,
    carry_out=switch_off,
    form=ReasonForm,
    consequence="Events that wait are given up when their turn comes, and new ones are not kept: the shop has to ask"
    " for its orders' status.",
    done="off. Nothing is sent there.",
)
SWITCH_ON: Decision[Endpoint] = Decision(
    name="switch-on",
    label="Switch on again",
    permission="partners.switch_endpoint_on",
    objection=objection_to_switching_on,
    carry_out=switch_on,
    done="on; what still waits is sent now. Send a test event, then again what was given up",
)
RENEW_SECRET: Decision[Endpoint] = Decision(
    name="new-secret",
    label="Give it a new secret",
    permission="partners.renew_endpoint_secret",
    objection=objection_to_changing,
    carry_out=renew_secret,
    form=ConfirmForm,
    consequence="For a day, each event is signed with both secrets; then with the new one only.",
    done="it has a new secret. The earlier one signs for another day.",
)
SEND_TEST: Decision[Endpoint] = Decision(
    name="send-test",
    label="Send a test event",
    permission="partners.test_endpoint",
    objection=objection_to_test,
    carry_out=send_test,
    done="a test event leaves within seconds; see its webhooks for the answer",
)
REDELIVER: Decision[OutgoingWebhook] = Decision(
    name="redeliver",
    label="Send again",
    permission="partners.redeliver_webhook",
    objection=objection_to_redelivery,
    carry_out=redeliver,
    done="queued again; it leaves within seconds, under the same id",
)
