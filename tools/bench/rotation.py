"""Rotates the master secret of many keys while somebody reads them.

`.venv/bin/python -m tools.dev.services .venv/bin/python -m tools.bench.rotation` does it on PostgreSQL, without
services on SQLite. Prints one line: how long `rotate_keys` took, and how many readings happened and failed meanwhile.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from tools.dev.devenv import ROOT, process_environment
from tools.dev.supervise import free_port

OLD = "Zq3vX8_bNw1mK7-tYr5cJ0hGdLs2PfUeA9iOxV4kQ6B"
NEW = OLD[::-1]
PER_ITEM = 100


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.bench.rotation", description=__doc__)
    parser.add_argument("--keys", type=int, default=100_000)
    keys = parser.parse_args().keys
    with tempfile.TemporaryDirectory() as var:
        env = process_environment(
            Path(var), port=free_port(), sandbox_port=free_port(), REDIS_URL="", THROTTLE_SCALE="0"
        )
        env |= {"DATABASE_URL": os.environ.get("TEST_DATABASE_URL", ""), "KEY_ENCRYPTION_SECRET": OLD}
        subprocess.run([sys.executable, "manage.py", "migrate", "-v0"], cwd=ROOT, env=env, check=True)
        os.environ.clear()
        os.environ.update(env | {"KEY_ENCRYPTION_SECRET": NEW, "KEY_ENCRYPTION_SECRET_FALLBACKS": OLD})
        import django

        django.setup()
        _fill(keys)
        print(_rotate_while_reading(keys), flush=True)


def _fill(count: int) -> None:
    """Insert keys that are wrapped under the older secret, as the store would have written them."""
    from orders.models import OrderItem, Product
    from orders.services import Line, place_order
    from storage.models import Key
    from storage.sealing import MasterKeys, seal

    master = MasterKeys.from_secrets(OLD)
    product = Product.objects.create(slug="x", title="X", price=2, max_cost=1, supplier_product_id="x")
    for start in range(0, count, PER_ITEM):
        order = place_order(email=f"kim{start}@shop.example", lines=[Line("x", 1)]).order
        item = OrderItem.objects.get(order=order)
        rows = []
        for number in range(start, start + PER_ITEM):
            key = Key(item=item, supplier_key_id=f"{number}", fingerprint=f"{number}", object_name=f"{number}",
                      status=Key.Status.RECEIVED, content_type="text/plain", environment="bench")  # fmt: skip
            sealed = seal(b"AAAAA-BBBBB-CCCCC", key.binding, keys=master)
            key.ciphertext, key.nonce, key.ciphertext_sha256 = sealed.ciphertext, sealed.nonce, "0" * 64
            key.wrapped_data_key, key.master_key_id = sealed.data_key.wrapped, sealed.data_key.master_key_id
            rows.append(key)
        Key.objects.bulk_create(rows)
    assert product.pk


def _rotate_while_reading(count: int) -> str:
    done, read, failed = threading.Event(), [0], [0]
    reader = threading.Thread(target=_read, args=(done, read, failed), daemon=True)
    reader.start()
    started, cpu = time.perf_counter(), _cpu_of_children()
    command = [sys.executable, "manage.py", "rotate_keys"]
    out = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    seconds = time.perf_counter() - started
    cpu = _cpu_of_children() - cpu
    done.set()
    reader.join()
    first = out.splitlines()[0]
    readings = f"{read[0]} readings meanwhile, {failed[0]} of them failed"
    return f"{count} keys in {seconds:.1f} s, {cpu:.1f} s of CPU; {readings}. {first}"


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _read(done: threading.Event, read: list[int], failed: list[int]) -> None:
    from storage.models import Key
    from storage.sealing import MasterKeyMissing, MasterKeys, SealBroken

    master_keys, pks = MasterKeys.from_settings(), list(Key.objects.values_list("pk", flat=True)[::97])
    while not done.is_set():
        for pk in pks:
            key = Key.objects.select_related("item").get(pk=pk)
            try:
                master_keys.unwrap(key.wrapped, key.binding)
            except (SealBroken, MasterKeyMissing):
                failed[0] += 1
            read[0] += 1
            if done.is_set():
                return


if __name__ == "__main__":
    main()
