"""Named places where a chaos run stops, delays or breaks a process: FAILPOINT=name:action[:nth]. Off: a no-op.

What happened is appended to the file FAILPOINT_LOG before it happens, so that a run can prove each place was hit.
Production does not start with FAILPOINT set: the settings refuse it.
"""

import os
import signal
import time
from collections.abc import Callable

NAMES = (
    # the provider's wire: bitloot.core.providers
    "http.before_send", "http.answered", "http.read",
    # rows as a queue: bitloot.core.queue
    "queue.claimed", "queue.before_release", "queue.released",
    # what a provider calls: webhooks
    "webhook.verified", "webhook.stored", "webhook.handled",
    # is it really paid: payments
    "payment.claimed", "payment.created", "payment.bound", "payment.read", "payment.moved", "payment.applied",
    # the purchase: fulfillment
    "call.before", "call.answered",
    "gate.counted", "gate.probed",
    "purchase.quoted", "purchase.permit.recorded", "purchase.permit.committed", "purchase.answered",
    "purchase.placed.recorded", "purchase.placed.committed",
    "purchase.failed", "purchase.unknown.recorded", "purchase.unknown.committed",
    "purchase.not_sent.recorded", "purchase.refused.recorded", "purchase.refused.committed",
    "search.before", "search.answered", "search.adopted",
    "give.answered", "give.committed",
    "keys.fetched", "keys.kept", "keys.sealed", "delivery.recorded", "delivery.committed",
    "hold.recorded", "hold.committed", "resume.recorded",
    # the key's own life: storage
    "key.sealed", "key.inserted", "object.written", "object.opened", "key.stored",
    # the customer's mail: orders
    "mail.rendered", "mail.sent",
)  # fmt: skip
# Of commands that no order passes, so no chaos run expects them.
OF_COMMANDS = ("prune.forgotten", "keys.rewrapped", "backup.stored")


class FailpointHit(Exception):
    """What the action `raise` raises: an error nobody expects."""


class _Plan:
    def __init__(self, name: str, action: str, nth: int, log: str) -> None:
        if name not in NAMES + OF_COMMANDS or action not in ACTIONS or nth < 1:
            raise ValueError(f"FAILPOINT is name:action[:nth]; {name}:{action}:{nth} is not one of ours")
        self.name, self.action, self.nth, self.log = name, action, nth, log
        self.left = nth


_plan: _Plan | None = None


def failpoint(name: str) -> None:
    """Mark a place where a process may die; free of cost and of effect unless a chaos run has armed it."""
    if _plan is not None:
        _reach(_plan, name)


def arm(plan: str, *, log: str = "") -> None:
    """Arm this process with `name:action[:nth]`; the empty plan disarms it. Raises ValueError."""
    global _plan
    name, _, rest = plan.partition(":")
    action, _, nth = rest.partition(":")
    _plan = _Plan(name, action, int(nth or 1), log) if plan else None


def _reach(plan: _Plan, name: str) -> None:
    if name != plan.name or plan.left <= 0:
        return
    plan.left -= 1
    if plan.left == 0:
        if plan.log:
            with open(plan.log, "a") as file:
                file.write(f"{name}:{plan.action}\n")
        ACTIONS[plan.action]()


def _kill9() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _stop() -> None:
    """Pause as a stopped virtual machine does, until somebody sends SIGCONT."""
    os.kill(os.getpid(), signal.SIGSTOP)


def _sleep() -> None:
    """Outlive the lease: it is lapsed, and perhaps taken over, when this process continues."""
    from bitloot.core.clock import delay
    from bitloot.core.queue import LEASE_SECONDS

    time.sleep(delay(LEASE_SECONDS * 1.1).total_seconds())


def _raise() -> None:
    raise FailpointHit("a failpoint raised this")


def _drop_db() -> None:
    """Lose the database connection without a word; the next statement finds out."""
    from django.db import connection

    # Not in a `with`: SQLite lets no cursor of a closed connection be closed.
    connection.cursor().connection.close()


def _lose_commit() -> None:
    """Let the transaction that is open here commit, but have the client see a failure: an outcome nobody knows."""
    from django.db import OperationalError, transaction

    def fail() -> None:
        raise OperationalError("a failpoint lost the answer to COMMIT")

    transaction.on_commit(fail)


ACTIONS: dict[str, Callable[[], None]] = {
    "kill9": _kill9,
    "stop": _stop,
    "sleep": _sleep,
    "raise": _raise,
    "drop_db": _drop_db,
    "lose_commit": _lose_commit,
}

if os.environ.get("FAILPOINT"):
    arm(os.environ["FAILPOINT"], log=os.environ.get("FAILPOINT_LOG", ""))
