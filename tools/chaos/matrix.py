"""Run cells on all lanes at once, and add up what came back."""

import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from bitloot.core.faults import NAMES
from tools.chaos.cells import BEHAVIOURS, FURTHER, Cell
from tools.chaos.stage import Lane
from tools.chaos.wire import WIRE_NAMES
from tools.dev.devenv import ROOT


@dataclass
class Tally:
    runs: int = 0
    interrupted: int = 0
    failpoints: Counter[str] = field(default_factory=Counter)
    behaviours: Counter[str] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    sold: Counter[int] = field(default_factory=Counter)
    wrong: list[tuple[str, str]] = field(default_factory=list)

    def add(self, result: dict[str, Any]) -> None:
        self.runs += 1
        self.interrupted += bool(result["hits"])
        self.failpoints[result["failpoint"]] += result["hits"]
        self.behaviours[result["behaviour"]] += bool(result["hits"])
        self.modes[result["mode"]] += bool(result["hits"])
        self.ends[result["facts"].get("order", "?")] += 1
        self.sold[result["facts"].get("sold", -1)] += 1
        self.wrong += [(result["cell"], text) for text in result["wrong"]]

    def never_hit(self) -> list[str]:
        """Return the failpoints and behaviours of which this run proves nothing."""
        places = [name for name in (*NAMES, *WIRE_NAMES) if not self.failpoints[name]]
        return places + [name for name in BEHAVIOURS | FURTHER if not self.behaviours[name]]


def run(lanes: Sequence[Lane], cells: Sequence[Cell], *, bug: str = "", told: Callable[[Tally], None]) -> Tally:
    """Run every cell once; with a bug planted, each lane stops at the first run that is found wrong."""
    tally, lock = Tally(), threading.Lock()

    def follow(lane: Lane) -> None:
        for line in _start(lane, cells[lane.number :: len(lanes)], bug):
            with lock:
                tally.add(json.loads(line))
                told(tally)

    threads = [threading.Thread(target=follow, args=(lane,)) for lane in lanes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return tally


def _start(lane: Lane, cells: Sequence[Cell], bug: str) -> Any:
    job = lane.folder / "job.json"
    asked = {"sandbox": lane.control.url, "folder": str(lane.folder), "bug": bug, "cells": [asdict(c) for c in cells]}
    job.write_text(json.dumps(asked))
    with (lane.folder / "lane.log").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tools.chaos.lane", str(job)],
            cwd=ROOT, env=lane.environment, stdout=subprocess.PIPE, stderr=log, text=True,
        )  # fmt: skip
    assert process.stdout is not None
    with process:
        yield from process.stdout
    if process.returncode:
        raise RuntimeError(f"lane {lane.number} ended with {process.returncode}; see {lane.folder}/lane.log")
