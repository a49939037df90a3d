"""What it costs to seal and to open a key, and to sign the link to it; how often a page that is left open asks."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tools.bench.stack import Stack, use_settings
from tools.dev.devenv import ROOT
from tools.dev.services import find_program

TIMES = 2000
API_SCRIPT = ROOT / "bitloot" / "static" / "bitloot" / "api.js"
# The page's own script decides how long it waits; nothing happens for a day.
A_DAY = """
const { Pace } = await import(process.argv[1]);
const pace = new Pace();
let looks = 0;
for (let now = 0; now < 86_400_000; now += pace.delay) { looks += 1; pace.unchanged(); }
console.log(looks / 1440);
"""


def microseconds(stack: Stack) -> dict[str, list[float]]:
    """Return how long each took, many times, in this process."""
    use_settings(stack)
    from storage.r2 import R2Storage
    from storage.sealing import Binding, MasterKeys, open_sealed, seal

    keys = MasterKeys.from_settings()
    bucket = R2Storage(bucket_name="keys", endpoint_url="https://r2.example", access_key="id", secret_key="s" * 32)
    sealed = seal(b"AAAAA-BBBBB-CCCCC", _place(Binding, 0), keys=keys)
    return {
        "A key sealed": _timed(lambda n: seal(b"AAAAA-BBBBB-CCCCC", _place(Binding, n), keys=keys)),
        "A key opened": _timed(lambda n: open_sealed(sealed, _place(Binding, 0), keys=keys)),
        "A link to R2 signed": _timed(lambda n: bucket.signed_url(f"keys/{n}", 900)),
    }


def _place(binding: Any, number: int) -> Any:
    return binding("bench", f"order {number}", f"item {number}", f"key {number}", "text/plain")


def _timed(act: Callable[[int], object]) -> list[float]:
    act(0)  # what is made only once
    times = []
    for number in range(TIMES):
        started = time.perf_counter()
        act(number)
        times.append((time.perf_counter() - started) * 1e6)
    return times


def reads_per_minute(script: Path = API_SCRIPT) -> float:
    """Return how often an order's page asks that stays open for a day."""
    command = [str(find_program("node", "nodejs")), "--input-type=module", "--eval", A_DAY, script.as_uri()]
    return float(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)
