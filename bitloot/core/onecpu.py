"""Keep the threads of a worker on one CPU.

Python lets one thread of a process compute at a time. The kernel spreads them over all CPUs nevertheless, and then each
handing over wakes a CPU that sleeps, with a cold cache: up to a quarter of what an order costs (docs/performance.md).
So the worker stays on the CPU with the most room, and leaves it for another one where others take less.
"""

import logging
import os
import random
import threading
import time
from collections.abc import Iterable
from contextlib import suppress

logger = logging.getLogger(__name__)

FIRST_LOOK_SECONDS = 1.0
LOOK_SECONDS = 10.0
# Shares of a CPU: what another one must offer more to be worth a move, and what makes no difference.
MORE_ROOM = 0.25
AS_GOOD = 0.1
_TICK = 1 / os.sysconf("SC_CLK_TCK")


def settle() -> None:
    """Have this process settle down on one of the CPUs it may use, if the system can do that."""
    if hasattr(os, "sched_setaffinity") and len(os.sched_getaffinity(0)) > 1:
        threading.Thread(target=_stay_well, name="one-cpu", daemon=True).start()


def _stay_well() -> None:
    try:
        settler = Settler(os.sched_getaffinity(0))
        time.sleep(FIRST_LOOK_SECONDS)
        while True:
            settler.look()
            time.sleep(LOOK_SECONDS)
    except (OSError, ValueError, KeyError) as err:
        logger.warning("this worker leaves its place to the kernel: its CPUs cannot be read or chosen (%r)", err)


class Settler:
    """Decides where to stay, by what each CPU did since the look before."""

    def __init__(self, allowed: Iterable[int]) -> None:
        self.cpu: int | None = None
        self._allowed = sorted(allowed)
        self._before = _read()

    def look(self) -> None:
        """Settle, or move on if others want the CPU while another one has more room."""
        now, own, busy = read = _read()
        then, own_then, busy_then = self._before
        self._before = read
        room = {cpu: 1 - (busy[cpu] - busy_then[cpu]) / (now - then) for cpu in self._allowed}
        if self.cpu is not None:
            room[self.cpu] += (own - own_then) / (now - then)
        best = max(room.values())
        if self.cpu is None or best > room[self.cpu] + MORE_ROOM:
            # By chance, so that two workers that meet do not leave for the same one.
            self.cpu = random.choice([cpu for cpu in self._allowed if room[cpu] > best - AS_GOOD])  # noqa: S311
            _move(self.cpu)


def _read() -> tuple[float, float, dict[int, float]]:
    """Return the time, and the seconds for which this process and each CPU have been busy."""
    own = os.times()
    return time.monotonic(), own.user + own.system, _busy_seconds()


def _busy_seconds() -> dict[int, float]:
    busy = {}
    with open("/proc/stat") as file:
        for line in file:
            name, *ticks = line.split()
            if name.startswith("cpu") and name != "cpu":
                user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, ticks[:8])
                busy[int(name[3:])] = (user + nice + system + irq + softirq + steal) * _TICK
    return busy


def _move(cpu: int) -> None:
    for thread in os.listdir("/proc/self/task"):
        with suppress(ProcessLookupError):  # it has just ended
            os.sched_setaffinity(int(thread), {cpu})
