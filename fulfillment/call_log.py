import time
from collections.abc import Callable
from typing import TypeVar

from bitloot.core import queries
from bitloot.core.faults import failpoint
from bitloot.core.providers import ProviderError
from fulfillment.kinguin import AmbiguousSearch, NotSupported, OutOfStock, UnreadableKey
from fulfillment.models import Reservation, SupplierCall

T = TypeVar("T")
# Errors that are an answer: what follows from them, the steps say.
ANSWERS = (OutOfStock, NotSupported, UnreadableKey, AmbiguousSearch)


class CallLog:
    """What one worker asked the supplier for a reservation, written down together with their outcomes."""

    def __init__(self, reservation: Reservation) -> None:
        self._reservation = reservation
        self._rows: list[SupplierCall] = []
        self.asked = False
        # The last call's error, if it brought no answer: a later call that succeeds shows that they do answer.
        self.trouble: ProviderError | None = None

    def ask(self, name: str, call: Callable[[], T]) -> T:
        """Make the call and note its outcome; errors reach the caller."""
        started = time.monotonic()
        self.asked = True
        failpoint("call.before")
        try:
            result = call()
        except ProviderError as err:
            self.trouble = None if isinstance(err, ANSWERS) else err
            self._add(name, type(err).__name__, started, status_code=err.status, detail=str(err)[:300])
            raise
        self.trouble = None
        self._add(name, "ok", started)
        failpoint("call.answered")
        return result

    def flush(self) -> None:
        # Together with the step's outcome: writing each call at once would cost a commit for each.
        queries.insert_all(self._rows)
        self._rows = []

    def _add(
        self, name: str, outcome: str, started: float, *, status_code: int | None = None, detail: str = ""
    ) -> None:
        elapsed = round((time.monotonic() - started) * 1000)
        self._rows.append(
            SupplierCall(
                reservation=self._reservation,
                call=name,
                outcome=outcome[:20],
                status_code=status_code,
                milliseconds=elapsed,
                detail=detail,
            )
        )
