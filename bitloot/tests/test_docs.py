"""The documents name files; each of them is there."""

import re
from pathlib import Path

import pytest
from django.conf import settings

ROOT = Path(settings.BASE_DIR)
DOCS = sorted([*(ROOT / "docs").glob("*.md"), ROOT / "README.md", *(ROOT / "sdk").glob("*/README.md")])
# Files in code quotes, such as `orders/mail.py`.
FOLDERS = "bitloot|orders|payments|fulfillment|storage|webhooks|sandbox|sdk|tools|docs|deploy"
NAMED = re.compile(rf"`((?:{FOLDERS})/[\w./-]*\.\w+)`")
LINKED = re.compile(r"\]\((?!https?:|#|mailto:)([^)#]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("document", DOCS, ids=[str(document.relative_to(ROOT)) for document in DOCS])
def test_each_file_that_a_document_names_exists(document):
    text = document.read_text()
    named = [ROOT / name for name in NAMED.findall(text)]
    linked = [document.parent / name for name in LINKED.findall(text)]
    assert [str(path) for path in (*named, *linked) if not path.exists()] == []
