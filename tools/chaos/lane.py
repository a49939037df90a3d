"""One lane of the matrix: a process that has loaded BitLoot, and forks one more for everything that may die."""

import contextlib
import gc
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import django

TIMEOUT_SECONDS = 300
# Shorter than in the shop, so that silence and a stopped rival cost little; the rules are the same.
READ_TIMEOUT = 0.3
LOCK_TIMEOUT_MS = 300
LATE_SECONDS = 0.45
AHEAD = 20


@dataclass
class Result:
    cell: str
    failpoint: str
    behaviour: str
    mode: str
    hits: int
    wrong: list[str]
    facts: dict[str, Any]


class Child:
    """A forked process and what it hands back, if it lives to do so."""

    def __init__(self, work: Callable[[], Any]) -> None:
        read, write = os.pipe()
        self.pid, self._read = os.fork(), read
        if self.pid == 0:
            os.close(read)
            _run_and_exit(work, write)
        os.close(write)
        self.status: int | None = None

    def stopped_or_ended(self) -> bool:
        """Wait; return True if the child stopped itself and waits for SIGCONT."""
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        if os.WIFSTOPPED(status):
            return True
        self.status = status
        return False

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def result(self) -> Any:
        """Wait for the end; return what the child handed back, None if it was killed."""
        with os.fdopen(self._read) as pipe:
            text = pipe.read()
        if self.status is None:
            _, self.status = os.waitpid(self.pid, 0)
        return json.loads(text) if text else None


def _run_and_exit(work: Callable[[], Any], write: int) -> None:
    signal.alarm(TIMEOUT_SECONDS)
    try:
        _be_a_process_of_its_own()
        with os.fdopen(write, "w") as pipe:
            json.dump(work(), pipe)
    except BaseException:  # noqa: BLE001 - this process has nobody to tell but its log
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(0)


def _be_a_process_of_its_own() -> None:
    """Threads do not survive a fork, and the supplier's answers are waited for less patiently than in the shop."""
    from fulfillment import kinguin
    from payments import creation
    from payments.calls import Calls

    creation._calls = Calls(threads=2, under_way=8, waiting=2)
    kinguin.client()._endpoint._transport.read_timeout = READ_TIMEOUT  # type: ignore[attr-defined]


def main() -> None:
    """Read cells from the first argument (a file), write one line of JSON per result."""
    django.setup()
    from tools.chaos import bugs

    job = json.loads(Path(sys.argv[1]).read_text())
    make_ready(job["sandbox"])
    job["after"] = _practise(job["sandbox"])
    if job["bug"]:
        bugs.PLANT[job["bug"]]()
    for result in run_cells(job):
        print(json.dumps(asdict(result)), flush=True)
        if result.wrong and job["bug"]:
            return


def make_ready(sandbox: str) -> None:
    """Set this process up so that it can be forked: no connection open, no wake-ups, little patience."""
    from django.db import connections

    from bitloot.core import wakeup
    from tools.chaos.control import Control

    options = connections["default"].settings_dict["OPTIONS"]
    options.pop("pool")  # its threads and connections would not survive the fork
    options["options"] = options["options"].replace("lock_timeout=5s", f"lock_timeout={LOCK_TIMEOUT_MS}ms")
    wakeup.notify_now = lambda queue: None  # type: ignore[assignment]
    control = Control(sandbox)
    # The story posts the webhooks itself, at moments of its choice.
    for op in ("webhook.kinguin", "webhook.nowpayments"):
        control.fault(op, "lost")
    control.call("config", {"deliver_after_ms": 0, "hold_s": READ_TIMEOUT * 2, "late_s": LATE_SECONDS})


def run_cells(job: dict[str, Any]) -> Iterator[Result]:
    from tools.chaos.cells import Cell
    from tools.chaos.control import Control

    control = Control(job["sandbox"])
    cells = [Cell(**cell) for cell in job["cells"]]
    hits, after = Path(job["folder"]) / "hits", job["after"]
    for start in range(0, len(cells), AHEAD):
        batch = cells[start : start + AHEAD]
        orders = Child(lambda batch=batch: _place_ahead(batch)).result()
        for cell, (order_id, item_id) in zip(batch, orders, strict=True):
            result = _run_cell(cell, order_id, item_id, control, hits, after)
            after = result.facts.get("last", after)
            yield result


def _run_cell(cell: Any, order_id: str, item_id: str, control: Any, hits: Path, after: int) -> Result:
    from tools.chaos import story
    from tools.chaos.story import Run

    run = Run(order_id, item_id, control, waits=item_id < "8", starts_paid=cell.starts_paid)
    hits.write_text("")
    duplicate_status = (400, 409, 422)[int(item_id[0], 16) % 3]
    control.call("config", {"enforce_external_id": cell.enforced, "duplicate_status": duplicate_status})
    if cell.fault:
        op = "kinguin.delivery" if cell.fault == "one_by_one" else "kinguin.order.create"
        control.fault(op, cell.fault, times=1, external_id=item_id, args={"seconds": 0.1})

    def armed() -> int:
        return _live_armed(run, cell, str(hits))

    if cell.mode == "first run":
        Child(armed).result()
    elif cell.mode == "redelivery":
        Child(armed).result()
        Child(lambda: _duplicate(run)).result()  # the lease still holds
        Child(armed).result()  # time passes there, and it dies once more where it can
    else:
        _overtake(run, armed, story)
    replays = cell.mode == "redelivery"
    wrong, facts = Child(lambda: _recover_and_judge(run, after, replays)).result() or (["recovery died"], {})
    hit = len(hits.read_text().splitlines())
    return Result(str(cell), cell.failpoint, cell.behaviour, cell.mode, hit, wrong, facts)


def _overtake(run: Any, armed: Callable[[], Any], story: Any) -> None:
    """A worker stops at the failpoint; others wait out its lease and continue; then it wakes and continues too."""
    first = Child(armed)
    stopped = first.stopped_or_ended()
    Child(lambda: _duplicate(run)).result()
    Child(lambda: (story.lapse(), story.live(run, rounds=5))).result()
    if stopped:
        first.go_on()
    first.result()


def _practise(sandbox: str) -> int:
    """Live one order here, so that the children do not each load everything; return its last line in the ledger."""
    from django.db import connections

    from fulfillment import kinguin
    from payments import coins
    from tools.chaos import oracle, story
    from tools.chaos.cells import Cell
    from tools.chaos.control import Control

    coins.refresh()
    run = story.Run(*_place(Cell("payment.", "", "", enforced=False)), Control(sandbox), waits=True)
    rounds = story.live(run)
    story.replay(run)
    before = max(line["id"] for line in run.control.ledger(what="payment_created")) - 1
    wrong, facts = oracle.judge(run, after=before)
    if wrong:
        raise RuntimeError(f"an order that nothing happens to does not succeed: {wrong} after {rounds} rounds")
    story.put_away()
    connections.close_all()
    kinguin._client.cache_clear()
    gc.freeze()
    return int(facts["last"])


def _place_ahead(cells: Sequence[Any]) -> list[tuple[str, str]]:
    from tools.chaos import story

    placed = [_place(cell) for cell in cells]
    story.put_away()
    return placed


def _place(cell: Any) -> tuple[str, str]:
    from orders.services import Line, place_order

    quantity = 2 if cell.behaviour == "keys trickle" else 1
    order = place_order(email="kim@customer.example", lines=[Line("ember-drift", quantity)]).order
    if cell.starts_paid:
        order.mark_paid(message="Paid; this story begins here.")
    return str(order.pk), str(order.items.get().pk)


def _live_armed(run: Any, cell: Any, hits: str) -> int:
    from bitloot.core import faults
    from tools.chaos import story, wire

    story.prepare(cell.behaviour)
    story.begin(run)
    story.lapse()
    if cell.failpoint in wire.WIRE_NAMES:
        wire.arm(cell.failpoint, cell.action, hits)
    else:
        faults.arm(f"{cell.failpoint}:{cell.action}:{cell.nth}", log=hits)
    return int(story.live(run, rounds=8))


def _duplicate(run: Any) -> None:
    from tools.chaos import story

    story.send_supplier_webhook(run)
    story.act(run)


def _recover_and_judge(run: Any, after: int, replays: bool) -> tuple[list[str], dict[str, Any]]:
    from tools.chaos import oracle, story

    story.lapse()
    rounds = story.live(run)
    if replays:
        story.replay(run)
        story.lapse()
        story.live(run)
    wrong, facts = oracle.judge(run, after=after)
    story.put_away()
    return wrong, {**facts, "rounds": rounds}


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        main()
