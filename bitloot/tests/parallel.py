import threading
from concurrent.futures import ThreadPoolExecutor
from time import monotonic, sleep

import pytest
from django.db import connection, connections


def at_once(*calls):
    """Run the calls at the same moment, each on a connection of its own; return what they returned, in their order."""
    start = threading.Barrier(len(calls))

    def run(call):
        start.wait(timeout=20)
        try:
            return call()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def somebody_waits_for_a_lock():
    """Return once a connection waits for one; fail if none does."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    begun = monotonic()
    while monotonic() - begun < 20:
        with connection.cursor() as cursor:
            cursor.execute(waiting)
            if cursor.fetchone()[0]:
                return
        sleep(0.02)
    pytest.fail("nobody waits for a lock")
