"""Many threads wait for providers, few compute.

Python runs one thread at a time. A crowd of threads that are all ready to run takes more processor time for handing
over than it saves; so a worker's thread takes a turn for its work, and gives it back while it waits for somebody else.
With the turn comes a database connection, where threads share them.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bitloot.core import sharing

# More than one: a thread that waits for the database holds its turn.
TURNS = 3
_turns = threading.BoundedSemaphore(TURNS)
_mine = threading.local()
_count = threading.Lock()
_wanted = 0  # turns that are taken, or waited for
_when_spare: Callable[[], object] | None = None


@contextmanager
def turn() -> Iterator[None]:
    """Compute inside the block; waits until fewer than TURNS threads of this process do. Harmless within another."""
    if is_mine():
        yield
        return
    _take()
    try:
        yield
    finally:
        _give_back()


@contextmanager
def waiting() -> Iterator[None]:
    """Wait for a provider, a mail server or an object store inside the block, and let others compute meanwhile.

    Never inside a transaction: its locks would be held by a thread that has no turn.
    """
    if not is_mine():
        yield
        return
    _give_back()
    try:
        yield
    finally:
        _take()


def is_mine() -> bool:
    """Say whether this thread has a turn."""
    return getattr(_mine, "held", False)


def spare() -> bool:
    """Say whether a thread that comes now finds a turn at once."""
    return _wanted < TURNS


def crowded() -> bool:
    """Say whether a thread waits for a turn: it has begun with something, so it goes first."""
    return _wanted > TURNS


def when_spare(call: Callable[[], object] | None) -> None:
    """Call this, in the thread that gives back its turn, each time a turn is left over."""
    global _when_spare
    _when_spare = call


def _take() -> None:
    _want(1)
    _turns.acquire()
    _mine.held = True
    sharing.take()


def _give_back() -> None:
    sharing.give_back()
    _mine.held = False
    _turns.release()
    _want(-1)
    if _when_spare is not None and spare():
        _when_spare()


def _want(more: int) -> None:
    global _wanted
    with _count:
        _wanted += more
