"""docs/runbook.md as a page of the admin, and where on it each alert and reason stands."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import markdown
from django.conf import settings
from django.urls import reverse
from django.utils.safestring import SafeString, mark_safe

PLACE = Path("docs") / "runbook.md"
# The heading above a table and the title of its first column say what its rows are about.
SECTIONS = {
    ("Differences between our rows", "kind"): "difference",
    ("Differences with the providers (`--ask`)", "kind"): "provider",
    ("Money", "kind"): "alert",
    ("Money", "reason of a review"): "review",
    ("Purchases", "reason"): "reservation",
    ("Purchases", "kind"): "alert",
    ("Keys, mails, webhooks", "kind"): "alert",
}
REASONS = ("review", "reservation")
# Other documents are not served: their links stay as words.
_ELSEWHERE = re.compile(r"\[([^\]]+)\]\((?!https?:|#)[^)]*\)")


@dataclass(frozen=True)
class Runbook:
    html: SafeString
    remedies: dict[str, str]  # what to do, by section:name


def rows(text: str) -> list[tuple[int, str, list[str]]]:
    """Return line number, section and cells of each row that is about an alert, a reason or a difference."""
    heading, section, found = "", None, []
    for number, line in enumerate(text.splitlines()):
        if line.startswith("#"):
            heading, section = line.lstrip("# "), None
        elif not line.startswith("|"):
            section = None
        elif section is None:
            section = SECTIONS.get((heading, _cells(line)[0]), "another table")
        elif section != "another table" and not line.startswith("|---"):
            found.append((number, section, _cells(line)))
    return found


def names_in(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


@cache
def runbook() -> Runbook | None:
    """Read the document; None where it was not installed with the program."""
    try:
        text = (Path(settings.BASE_DIR) / PLACE).read_text()
    except OSError:
        return None
    lines, remedies = text.splitlines(), dict[str, str]()
    for number, section, cells in rows(text):
        names = names_in(cells[0])
        remedies |= {f"{section}:{name}": cells[-1].replace("`", "") for name in names}
        anchors = "".join(f'<a id="{section}-{name}"></a>' for name in names)
        lines[number] = lines[number].replace("| ", f"| {anchors}", 1)
    document = _ELSEWHERE.sub(r"\1", "\n".join(lines))
    # Ours, read from the program's own folder: nobody's input is in it.
    html = mark_safe(markdown.markdown(document, extensions=["tables", "toc"]))  # noqa: S308
    return Runbook(html, remedies)


def url_of(name: str, *sections: str) -> str:
    """Return the address of the row that is about this word, in the first of the sections that has it, or ""."""
    known = runbook()
    for section in sections:
        if known is not None and f"{section}:{name}" in known.remedies:
            return f"{reverse('admin:runbook')}#{section}-{name}"
    return ""


def remedy(name: str, section: str) -> str:
    known = runbook()
    return known.remedies.get(f"{section}:{name}", "") if known is not None else ""


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]
