import re
from collections.abc import Iterator
from typing import Any

from django.core.files.base import ContentFile
from django.core.files.storage import InMemoryStorage, Storage
from whitenoise.storage import CompressedManifestStaticFilesStorage

SCRIPTS, SHEET = ("bitloot/order.js", "bitloot/receipt.js"), "bitloot/site.css"
_IMPORT = re.compile(r'^import (\{\s*\w+(?:,\s*\w+)*,?\s*\}) from "\./(\w+)\.js";$', re.MULTILINE)
_EXPORT = re.compile(r"^export ((?:async )?(?:function|class|const) (\w+))", re.MULTILINE)
_COMMENT = re.compile(r"^\s*(?://[^\n]*|/\*\*.*?\*/)\n", re.MULTILINE | re.DOTALL)
_COMMENT_BEHIND = re.compile(r" +// [^\n\"'`]*$", re.MULTILINE)  # with a quote in it, it may be a part of a string
_NOTE_IN_SHEET = re.compile(r"\s*/\*[^!].*?\*/", re.DOTALL)  # a licence begins with an exclamation mark
_ANY_OTHER = re.compile(r"^(?:import|export)\b.*", re.MULTILINE)

Found = dict[str, tuple[Storage, str]]


class ModuleStaticFilesStorage(CompressedManifestStaticFilesStorage):
    """Static files under the names of their content, and compressed.

    The script of an order's page and its modules are one file, and neither it nor the sheet brings our comments along.
    """

    def post_process(self, paths: Found, dry_run: bool = False, **options: Any) -> Iterator[Any]:
        made = InMemoryStorage()
        texts = {name: bundle(paths, name) for name in SCRIPTS} | {SHEET: _NOTE_IN_SHEET.sub("", _read(paths, SHEET))}
        for name, text in texts.items():
            made.save(name, ContentFile(text.encode()))
        own = {name: (made, name) for name in texts}
        yield from super().post_process({**paths, **own}, dry_run, **options)


def bundle(paths: Found, entry: str) -> str:
    """Return the script with all modules before it that it needs. Raises ValueError for what it cannot join.

    A browser would ask for seven files where this is one. It reads the form that our scripts have: named imports from
    the same folder, and `export` before a function, class or const.
    """
    done: dict[str, str] = {}
    _add(paths, entry, done, ())
    return "\n".join(done.values())


def _add(paths: Found, path: str, done: dict[str, str], above: tuple[str, ...]) -> None:
    if path in above:
        raise ValueError(f"{path} imports itself: {' -> '.join(above)}")
    if path in done:
        return
    source = _COMMENT_BEHIND.sub("", _COMMENT.sub("", _read(paths, path)))
    folder, _, name = path.rpartition("/")
    for _, module in _IMPORT.findall(source):
        _add(paths, f"{folder}/{module}.js", done, (*above, path))
    exported = ", ".join(export for _, export in _EXPORT.findall(source))
    body = _EXPORT.sub(r"\1", _IMPORT.sub(r"const \1 = $\2;", source))
    if odd := _ANY_OTHER.search(body):
        raise ValueError(f"{path}: this cannot be joined: {odd[0]}")
    # In a function of its own each module keeps its names to itself.
    done[path] = f"const ${name.removesuffix('.js')} = (() => {{\n{body}\nreturn {{ {exported} }};\n}})();\n"


def _read(paths: Found, path: str) -> str:
    storage, stored = paths[path]
    with storage.open(stored) as file:
        return str(file.read().decode())
