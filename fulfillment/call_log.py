import time
from collections.abc import Callable
from typing import TypeVar

from bitloot.core import queries
from bitloot.core.faults import failpoint
from bitloot.core.providers import ProviderError
from fulfillment.models import Reservation, SupplierCall

T = TypeVar("T")


class CallLog:
    """What one worker asked the supplier for a reservation, written down together with what came of it."""

    def __init__(self, reservation: Reservation) -> None:
        self._reservation = reservation
        self._rows: list[SupplierCall] = []

    def ask(self, name: str, call: Callable[[], T]) -> T:
        """Make the call and note how it ended; errors go on to the caller."""
        started = time.monotonic()
        failpoint("call.before")
        try:
            result = call()
        except ProviderError as err:
            self._add(name, type(err).__name__, started, status_code=err.status, detail=str(err)[:300])
            raise
        self._add(name, "ok", started)
        failpoint("call.answered")
        return result

    def flush(self) -> None:
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
