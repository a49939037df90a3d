from rest_framework.exceptions import AuthenticationFailed


class ApiKeyRefused(AuthenticationFailed):
    """An API key that opens nothing; the same for an unknown, expired and ended one."""


class NotDelivered(Exception):
    """The endpoint cannot be reached or took no event; `status` and `response` are what it answered, if it did."""

    def __init__(self, message: str, *, status: int | None = None, response: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.response = response


class Gone(NotDelivered):
    """The endpoint answered 410: it wants nothing any more."""
