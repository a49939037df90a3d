"""Commands as an operator calls them."""

from io import StringIO

from django.core.management import CommandError, call_command


def run(*arguments):
    """Return the exit code, what was printed and what was complained of."""
    out = StringIO()
    try:
        call_command(*map(str, arguments), stdout=out)
    except CommandError as err:
        return err.returncode, out.getvalue(), str(err)
    return 0, out.getvalue(), ""
