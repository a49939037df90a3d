import os
import subprocess
import sys
import threading

import pytest

from bitloot.core import onecpu
from bitloot.core.onecpu import Settler

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no CPU affinity")


@pytest.fixture
def machine(monkeypatch):
    """A machine of four CPUs, whose use in the next ten seconds a test decides."""
    reads = {"time": 0.0, "own": 0.0, "busy": dict.fromkeys(range(4), 0.0)}
    moves = []
    monkeypatch.setattr(onecpu, "_read", lambda: (reads["time"], reads["own"], dict(reads["busy"])))
    monkeypatch.setattr(onecpu, "_move", moves.append)

    def pass_by(*busy, own=0.0):
        reads["time"] += 10
        reads["own"] += own * 10
        for cpu, share in enumerate(busy):
            reads["busy"][cpu] += share * 10

    return pass_by, moves


def test_it_settles_where_there_is_most_room(machine):
    pass_by, moves = machine
    settler = Settler(range(4))
    pass_by(0.9, 0.5, 0.1, 0.6)
    settler.look()
    assert moves == [2]


def test_it_takes_only_what_it_may_use(machine):
    pass_by, moves = machine
    settler = Settler({0, 3})
    pass_by(0.9, 0.0, 0.0, 0.6)
    settler.look()
    assert moves == [3]


@pytest.mark.parametrize(
    ("busy", "own", "then"),
    [
        ((0.3, 0.3, 1.0, 0.3), 0.85, []),  # its own work does not drive it away
        ((0.5, 0.0, 1.0, 0.6), 0.5, [1]),  # others want its CPU, and another one has more room
        ((0.5, 0.4, 1.0, 0.6), 0.5, []),  # others want it, but elsewhere it would hardly be better
    ],
)
def test_it_leaves_only_for_a_cpu_with_more_room_than_others_left_it(machine, busy, own, then):
    pass_by, moves = machine
    settler = Settler(range(4))
    pass_by(0.9, 0.5, 0.1, 0.6)
    settler.look()
    pass_by(*busy, own=own)
    settler.look()
    assert moves == [2, *then]


def test_two_that_meet_do_not_always_leave_for_the_same_one(machine):
    pass_by, moves = machine
    settlers = [Settler(range(4)) for _ in range(40)]
    pass_by(1.0, 0.0, 0.0, 0.05)
    for settler in settlers:
        settler.look()
    assert set(moves) == {1, 2, 3}


def test_every_thread_stays_there_even_one_that_starts_later():
    code = """
import os, threading
from bitloot.core import onecpu
go_on, seen = threading.Event(), []
def note():
    go_on.wait(10)
    seen.append(os.sched_getaffinity(0))
early = threading.Thread(target=note)
early.start()
settler = onecpu.Settler(os.sched_getaffinity(0))
settler.look()
late = threading.Thread(target=note)
late.start()
go_on.set()
early.join(), late.join()
assert seen == [{settler.cpu}, {settler.cpu}], seen
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_where_the_use_of_cpus_cannot_be_read_the_kernel_decides(monkeypatch, caplog):
    monkeypatch.setattr(onecpu, "_busy_seconds", dict)  # as in a sandbox that shows none
    monkeypatch.setattr(onecpu, "FIRST_LOOK_SECONDS", 0)
    onecpu._stay_well()
    assert "leaves its place to the kernel" in caplog.text


def test_a_process_that_has_one_cpu_only_looks_at_none(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    onecpu.settle()
    assert "one-cpu" not in {thread.name for thread in threading.enumerate()}
