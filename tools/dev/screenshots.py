"""`make screenshots`: every page of shop and staff, in every state, on phone and desktop, light and dark.

Starts a store of its own, with DEBUG off, and brings orders into each state through the sandbox. The pictures come into
var/screenshots/, and index.html shows all of them side by side. ONLY="staff-order*" takes those pages alone.
"""

import base64
import html
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from itertools import chain
from pathlib import Path

from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.chrome.webdriver import WebDriver

from tools.dev.browser import wait
from tools.dev.devenv import ROOT
from tools.dev.scenes import Page, Scene
from tools.dev.services import find_program
from tools.dev.staff_scenes import StaffScene
from tools.dev.supervise import Store, free_port

PICTURES = ROOT / "var" / "screenshots"
WIDTHS = {"phone": (390, 844), "desktop": (1280, 900)}
SCHEMES = ("light", "dark")
SWITCHES = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-proxy-server",
    "--accept-lang=en-GB", "--hide-scrollbars",
)  # fmt: skip
SHIFT = """
const done = arguments[0]; let sum = 0;
new PerformanceObserver((list) => { for (const entry of list.getEntries()) sum += entry.value; })
  .observe({ type: "layout-shift", buffered: true });
setTimeout(() => done(sum), 100);
"""
# Or a picture shows links on their way from one scheme's colours to the other's.
AT_REST = "document.getAnimations().forEach((animation) => animation.finish())"
INDEX = """<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>BitLoot in pictures</title>
<style>body {{ font: 14px/1.4 sans-serif; margin: 1rem; }} div {{ display: flex; flex-wrap: wrap; gap: 8px; }}
img {{ height: 300px; object-fit: cover; object-position: top; border: 1px solid #999; }}
.trouble {{ color: #b00; }}</style>
<h1>BitLoot in pictures</h1><p>{summary}</p><ul class="trouble">{troubles}</ul><p>{contents}</p>{pages}</html>
"""


@dataclass
class Album:
    """The pictures that were taken, and what went wrong meanwhile: one page that fails costs no other."""

    pictures: dict[str, list[Path]] = field(default_factory=lambda: defaultdict(list))
    troubles: list[str] = field(default_factory=list)

    def write_index(self, summary: str) -> None:
        names = sorted(self.pictures)
        pages = [f'<h2 id="{name}">{name}</h2><div>{_thumbnails(self.pictures[name])}</div>' for name in names]
        text = INDEX.format(
            summary=summary,
            troubles="".join(f"<li>{html.escape(trouble)}</li>" for trouble in self.troubles),
            contents=" · ".join(f'<a href="#{name}">{name}</a>' for name in names),
            pages="\n".join(pages),
        )
        (PICTURES / "index.html").write_text(text, "utf-8")


def _thumbnails(pictures: Iterable[Path]) -> str:
    names = [picture.relative_to(PICTURES).as_posix() for picture in pictures]
    return "".join(f'<a href="{name}"><img src="{name}" alt="{name}" loading="lazy"></a>' for name in names)


def main() -> int:
    only = sys.argv[1] if len(sys.argv) > 1 else ""
    shutil.rmtree(PICTURES, ignore_errors=True)
    PICTURES.mkdir(parents=True)
    started, album = time.monotonic(), Album()
    with _folder() as folder, finished_store(folder / "store") as store, open_browser(folder / "profile") as browser:
        scene = Scene(store)
        customers = list(scene.pages())
        staff = StaffScene(scene, browser)
        for page in chain(customers, staff.pages(), staff.mails(folder / "mails"), scene.broken_pages()):
            if not only or fnmatch(f"{page.group}-{page.name}", only):
                _take_all(browser, store.url, page, album)
            elif page.group == "staff":
                open_page(browser, store.url, page)  # the next ones are reached through it
    count = sum(map(len, album.pictures.values()))
    summary = f"{count} pictures of {len(album.pictures)} pages in {time.monotonic() - started:.0f} s"
    album.write_index(summary)
    print(f"{summary}: {PICTURES.relative_to(ROOT)}/index.html", *album.troubles, sep="\n")
    return 1 if album.troubles else 0


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="bitloot-screenshots-") as name:
        yield Path(name)


@contextmanager
def finished_store(folder: Path, *, ready: Path | None = None) -> Iterator[Store]:
    """Start a store as production has it: its own error pages, and the static files as an image holds them.

    `ready` is a database that was migrated and seeded before; without it that is done first.
    """
    # DEBUG is off because Django shows its own page instead of ours for what is not found.
    services = {"DATABASE_URL": "", "REDIS_URL": "", "DEBUG": "0"}
    store = Store(folder, port=free_port(), sandbox_port=free_port(), **services)
    store.manage("collectstatic", "--no-input", "--verbosity", "0")
    if ready is None:
        store.manage("migrate", "--verbosity", "0")
        store.seed()
    else:
        shutil.copy2(ready, store.var)
    try:
        store.start()
        yield store
    finally:
        store.stop()


@contextmanager
def open_browser(profile: Path) -> Iterator[WebDriver]:
    options = Options()
    options.binary_location = find_program("chromium", "chromium")
    for switch in (*SWITCHES, f"--user-data-dir={profile}"):
        options.add_argument(switch)
    browser = webdriver.Chrome(options=options, service=Service(find_program("chromedriver", "chromium-driver")))
    try:
        yield browser
    finally:
        browser.quit()


def _take_all(browser: WebDriver, url: str, page: Page, album: Album) -> None:
    for language in page.languages:
        name = f"{page.group}-{page.name}" + ("" if language == "en" else f"-{language}")
        try:
            _wear(browser, *WIDTHS["phone"], scheme=SCHEMES[0])
            shift = open_page(browser, url, page, language=language)
            album.pictures[f"{page.group}-{page.name}"] += _pictures(browser, name)
            print(f"{name:40} layout shift {shift:.3f}", flush=True)
        except WebDriverException as err:
            album.troubles.append(f"{name}: {err.msg}")
            album.pictures[f"{page.group}-{page.name}"] += _pictures(browser, f"{name}-FAILED")


def _pictures(browser: WebDriver, name: str) -> Iterator[Path]:
    # The page is loaded once; the style sheets make it another one for each screen and scheme.
    for device, (width, height) in WIDTHS.items():
        for scheme in SCHEMES:
            _wear(browser, width, height, scheme=scheme)
            browser.execute_script(AT_REST)
            taken = browser.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "format": "png"})
            path = PICTURES / f"{name}-{device}-{scheme}.png"
            path.write_bytes(base64.b64decode(taken["data"]))
            yield path


def _wear(browser: WebDriver, width: int, height: int, *, scheme: str) -> None:
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [
        {"name": "prefers-color-scheme", "value": scheme},
        {"name": "prefers-reduced-motion", "value": "reduce"},
    ]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def open_page(browser: WebDriver, url: str, page: Page, *, language: str = "en") -> float:
    """Bring the browser to the page in its state; return how far it jumped while it loaded."""
    if page.path.startswith("/"):
        kept = {"name": "language", "value": language, "url": url}
        browser.execute_cdp_cmd("Network.setCookie", kept)
    address = f"{url}{page.path}" if page.path.startswith("/") else page.path
    if browser.current_url.partition("#")[0] == address.partition("#")[0]:
        browser.get("about:blank")  # or only the fragment would change; elsewhere it costs a process for each page
    browser.get(address)
    headline = page.headline if language == "en" else ""
    wait(browser, lambda now: _is_there(now, headline), page.name)
    shift = float(browser.execute_async_script(SHIFT))
    if page.act:
        browser.execute_script(page.act)
        wait(browser, lambda now: _shows(now, page.until), page.until)
    wait(browser, _is_quiet, f"{page.name} at rest")
    return shift


def _shows(browser: WebDriver, selector: str) -> bool:
    return bool(browser.execute_script("return document.querySelector(arguments[0])?.offsetParent", selector))


def _is_there(browser: WebDriver, headline: str) -> bool:
    shown = browser.execute_script("return document.querySelector('h1')?.innerText")
    opening = (
        "return document.querySelector('[data-body]')?.hidden && document.querySelector('[data-panel=lookup]')?.hidden"
    )
    coins_missing = (
        "return [...document.querySelectorAll('[data-coin-list]')].some(e => e.offsetParent && !e.children[0])"
    )
    if headline == "" and browser.execute_script(opening):
        return False
    return headline in ("", shown) and not browser.execute_script(coins_missing)


def _is_quiet(browser: WebDriver) -> bool:
    loading = "return [...document.images].some(i => i.loading != 'lazy' && i.offsetParent && !i.complete)"
    return not browser.execute_script(loading) and not _shows(browser, "[aria-busy=true]")


if __name__ == "__main__":
    sys.exit(main())
