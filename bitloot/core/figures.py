"""Figures over measured values."""

from collections.abc import Iterable
from typing import TypeVar

Number = TypeVar("Number", int, float)


def percentile(values: Iterable[Number], share: int) -> Number:
    """Return the value that `share` of 100 do not exceed: one that was measured. There has to be one."""
    ordered = sorted(values)
    return ordered[min(len(ordered) * share // 100, len(ordered) - 1)]
