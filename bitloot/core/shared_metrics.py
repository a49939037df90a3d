"""Counters that all processes of one web server keep together, in files that prometheus_client maps into memory.

Imports nothing of Django or prometheus_client: which kind of counters there are is decided when the latter is imported.
"""

import os
import stat
import sys
import tempfile

FOLDER = "PROMETHEUS_MULTIPROC_DIR"


def share() -> None:
    """Share the counters with the other children of this process's parent, unless it is too late for that."""
    if "prometheus_client" in sys.modules or FOLDER in os.environ:
        return
    # The parent is the server. Its next run has another number, or finds another /tmp.
    folder = os.path.join(tempfile.gettempdir(), f"bitloot-metrics-{os.getuid()}-{os.getppid()}")
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        # lstat, so that a link that somebody else put there leads nowhere.
        found = os.lstat(folder)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            return  # somebody else's: each process keeps its own counters
    except OSError:
        return
    os.environ[FOLDER] = folder
