import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from django.db import DatabaseError

from bitloot.core.database import leave_connection, reason_of

logger = logging.getLogger(__name__)


class Level(StrEnum):
    OK = "ok"
    LOOK = "look"  # works, but somebody should look at it
    WRONG = "wrong"


@dataclass(frozen=True)
class Finding:
    level: Level
    message: str
    remedy: str = ""
    about: str = ""


Look = Callable[[], Iterator[Finding]]


def ok(message: str) -> Finding:
    return Finding(Level.OK, message)


def look(message: str, remedy: str) -> Finding:
    return Finding(Level.LOOK, message, remedy)


def wrong(message: str, remedy: str) -> Finding:
    return Finding(Level.WRONG, message, remedy)


def judged(message: str, remedy: str, *, is_wrong: bool, is_close: bool) -> Finding:
    """Return what is wrong, or close to it, or else well."""
    if is_wrong:
        return wrong(message, remedy)
    return look(message, remedy) if is_close else ok(message)


def examine(looks: Mapping[str, Look]) -> Iterator[Finding]:
    """Yield the findings of each look; one that fails is a finding, too, and hides none of the others."""
    for about, take in looks.items():
        try:
            found = list(take())
        except DatabaseError as err:
            found = [wrong(f"could not be looked at: {reason_of(err)}", "Fix the database first; see above.")]
        except Exception as err:
            logger.exception("the look at %s failed", about)
            found = [wrong(f"could not be looked at ({type(err).__name__})", "Read the log; fix what is named above.")]
        for finding in found:
            yield Finding(finding.level, finding.message, finding.remedy, about)
        leave_connection()
