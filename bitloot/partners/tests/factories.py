from bitloot.core.clients import Scope
from bitloot.partners import services
from bitloot.partners.events import Event
from bitloot.partners.models import Endpoint

ALL = tuple(Scope.values)


def make_key(*, scopes=ALL, name="Corner Shop", email="dev@partner.example", **fields):
    """Return an API key, and the text that a request shows."""
    key, text = services.create_key(name=name, email=email, scopes=scopes, **fields)
    return key, str(text)


def make_endpoint(url="https://hooks.partner.example/bitloot", events=tuple(Event.values), key=None, **fields):
    key = key or make_key()[0]
    return Endpoint.objects.create(api_key=key, url=url, events=list(events), **fields)


def bearer(text):
    return {"Authorization": f"Bearer {text}"}
