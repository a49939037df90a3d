"""What every test has: no network beyond loopback, wake-ups that reach nobody, and real neighbours on demand."""

import gc
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.core.cache import cache, caches
from django.db import connection
from django.db.models.signals import post_migrate
from django.utils import timezone
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from bitloot.core.tests.failpoints import happening_at
from bitloot.ops import partitions, rights
from bitloot.tests.services import Sandbox, own_store, require, running_sandbox
from tools.dev.supervise import Store
from tools.dev.testenv import PROFILE, RUN

NEEDS = ("postgres", "redis", "nginx", "node", "npm", "browser", "broker", "replica", "production")

SMALL_ROLE = f"bitloot_app_{RUN}"

hypothesis_settings.register_profile(
    "ci", deadline=None, derandomize=True, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.register_profile("nightly", deadline=None, max_examples=2000)
hypothesis_settings.load_profile(PROFILE)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--small-role", action="store_true", help="use PostgreSQL with the application's own, small role")
    parser.addoption("--partitioned", action="store_true", help="use PostgreSQL with the timeline partitioned by month")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    # Each test's client would look for every static file there is.
    settings.WHITENOISE_AUTOREFRESH = True
    # Real hashing takes a second each under load.
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.MIDDLEWARE = ["bitloot.tests.documented.Documented", *settings.MIDDLEWARE]
    if settings.DATABASE_URL:
        # Tests of races have each of their threads hold a connection at a barrier; a worker's four would never do.
        settings.DATABASES["default"]["OPTIONS"]["pool"]["max_size"] = 24
        settings.DATABASES["default"].setdefault("TEST", {})["NAME"] = f"test_bitloot_{RUN}"


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    # Modules and tests stay until the end. Going through them again and again took Python's collector 4 to 14 % of the
    # CPU of a run.
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("first") is None)  # a stable sort: all others keep their order


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers():
        if marker.name in NEEDS:
            require(marker.name)


@pytest.fixture(scope="session")
def django_db_setup(request: pytest.FixtureRequest, django_db_setup: None, django_db_blocker: Any) -> None:
    if request.config.getoption("--partitioned"):
        with django_db_blocker.unblock():
            partitions.partition(timezone.now().date())
    # A test that commits leaves an empty database to those after it, and in parallel runs any test may come after it.
    post_migrate.connect(_write_drafts, sender=apps.get_app_config("staff"))


def _write_drafts(**_: Any) -> None:
    """Put the drafts of terms, privacy and imprint back, which only a migration writes."""
    import_module("bitloot.migrations.0001_pages").write_drafts(apps, None)


@pytest.fixture(autouse=True)
def _small_role(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--small-role"):
        request.getfixturevalue("small_role")


@pytest.fixture
def small_role(db: None) -> None:
    """Give this test's connection the rights that the shop has in production; its transaction takes them back."""
    require("postgres")
    if connection.in_atomic_block:
        rights.grant(SMALL_ROLE)
        with connection.cursor() as cursor:
            cursor.execute(f"SET ROLE {SMALL_ROLE}")


@pytest.fixture(autouse=True)
def _empty_cache() -> None:
    for one in caches.all(initialized_only=True):
        one.clear()


@pytest.fixture(scope="session", autouse=True)
def _empty_broker() -> Iterator[None]:
    yield
    if settings.REDIS_URL:
        cache.clear()


@pytest.fixture
def at() -> Iterator[Callable[[str, Callable[[], object]], None]]:
    """Let something happen when the code first passes a named failpoint: at("mail.sent", do_this)."""
    with ExitStack() as stack:
        yield lambda place, happen: stack.enter_context(happening_at(place, happen))


@pytest.fixture(scope="session")
def running_sandbox_process() -> Iterator[Sandbox]:
    port = int(settings.NOWPAYMENTS_BASE_URL.split(":")[2].partition("/")[0])
    with running_sandbox(settings.VAR_DIR, port=port, store_url=settings.SITE_URL) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(running_sandbox_process: Sandbox) -> Iterator[Sandbox]:
    """The sandbox that the settings point at, a process of its own; free of faults again after each test."""
    yield running_sandbox_process
    running_sandbox_process.calm()


@pytest.fixture
def own_live_store(tmp_path: Path) -> Iterator[Store]:
    """A whole store of four processes with a database and a sandbox of its own."""
    with own_store(tmp_path) as store:
        yield store
