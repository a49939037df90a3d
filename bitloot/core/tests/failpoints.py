"""Let something happen at a failpoint, for tests of what happens at the same moment."""

import contextlib

from bitloot.core import faults


@contextlib.contextmanager
def happening_at(place, happen):
    """Call `happen` the first time the code passes the named failpoint."""
    faults.ACTIONS["call"] = happen
    faults.arm(f"{place}:call")
    try:
        yield
    finally:
        faults.arm("")
        del faults.ACTIONS["call"]
