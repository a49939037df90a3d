import os


def whoami() -> str:
    """Return who is at the command line, for the record."""
    return os.environ.get("SUDO_USER") or os.environ.get("USER") or "the command line"
