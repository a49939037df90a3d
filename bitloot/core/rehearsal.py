"""Rehearsals: code runs as always, but its transaction is rolled back, and no request leaves but reads."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from django.db import transaction

MOST_QUESTIONS = 12

T = TypeVar("T")
Question = tuple[Any, ...]


class NotRehearsed(Exception):
    """What was rehearsed would write at a provider; nothing was sent."""


class AskFirst(BaseException):
    """A read whose answer the rehearsal does not have yet. No `except Exception` on the way may swallow it."""

    def __init__(self, question: Question, ask: Callable[[], Any]) -> None:
        super().__init__(question)
        self.question, self.ask = question, ask


class _Rehearsal:
    def __init__(self) -> None:
        self._answers: dict[Question, Any] = {}

    def answer(self, question: Question, ask: Callable[[], T]) -> T:
        if question not in self._answers:
            raise AskFirst(question, ask)
        known = self._answers[question]
        if isinstance(known, Exception):
            raise known
        return known

    def learn(self, asked: AskFirst) -> None:
        try:
            self._answers[asked.question] = asked.ask()
        except Exception as err:  # noqa: BLE001 - raised again where the question is asked
            self._answers[asked.question] = err


_current: ContextVar[_Rehearsal | None] = ContextVar("rehearsal", default=None)


def rehearse(act: Callable[[], T]) -> T:
    """Return what `act` returns; everything that it did to the database is undone.

    Providers are read between two tries, with no transaction open: what `act` asks first ends the try, is asked, and
    `act` begins anew with the answer. Raises NotRehearsed if it wants to write there.
    """
    rehearsal = _Rehearsal()
    for _ in range(MOST_QUESTIONS):
        try:
            with _entered(rehearsal), transaction.atomic():
                try:
                    return act()
                finally:
                    # However it ends: also what `act` wrote before it failed, or before it had to ask.
                    transaction.set_rollback(True)
        except AskFirst as asked:
            rehearsal.learn(asked)
    raise NotRehearsed("It asks the provider too many questions.")


def read_in_rehearsal(method: str, question: Question, ask: Callable[[], T]) -> T | None:
    """Return the answer that the rehearsal has, or None outside of rehearsals. Raises AskFirst and NotRehearsed."""
    rehearsal = _current.get()
    if rehearsal is None:
        return None
    if method != "GET":
        raise NotRehearsed(f"It would send {method} to {question[0]}.")
    return rehearsal.answer(question, ask)


@contextmanager
def _entered(rehearsal: _Rehearsal) -> Iterator[None]:
    token = _current.set(rehearsal)
    try:
        yield
    finally:
        _current.reset(token)
