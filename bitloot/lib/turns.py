"""Many threads wait for providers, few compute.

Python runs one thread at a time. A crowd of threads that are all ready to run takes more processor time for handing
over than it saves; so a worker's thread takes a turn for its work, and gives it back while it waits for somebody else.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

# More than one: a thread that waits for the database holds its turn.
TURNS = 4
_turns = threading.BoundedSemaphore(TURNS)
_mine = threading.local()


@contextmanager
def turn() -> Iterator[None]:
    """Compute inside the block; waits until fewer than TURNS threads of this process do."""
    with _turns:
        _mine.held = True
        try:
            yield
        finally:
            _mine.held = False


@contextmanager
def waiting() -> Iterator[None]:
    """Wait for a provider, a mail server or an object store inside the block, and let others compute meanwhile.

    Never inside a transaction: its locks would be held by a thread that has no turn.
    """
    if not getattr(_mine, "held", False):
        yield
        return
    _mine.held = False
    _turns.release()
    try:
        yield
    finally:
        _turns.acquire()
        _mine.held = True
