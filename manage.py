#!/usr/bin/env python
import os
import sys

from django.core.management import execute_from_command_line


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "bitloot.settings")
    if sys.argv[1:2] == ["generate_encryption_key"]:
        # It makes the secrets that the settings would miss.
        os.environ["BITLOOT_BUILDING"] = "1"
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
