"""The order pages' scripts: their own tests under node, their rules, and their names in production."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.staticfiles.storage import staticfiles_storage
from django.core.files.storage import FileSystemStorage
from django.core.management import call_command
from django.core.serializers.json import DjangoJSONEncoder
from django.utils import translation

from bitloot.core.staticfiles import bundle
from bitloot.shop.words import WORDS
from tools.dev.services import find_program

SCRIPTS = Path(settings.BASE_DIR) / "bitloot" / "static" / "bitloot"
MODULES = {
    "order": ["access", "api", "facts", "keys", "order", "pay", "render", "story"],
    "receipt": ["access", "api", "facts", "receipt", "render", "story"],
}
ORDER_PAGES = [SCRIPTS / f"{name}.js" for name in sorted({name for names in MODULES.values() for name in names})]
TESTS = sorted((Path(settings.BASE_DIR) / "bitloot" / "tests" / "js").glob("*.test.mjs"))
WORD = re.compile(r'\bword\((?:[^"()]*\? )?"(\w+)"')
# A capital, and another word after it: nothing that a selector, a path or a name looks like.
PROSE = re.compile(r"""["'`}>][A-Z][a-z’']+[ ,.:…]+[a-z][^"'`]*""")


@pytest.mark.node
def test_scripts_pass_their_own_tests(tmp_path):
    words = tmp_path / "words.json"
    words.write_text(json.dumps({code: words_in(code) for code, _ in settings.LANGUAGES}))
    command = [str(find_program("node", "nodejs")), "--test", *map(str, TESTS)]
    environment = {**os.environ, "WORDS": str(words)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert TESTS
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"


def words_in(language: str) -> object:
    with translation.override(language):
        return json.loads(json.dumps(WORDS, cls=DjangoJSONEncoder))


@pytest.mark.parametrize("script", ORDER_PAGES, ids=lambda path: path.name)
def test_script_is_readable_and_never_writes_html(script):
    source = script.read_text()
    assert max(map(len, source.splitlines())) <= 120
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\b|localStorage", source
    )


def test_story_knows_no_page():
    assert not re.search(r"\b(document|window|location|fetch|Date\.now)\b", (SCRIPTS / "story.js").read_text())


def test_scripts_use_just_the_words_that_the_page_brings():
    source = "".join(script.read_text() for script in ORDER_PAGES)
    assert set(WORD.findall(source)) <= set(WORDS)
    assert [name for name in WORDS if f'"{name}"' not in source and f"words.{name}" not in source] == []


@pytest.mark.parametrize("script", ORDER_PAGES, ids=lambda path: path.name)
def test_script_has_no_words_of_its_own(script):
    source = re.sub(
        r"^\s*(//|/?\*).*$|import [^;]*;| // .*$|throw new Error.*", "", script.read_text(), flags=re.MULTILINE
    )
    assert PROSE.findall(source) == []


@pytest.fixture
def collected(settings, tmp_path) -> Path:
    """The static files as an image of production holds them."""
    settings.STATIC_ROOT = tmp_path
    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": "bitloot.core.staticfiles.ModuleStaticFilesStorage"},
    }
    call_command("collectstatic", "--no-input", "--verbosity", "0")
    return tmp_path


@pytest.mark.parametrize("page", MODULES)
def test_page_asks_for_one_script_that_holds_every_module(collected, page):
    joined = (collected / staticfiles_storage.stored_name(f"bitloot/{page}.js")).read_text()
    assert not re.search(r"^(import|export)\b", joined, re.MULTILINE)
    modules = re.findall(r"^const \$(\w+) = ", joined, re.MULTILINE)
    assert (sorted(modules), modules[-1]) == (MODULES[page], page)
    assert modules.index("render") < modules.index("facts")  # what is imported comes first


def test_sheet_brings_the_licence_along_and_no_other_comment(collected):
    sheet = (collected / staticfiles_storage.stored_name("bitloot/site.css")).read_text()
    (comment,) = re.findall(r"/\*.*?\*/", sheet, re.DOTALL)
    assert "MIT licence" in comment
    assert sheet.count("{") == (SCRIPTS / "site.css").read_text().count("{")


def test_joined_script_brings_no_comments_along_and_keeps_what_looks_like_one(tmp_path):
    storage = FileSystemStorage(tmp_path)
    (tmp_path / "a.js").write_text(
        '// one\nconst a = 1; // two\nconst b = "c // d"; // it\'s left\nconst e = "https://f";\n'
    )
    joined = bundle({"x/a.js": (storage, "a.js")}, "x/a.js")
    assert 'const a = 1;\nconst b = "c // d"; // it\'s left\nconst e = "https://f";\n' in joined


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ('import { a as b } from "./b.js";', "cannot be joined: import { a as b }"),
        ('import b from "./b.js";', "cannot be joined: import b"),
        ("export default 1;", "cannot be joined: export default"),
        ('import { a } from "./a.js";', "imports itself"),
    ],
)
def test_script_that_cannot_be_joined_stops_the_build(source, why, tmp_path):
    storage = FileSystemStorage(tmp_path)
    (tmp_path / "a.js").write_text(source)
    with pytest.raises(ValueError, match=re.escape(why)):
        bundle({"x/a.js": (storage, "a.js")}, "x/a.js")
