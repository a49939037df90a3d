from rest_framework.exceptions import NotAuthenticated


class OwnOnly(NotAuthenticated):
    """The list of an API key's own orders was asked for without one."""


class TooManyUnpaid(Exception):
    """This API key has as many unpaid orders of the last hour as it may have."""

    retry_after = 600  # seconds


class InvalidTransition(Exception):
    """A status change that the state machine forbids: a bug, or a caller that did not check first."""


class OrderRefused(Exception):
    """The order cannot be placed as asked. `errors` says per field what to change."""

    def __init__(self, errors: dict[str, list[str]]) -> None:
        super().__init__("; ".join(message for messages in errors.values() for message in messages))
        self.errors = errors


class AddressStays(Exception):
    """The customer may not change the order's address now. The message is for the customer."""


class OrderNotFound(Exception):
    """No such order for this token; says the same for an unknown order and for a wrong token."""


class LinkReplaced(Exception):
    """A mailed link that a newer one has ended."""


class LinkExpired(Exception):
    """A genuine token that is older than tokens live."""


class CodeRefused(Exception):
    """A one-time code that opens nothing; the same for a wrong, used or late one and for an unknown order."""


class KeySpent(Exception):
    """The order of this Idempotency-Key was paid, or its links were ended: a repeat no longer brings its bearer."""


class KeyReused(Exception):
    """The Idempotency-Key was used before with another body."""


class StillRunning(Exception):
    """The first request with this Idempotency-Key has not finished yet."""

    retry_after = 5  # seconds
