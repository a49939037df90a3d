"""The matrix: failpoint, supplier behaviour, way of running, uniqueness rule; in an order drawn by the seed."""

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product

from bitloot.core.faults import NAMES
from tools.chaos.wire import WIRE_NAMES

PLACES = (*NAMES, *WIRE_NAMES)
# How the supplier takes the purchase: the sandbox's fault for the first POST.
BEHAVIOURS = {
    "executes, replies": "",
    "executes, no reply": "accept_then_silent",
    "executes late": "accept_late",
    "does not execute": "5xx_before",
    "5xx after executing": "5xx_after",
}
# Further ones, which some places are only reached by: faults of the sandbox, or something the harness does instead.
FURTHER = {
    "refuses: out of stock": "out_of_stock",
    "redirects": "redirect_307",
    "garbage after executing": "garbage",
    "unreachable": "",
    "gate was paused": "",
    "keys trickle": "one_by_one",
}
REPLY = ("executes, replies",)
NO_REPLY = tuple(name for name in BEHAVIOURS if name not in REPLY)
# Places that cannot be passed under every behaviour; the others run under all five.
PASSED_UNDER = {
    **dict.fromkeys(("purchase.answered", "purchase.placed.recorded", "purchase.placed.committed"), REPLY),
    **dict.fromkeys(("purchase.failed", "purchase.unknown.recorded", "purchase.unknown.committed"), NO_REPLY),
    **dict.fromkeys(("search.before", "search.answered"), NO_REPLY),
    # A purchase that is answered expects its keys at once; one that is found has a step of its own first.
    **dict.fromkeys(
        ("search.adopted", "give.answered", "give.committed"),
        ("executes, no reply", "executes late", "5xx after executing"),
    ),
    **dict.fromkeys(
        ("hold.recorded", "hold.committed"), ("does not execute", "executes late", "refuses: out of stock")
    ),
    **dict.fromkeys(("purchase.refused.recorded", "purchase.refused.committed"), ("refuses: out of stock",)),
    "resume.recorded": ("refuses: out of stock",),
    **dict.fromkeys(("gate.counted", "purchase.not_sent.recorded"), ("unreachable",)),
    "gate.probed": ("gate was paused",),
    "keys.kept": ("keys trickle",),
}
ALSO_UNDER = {
    "redirects": ("purchase.permit.committed", "purchase.failed", "http.read", "wire.sent"),
    "garbage after executing": ("purchase.permit.committed", "purchase.failed", "http.read", "wire.sent"),
    "keys trickle": ("keys.fetched", "keys.sealed", "delivery.recorded", "delivery.committed"),
    "unreachable": ("purchase.failed", "call.before"),
}
MODES = ("first run", "redelivery", "concurrent duplicate")
# These are passed several times in one story; each pass is killed at.
PASSES = {"http.before_send": 3, "http.answered": 3, "http.read": 3, "queue.claimed": 3, "queue.before_release": 3,
          "queue.released": 3, "call.before": 3, "call.answered": 3}  # fmt: skip
BREAKING = ("raise", "drop_db", "lose_commit")
CHECKOUT = ("webhook.", "payment.")
# What tools.chaos.bugs plants.
BUGS = (
    "buy before commit",
    "new id on retry",
    "timeout is failure",
    "redirects on",
    "transport retries",
    "lapsed send is pending",
    "dedupe by payment",
    "replay buys",
)


@dataclass(frozen=True)
class Cell:
    failpoint: str
    behaviour: str
    mode: str
    enforced: bool
    nth: int = 1
    action: str = "kill9"

    @property
    def fault(self) -> str:
        return (BEHAVIOURS | FURTHER)[self.behaviour]

    @property
    def starts_paid(self) -> bool:
        """True where the story may begin after the payment, because the kill comes later."""
        return not self.failpoint.startswith(CHECKOUT)

    def __str__(self) -> str:
        rule = "enforced" if self.enforced else "not enforced"
        return f"{self.failpoint}:{self.action}:{self.nth} / {self.behaviour} / {self.mode} / external id {rule}"


def matrix(seed: int, *, quick: bool) -> list[Cell]:
    """Return the cells in the order that the seed draws; the quick selection keeps every place and behaviour."""
    cells = [*_product(), *_later_passes(), *_also(), *_breaking()]
    random.Random(seed).shuffle(cells)  # noqa: S311 - a schedule, not a secret
    return _selection(cells) if quick else cells


def _product() -> Iterable[Cell]:
    for place in PLACES:
        for behaviour, mode, enforced in product(PASSED_UNDER.get(place, BEHAVIOURS), MODES, (True, False)):
            yield Cell(place, behaviour, mode, enforced, action="stop" if mode == MODES[2] else "kill9")


def _later_passes() -> Iterable[Cell]:
    for place, passes in PASSES.items():
        for nth, behaviour in product(range(2, passes + 1), BEHAVIOURS):
            yield Cell(place, behaviour, MODES[0], enforced=False, nth=nth)


def _also() -> Iterable[Cell]:
    for behaviour, places in ALSO_UNDER.items():
        for place, mode in product(places, MODES):
            yield Cell(place, behaviour, mode, enforced=False, action="stop" if mode == MODES[2] else "kill9")


def _breaking() -> Iterable[Cell]:
    for place, action in product(NAMES, BREAKING):
        yield Cell(place, PASSED_UNDER.get(place, REPLY)[0], MODES[0], enforced=False, action=action)


def _selection(cells: list[Cell]) -> list[Cell]:
    """Keep, in this order, three cells of each place and ten of each behaviour."""
    places, behaviours, pairs = Counter[str](), Counter[str](), Counter[tuple[str, str]]()
    kept = []
    for cell in cells:
        pair = (cell.failpoint, cell.behaviour)
        # Two of a pair: a supplier that does not execute the purchase may keep all three from coming by.
        wanted = places[cell.failpoint] < 3 and pairs[pair] < 2
        if wanted or behaviours[cell.behaviour] < 10:
            places[cell.failpoint] += wanted
            pairs[pair] += wanted
            behaviours[cell.behaviour] += 1
            kept.append(cell)
    return kept
