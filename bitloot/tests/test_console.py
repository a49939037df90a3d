"""`Store.shell`: the pieces of code of a test run in one process of the store's Django."""

import psutil
import pytest

from bitloot.tests.services import EMBEDDED, StartFailed, Store, free_port

pytestmark = pytest.mark.once
WHO = "import os; print(os.getpid())"


def test_pieces_share_a_process_which_survives_one_that_fails_and_ends_with_the_store(tmp_path):
    store = Store(tmp_path, port=free_port(), sandbox_port=free_port(), **EMBEDDED)
    try:
        first = store.shell(WHO)
        with pytest.raises(StartFailed, match=r"(?s)so far\n.*ZeroDivisionError"):
            store.shell("print('so far'); 1 / 0")
        assert store.shell(WHO) == first
    finally:
        store.stop()
    assert not psutil.pid_exists(int(first))
