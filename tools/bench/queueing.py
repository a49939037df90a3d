"""A small discrete-event simulation: stations with servers and a queue before them, budgets, and the clock."""

import heapq
import itertools
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass, field

# A process yields a station to be given one of its servers, or a number of seconds to wait.
Process = Generator["Station | float", None, None]


@dataclass
class Station:
    """Servers that are taken and given back, first come, first served."""

    name: str
    servers: int
    busy: int = 0
    busy_seconds: float = 0.0
    waiting: deque[Process] = field(default_factory=deque)
    _since: float = 0.0

    def note(self, now: float) -> None:
        self.busy_seconds += self.busy * (now - self._since)
        self._since = now

    def utilisation(self, now: float) -> float:
        self.note(now)
        return self.busy_seconds / (self.servers * now)


@dataclass
class Budget:
    """The token bucket of `bitloot/core/limits.py`: it holds two seconds' worth. A rate of 0 sets no limit."""

    name: str
    per_second: float
    _full_at: float = 0.0

    def take(self, now: float, *, leaving: float = 0.0) -> float:
        """Take a token and return 0, or return the seconds until there may be one, `leaving` a share to others."""
        if not self.per_second:
            return 0.0
        full_at = max(self._full_at, now) + 1 / self.per_second
        missing = full_at - now - max(2 * self.per_second, 4) * (1 - leaving) / self.per_second
        if missing > 1e-9:
            return missing
        self._full_at = full_at
        return 0.0


class Clock:
    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Process]] = []
        self._numbers = itertools.count()

    def start(self, process: Process, *, at: float) -> None:
        heapq.heappush(self._due, (at, next(self._numbers), process))

    def give_back(self, station: Station) -> None:
        station.note(self.now)
        if station.waiting:
            self.start(station.waiting.popleft(), at=self.now)  # its server passes on, and stays busy
        else:
            station.busy -= 1

    def run(self) -> None:
        """Run until no process is left."""
        while self._due:
            self.now, _, process = heapq.heappop(self._due)
            self._step(process)

    def _step(self, process: Process) -> None:
        for wanted in process:
            if not isinstance(wanted, Station):
                return self.start(process, at=self.now + wanted)
            wanted.note(self.now)
            if wanted.busy == wanted.servers:
                return wanted.waiting.append(process)
            wanted.busy += 1
        return None

    def use(self, station: Station, seconds: float) -> Process:
        yield station
        yield seconds
        self.give_back(station)
