"""The purchase protocol as a small model, explored exhaustively: two workers, crashes, pauses, a network that delays.

It says why the pipeline is built as it is: one send per committed permit, and from "unknown" only ever a question. The
broken protocols beside it are what a shop does without that; the same search finds their double purchases.
"""

from collections import deque
from dataclasses import dataclass, replace

import pytest

CRASHES = 3
MOST_PURCHASES = 2  # the second is one too many; nobody needs to see a third
MOST_IN_FLIGHT = 2
WORKERS = (0, 1)


@dataclass(frozen=True)
class State:
    row: str = "pending"  # pending, sending, unknown, reserved
    owner: int = -1  # the worker whose claim holds
    doing: tuple[str, str] = ("idle", "idle")
    in_flight: int = 0  # requests that left and have neither arrived nor been lost
    bought: int = 0
    listed: int = 0  # purchases that the supplier's search shows already
    crashes: int = 0


@dataclass(frozen=True)
class Protocol:
    permit_first: bool = True  # commit `sending` before the first byte leaves
    resend_unknown: bool = False  # send again what the search does not find
    lapsed_is_pending: bool = False  # a send whose lease ended starts anew
    copies: int = 1  # how often the transport delivers what was sent once


def successors(state: State, protocol: Protocol) -> list[State]:
    """Return every state that one step of anybody leads to. A lease may lapse at any time, so anybody may claim."""
    following = [*_supplier(state)]
    for worker in WORKERS:
        following += _worker(state, worker, protocol)
        if state.doing[worker] != "idle" and state.crashes < CRASHES:
            following.append(_does(replace(state, crashes=state.crashes + 1), worker, "idle"))
    return following


def _supplier(state: State) -> list[State]:
    following = []
    if state.in_flight:
        rest = replace(state, in_flight=state.in_flight - 1)
        following += [rest, replace(rest, bought=min(state.bought + 1, MOST_PURCHASES))]
    if state.listed < state.bought:
        following.append(replace(state, listed=state.listed + 1))
    return following


def _worker(state: State, worker: int, protocol: Protocol) -> list[State]:
    doing = state.doing[worker]
    if doing == "idle":
        return [] if state.row == "reserved" else [_does(replace(state, owner=worker), worker, "claimed")]
    if doing == "claimed":
        return _next_step(state, worker, protocol)
    if doing == "permitted":
        sent = min(state.in_flight + protocol.copies, MOST_IN_FLIGHT)
        return [_does(replace(state, in_flight=sent), worker, "waiting")]
    # waiting: an answer can only come once there is a purchase; silence can come at any time
    answered = [_record(state, worker, "reserved")] if state.bought else []
    return [*answered, _record(state, worker, "unknown")]


def _next_step(state: State, worker: int, protocol: Protocol) -> list[State]:
    if state.owner != worker:
        return [_does(state, worker, "idle")]  # the compare-and-set fails
    if state.row == "pending":
        return [_permit(state, worker, protocol)]
    if state.row == "sending":
        row = "pending" if protocol.lapsed_is_pending else "unknown"
        return [replace(state, row=row)]
    if state.row == "unknown":
        return _search(state, worker, protocol)
    return [_does(state, worker, "idle")]


def _permit(state: State, worker: int, protocol: Protocol) -> State:
    row = "sending" if protocol.permit_first else "pending"
    return _does(replace(state, row=row), worker, "permitted")


def _search(state: State, worker: int, protocol: Protocol) -> list[State]:
    if state.listed:
        return [_record(state, worker, "reserved")]
    if protocol.resend_unknown:
        return [_permit(state, worker, protocol)]
    return [_record(state, worker, "unknown")]


def _record(state: State, worker: int, row: str) -> State:
    if state.owner == worker and state.row != "reserved":
        state = replace(state, row=row, owner=-1)
    return _does(state, worker, "idle")


def _does(state: State, worker: int, what: str) -> State:
    doing = list(state.doing)
    doing[worker] = what
    return replace(state, doing=(doing[0], doing[1]))


def explore(protocol: Protocol, start: State | None = None) -> dict[State, list[State]]:
    """Return every reachable state with its successors."""
    seen: dict[State, list[State]] = {}
    waiting = deque([start or State()])
    while waiting:
        state = waiting.popleft()
        if state in seen:
            continue
        seen[state] = successors(state, protocol)
        waiting.extend(seen[state])
    return seen


def shortest_double_purchase(protocol: Protocol) -> int | None:
    """Return in how many steps two purchases come about, None if they never do."""
    seen, waiting = {State()}, deque([(State(), 0)])
    while waiting:
        state, steps = waiting.popleft()
        if state.bought > 1:
            return steps
        fresh = set(successors(state, protocol)) - seen
        seen |= fresh
        waiting.extend((after, steps + 1) for after in fresh)
    return None


def test_one_send_per_permit_and_then_only_questions_buys_at_most_once():
    graph = explore(Protocol())
    assert len(graph) == 593
    assert max(state.bought for state in graph) == 1


@pytest.mark.parametrize(
    ("protocol", "steps"),
    [
        (Protocol(permit_first=False), 8),
        (Protocol(resend_unknown=True), 9),
        (Protocol(lapsed_is_pending=True), 9),
        (Protocol(copies=2), 5),
    ],
    ids=["send before commit", "send the unknown again", "a lapsed send is pending", "a transport that repeats"],
)
def test_each_broken_protocol_buys_twice_within_a_few_steps(protocol, steps):
    assert shortest_double_purchase(protocol) == steps


def test_what_was_bought_can_always_still_be_adopted():
    graph = explore(Protocol())
    sources: dict[State, list[State]] = {}
    for state, following in graph.items():
        for after in following:
            sources.setdefault(after, []).append(state)
    waiting = deque(state for state in graph if state.row == "reserved")
    hopeful = set(waiting)
    while waiting:
        for before in sources.get(waiting.popleft(), []):
            if before not in hopeful:
                hopeful.add(before)
                waiting.append(before)
    assert [state for state in graph if state.bought and state not in hopeful] == []


def test_nothing_is_called_bought_that_was_not():
    assert [state for state in explore(Protocol()) if state.row == "reserved" and not state.bought] == []


def test_replacement_needs_a_name_of_its_own():
    """Under the item's name the first purchase would be taken for the second; under its own, all of the above holds."""
    under_the_items_name = explore(Protocol(), State(bought=1, listed=1))
    assert any(state.row == "reserved" and state.bought == 1 for state in under_the_items_name)
    assert any(state.bought == 2 for state in under_the_items_name)
