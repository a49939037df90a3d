"""kombu's filesystem transport, mended: there a reader can meet a message that is still being written.

It then finds an empty file, and the worker ends with an unrecoverable error. Here every file appears whole, by a
rename, and what a killed process left behind is skipped. Registered under the same name by bitloot.celery and
bitloot.beat.
"""

import os
import uuid
from collections.abc import Iterable
from pathlib import Path
from queue import Empty
from time import time_ns
from typing import Any

from kombu.transport import filesystem
from kombu.transport.filesystem import exchange_queue_t
from kombu.utils.json import dumps, loads

# Bells are all alike: when this many wait, one more tells nobody anything new.
ENOUGH_WAITING = 200


class Channel(filesystem.Channel):
    def get_table(self, exchange: str) -> list[Any]:
        try:
            return [exchange_queue_t(*queue) for queue in loads(self._table(exchange).read_text())]
        except (FileNotFoundError, ValueError):
            return []

    def _queue_bind(self, exchange: str, routing_key: str | None, pattern: str | None, queue: str) -> None:
        bound = self.get_table(exchange)
        wanted = exchange_queue_t(routing_key or "", pattern or "", queue or "")
        if wanted not in bound:
            self.control_folder.mkdir(parents=True, exist_ok=True)
            _write_whole(self._table(exchange), dumps([wanted, *bound]))

    def _put(self, queue: str, message: Any, **kwargs: Any) -> None:  # type: ignore[override]
        folder = Path(self.data_folder_out)
        if sum(1 for _ in self._waiting(queue)) < ENOUGH_WAITING:
            _write_whole(folder / f"{time_ns():020d}_{uuid.uuid4()}.{queue}.msg", dumps(message))

    def _get(self, queue: str, timeout: float | None = None) -> Any:
        for path in sorted(self._waiting(queue)):
            taken = f"{path}.taken"
            try:
                os.rename(path, taken)
                text = Path(taken).read_text()
                os.unlink(taken)
                return loads(text)
            except (FileNotFoundError, ValueError):
                continue  # another worker was faster, or it is no message
        raise Empty

    def _waiting(self, queue: str) -> Iterable[str]:
        return (entry.path for entry in os.scandir(self.data_folder_in) if entry.name.endswith(f".{queue}.msg"))

    def _table(self, exchange: str) -> Path:
        return Path(self.control_folder) / f"{exchange}.exchange"


class Transport(filesystem.Transport):
    Channel = Channel


def _write_whole(path: Path, text: str) -> None:
    part = path.with_name(f"{path.name}.{uuid.uuid4()}.part")
    part.write_text(text)
    os.replace(part, path)
