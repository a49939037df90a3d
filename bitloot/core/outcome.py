"""What a webhook's handler did with it. Handlers live below the inbox, so the type lives below both."""

from dataclasses import dataclass
from enum import Enum
from typing import Self


class OutcomeKind(Enum):
    PROCESSED = "processed"
    IGNORED = "ignored"


@dataclass(frozen=True)
class Outcome:
    kind: OutcomeKind
    text: str

    @classmethod
    def processed(cls, text: str) -> Self:
        return cls(OutcomeKind.PROCESSED, text)

    @classmethod
    def ignored(cls, text: str) -> Self:
        """The webhook is authentic, but says nothing about a row of ours."""
        return cls(OutcomeKind.IGNORED, text)
