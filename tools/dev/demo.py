"""`make demo`: a throw-away store in which a scripted customer buys. `make run` (--keep): a store that is kept."""

import argparse
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

from tools.dev.devenv import ROOT
from tools.dev.supervise import StartFailed, Store, port_is_free

STAFF = "staff"
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
CUSTOMER_SECONDS = 180


class Interrupted(Exception):
    """Somebody asked us to stop."""


def main() -> None:
    options = _options()
    for port in (options.port, options.sandbox_port):
        _refuse_busy(port, "run" if options.keep else "demo")
    if not options.keep:
        shutil.rmtree(options.var, ignore_errors=True)
    sys.exit(_serve(Store(options.var, port=options.port, sandbox_port=options.sandbox_port), options))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--sandbox-port", default="", help="The port after --port unless given.")
    parser.add_argument("--exit", action="store_true", help="End after the purchase; 0 only if the key was right.")
    parser.add_argument("--keep", action="store_true", help="Keep the store under var/, and buy nothing.")
    parser.add_argument("--var", type=Path, help="The store's folder; without --keep it is emptied first.")
    options = parser.parse_args()
    options.sandbox_port = int(options.sandbox_port or options.port + 1)
    options.var = options.var or (ROOT / "var" if options.keep else ROOT / "var" / "demo")
    return options


def _refuse_busy(port: int, command: str) -> None:
    if not port_is_free(port):
        sys.exit(
            f"Port {port} is taken by another program. Stop that program, or choose other ports:\n"
            f"  make {command} PORT={port + 100}"
        )


def _serve(store: Store, options: argparse.Namespace) -> int:
    for number in STOP_SIGNALS:
        signal.signal(number, _interrupt)
    started = time.monotonic()
    try:
        _say(started, f"Making the database and six products in {store.var}.")
        login = _prepare(store)
        _say(started, "Starting web, worker, beat and sandbox.")
        store.start()
        _say(started, "They are running." + ("" if options.keep else " A customer, a program of its own, comes in."))
        code = 0 if options.keep else _buy(store)
        if code == 0 and not options.exit:
            _print_addresses(store, login, keep=options.keep)
            code = _watch(store)
    except Interrupted:
        code = 130 if options.exit else 0
    except StartFailed as err:
        print(err, file=sys.stderr)
        code = 1
    for number in STOP_SIGNALS:  # a second Ctrl-C must not leave half of them running
        signal.signal(number, signal.SIG_IGN)
    print("Stopping what was started.", flush=True)
    store.stop()
    return code


def _say(started: float, text: str) -> None:
    print(f"[{time.monotonic() - started:6.2f} s] {text}", flush=True)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupted


def _prepare(store: Store) -> str:
    """Migrate and seed; return the made-up password of the staff login, the same for as long as `var` is kept."""
    path = store.var / "staff-password"
    if not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(12))
    password = path.read_text().strip()
    store.manage("migrate", "--verbosity", "0")
    store.seed("--staff", STAFF, f"--password={password}")  # it may begin with a dash
    return password


def _buy(store: Store) -> int:
    """Send the customer, a process that knows two addresses and a mailbox and nothing else of ours."""
    command = [sys.executable, "-I", str(ROOT / "tools" / "dev" / "customer.py"), store.url, store.sandbox_url]
    customer = subprocess.Popen([*command, str(store.var / "mail"), "--link-file", str(_link_file(store))])
    try:
        code = customer.wait(CUSTOMER_SECONDS)
    except subprocess.TimeoutExpired:
        code = 1
    finally:
        customer.kill()
        customer.wait()
    if code != 0:
        _print_logs(store)
    return code


def _link_file(store: Store) -> Path:
    return store.var / "customer-link"


def _print_logs(store: Store) -> None:
    for process in store.parts.values():
        print(f"\n--- the end of {process.log}\n{process.tail(15)}", file=sys.stderr)


def _print_addresses(store: Store, password: str, *, keep: bool) -> None:
    link = _link_file(store)
    print(f"\n  Shop window      {store.url}/")
    if not keep:
        print(f"  Customer's page  {link.read_text().strip()}")
    print(f"  Sandbox          {store.sandbox_url}/   (stands in for Kinguin and NOWPayments)")
    print(f"  Admin            {store.url}/admin/   (name: {STAFF}, password: {password})")
    print(f"  API              {store.url}/api/docs")
    print(f"  Mail and logs    {store.var / 'mail'}, {store.var / 'logs'}")
    print("\nPress Ctrl-C to stop.", flush=True)


def _watch(store: Store) -> int:
    """Wait until interrupted; complain and end if a part ends early."""
    while not (ended := store.ended()):
        time.sleep(0.5)
    for process in ended:
        print(f"{process.name} ended early. The end of {process.log}:\n{process.tail()}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    main()
