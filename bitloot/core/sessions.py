"""Django's sessions in the database, under the digest of their key: a reader of the database signs in as nobody."""

from hashlib import sha256
from typing import Any

from django.contrib.sessions.backends import db
from django.contrib.sessions.base_session import AbstractBaseSession
from django.utils import timezone


class SessionStore(db.SessionStore):
    """Overrides each place where Django's backend compares or writes the key; we serve nothing asynchronously."""

    def _get_session_from_db(self) -> Any:
        row = self.model.objects.filter(session_key=at_rest(self.session_key), expire_date__gt=timezone.now()).first()
        if row is None:
            # As Django does: the next save makes a new key, so that nobody can choose one (session fixation).
            self._session_key = None
        return row

    def exists(self, session_key: str) -> bool:
        return super().exists(at_rest(session_key))

    def create_model_instance(self, data: dict[str, Any]) -> AbstractBaseSession:
        row = super().create_model_instance(data)
        row.session_key = at_rest(row.session_key)
        return row

    def delete(self, session_key: str | None = None) -> None:
        key = session_key or self.session_key
        if key is not None:
            super().delete(at_rest(key))


def at_rest(session_key: str | None) -> str:
    # 160 of 256 bits: Django's column has 40 characters.
    return sha256((session_key or "").encode()).hexdigest()[:40]
