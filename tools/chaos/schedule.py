"""What is done to the processes of a random run, and when: drawn by the seed alone, so the seed brings it back."""

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass

from bitloot.core.faults import NAMES

WORKERS = ("worker", "worker2")
# How often in a hundred, what, and to whom. Each kind comes once before chance alone decides.
CHANCES = (
    (18, "kill9", WORKERS),
    (14, "kill9", ("web",)),
    (8, "kill9", ("beat", "beat2")),
    (22, "armed", WORKERS),  # started again with a failpoint that will end or break it
    (10, "pause", WORKERS),  # stopped for longer than a lease, then woken
    (8, "flushall", ("redis",)),
    (6, "kill9", ("redis",)),
    (5, "restart", ("redis",)),
    (6, "immediate", ("postgres",)),
    (3, "kill9", ("sandbox",)),
)
ACTIONS = ("kill9", "kill9", "kill9", "sleep", "raise", "drop_db", "lose_commit")
KINDS = frozenset(f"{what} {target}" for _, what, targets in CHANCES for target in targets)
# A blow falls each time this many more orders were paid: the run's own progress is the clock, so that a slow computer
# sees the same blows at the same places as a fast one.
GAPS = (2, 3, 4, 5, 6)


@dataclass(frozen=True)
class Blow:
    at: int  # orders paid by then
    what: str
    target: str
    failpoint: str = ""
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.at:5} {self.what} {self.target} {self.failpoint} {self.seconds:.1f}"


def blows(seed: int) -> Iterator[Blow]:
    """Yield blows without end."""
    chance, at = random.Random(seed), 0  # noqa: S311 - a schedule, not a secret
    first = sorted(KINDS)
    chance.shuffle(first)
    while True:
        if first:
            what, target = first.pop().split(" ")
        else:
            _, what, targets = chance.choices(CHANCES, weights=[weight for weight, _, _ in CHANCES])[0]
            target = chance.choice(targets)
        plan = f"{chance.choice(NAMES)}:{chance.choice(ACTIONS)}:{chance.choice((1, 1, 2, 5))}"
        at += chance.choice(GAPS)
        yield Blow(at, what, target, plan if what == "armed" else "", round(chance.uniform(0.5, 2.5), 2))


def fingerprint(seed: int, count: int = 500) -> str:
    """Return a short name of the schedule: equal for equal seeds."""
    text = "\n".join(str(blow) for blow, _ in zip(blows(seed), range(count), strict=False))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
