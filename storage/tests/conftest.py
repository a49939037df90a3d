from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bitloot.tests.s3server import S3Server, find_weed, running_s3
from bitloot.tests.services import Missing, in_ci
from storage.objects import EmbeddedStorage, key_store
from storage.r2 import R2Storage
from storage.tests.s3stub import Stub, running_stub


@pytest.fixture(autouse=True)
def objects(settings: Any, tmp_path: Path) -> EmbeddedStorage:
    """The embedded store, with files of this test only."""
    return use_store(settings, "objects.EmbeddedStorage", {"location": tmp_path / "objects"})


@pytest.fixture
def stub(settings: Any) -> Iterator[Stub]:
    """R2 as a server that fails on demand."""
    with running_stub() as server:
        use_store(settings, "r2.R2Storage", server.options)
        yield server


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """A real S3 server."""
    try:
        find_weed()
    except Missing as err:
        (pytest.fail if in_ci() else pytest.skip)(str(err))
    with running_s3() as server:
        yield server


@pytest.fixture
def r2(s3: S3Server, settings: Any) -> R2Storage:
    """R2 as a real S3 server that checks signatures."""
    options = {
        "bucket_name": s3.bucket,
        "endpoint_url": s3.endpoint,
        "access_key": s3.access_key,
        "secret_key": s3.secret_key,
    }
    return use_store(settings, "r2.R2Storage", options)


def use_store(settings: Any, backend: str, options: dict[str, Any]) -> Any:
    keys = {"BACKEND": f"storage.{backend}", "OPTIONS": options}
    settings.STORAGES = {**settings.STORAGES, "keys": keys}
    return key_store()
