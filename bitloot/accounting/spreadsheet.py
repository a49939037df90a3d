"""The journal as CSV for a spreadsheet, which takes none of its cells for a formula."""

import csv
from collections.abc import Iterable, Iterator
from typing import Any

from bitloot.accounting.journal import COLUMNS

# The full-width forms, too: East Asian spreadsheets treat them the same.
_BEGINS_A_FORMULA = (*"=+-@＝＋－＠", "\t", "\r", "\n")


# csv's writer returns what `write` returns, so each row can be sent on as it is made.
class _Echo:
    def write(self, row: str) -> str:
        return row


def spreadsheet(lines: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Yield the rows, the titles first."""
    out = csv.DictWriter(_Echo(), COLUMNS, lineterminator="\n")
    yield str(out.writeheader())
    for line in lines:
        yield str(out.writerow({column: safe(value) for column, value in line.items()}))


def safe(value: Any) -> str:
    """Return a cell that no spreadsheet takes for a formula (OWASP, CSV injection)."""
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(_BEGINS_A_FORMULA) else text
