#!/usr/bin/env python
import gc
import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "bitloot.settings")
    if sys.argv[1:2] in (["generate_encryption_key"], ["init_env"]):
        # They make what the settings would miss.
        os.environ["BITLOOT_BUILDING"] = "1"
    gc.disable()  # until the apps are ready: see bitloot/apps.py
    # Only now: it imports settings.
    from bitloot.management import overview

    overview.execute(sys.argv)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:  # before there is a command to say so: imports take half a second
        sys.stderr.write("Interrupted. You can run it again.\n")
        sys.exit(130)
