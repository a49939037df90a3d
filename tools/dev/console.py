"""Run pieces of code in one process of a store's Django: a `manage.py shell` for each would take a second to start.

Each line of standard input is a piece as a JSON string; each line of the answer is what it printed and its traceback.
"""

import contextlib
import gc
import io
import json
import sys
import traceback

import django
from django.db import connections


def main() -> None:
    gc.disable()  # until the apps are ready: see bitloot/apps.py
    django.setup()
    for line in sys.stdin:
        print(json.dumps(_run(json.loads(line))), flush=True)
        connections.close_all()  # or the database would stay open between two pieces


def _run(code: str) -> tuple[str, str]:
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            exec(code, {})  # noqa: S102 - that is what it is for
    except Exception:  # noqa: BLE001 - whatever it is, the caller is told
        return printed.getvalue(), traceback.format_exc()
    return printed.getvalue(), ""


if __name__ == "__main__":
    main()
