"""CPU seconds and memory of whole process trees, the children that ended included."""

from dataclasses import dataclass, field

import psutil


@dataclass
class Meter:
    """Reads the CPU time of these processes and all they started."""

    roots: list[int]
    _before: float = field(default=0.0, init=False)

    def start(self) -> None:
        self._before = self.total()

    def used(self) -> float:
        return self.total() - self._before

    def total(self) -> float:
        return sum(_tree(pid) for pid in self.roots)


def memory(pid: int) -> float:
    """Return the MiB that a process and all it started hold; pages that they share count once (PSS)."""
    return sum(process.memory_full_info().pss for process in _processes(pid)) / 2**20


def _tree(pid: int) -> float:
    return sum(_spent(process) for process in _processes(pid))


def _processes(pid: int) -> list[psutil.Process]:
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def _spent(process: psutil.Process) -> float:
    """Return what a process has used; a parent's account holds what its dead children had used."""
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)
