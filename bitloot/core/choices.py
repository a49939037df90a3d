"""Choices that carry what people need beside the value: a tone for the admin's badges, or a whole sentence."""

from enum import Enum
from typing import Self

from django.db import models


class Tone(Enum):
    """What a status asks of the reader; the value is the name of the badge's style."""

    GOOD = "good"  # done well
    BUSY = "busy"  # a worker has it
    LOOK = "look"  # waits for staff
    BAD = "bad"
    CALM = "calm"  # over, or not begun


class StatusChoices(models.TextChoices):
    """Statuses, written as `NAME = "value"` or `NAME = "value", Tone.GOOD`."""

    tone: Tone

    def __new__(cls, value: str, tone: Tone = Tone.CALM) -> Self:
        member = str.__new__(cls, value)
        member._value_ = value
        member.tone = tone
        return member

    @classmethod
    def tone_for(cls, value: str) -> Tone:
        """Return the tone of a stored status; a row may still hold one that a later version dropped."""
        return cls(value).tone if value in cls.values else Tone.CALM


class ReasonChoices(models.TextChoices):
    """Reasons, written as `NAME = "value", "The sentence for staff.", "Label"`."""

    sentence: str

    def __new__(cls, value: str, sentence: str = "") -> Self:
        member = str.__new__(cls, value)
        member._value_ = value
        member.sentence = sentence
        return member

    @classmethod
    def label_for(cls, value: str) -> str:
        """Return the label of a stored reason, as `sentence_for`."""
        return str(cls(value).label) if value in cls.values else value.replace("_", " ").capitalize()

    @classmethod
    def sentence_for(cls, value: str) -> str:
        """Return the sentence of a stored reason; a row may still hold one that a later version dropped."""
        return cls(value).sentence if value in cls.values else value.replace("_", " ").capitalize()
