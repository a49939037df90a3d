from datetime import timedelta

from django.conf import settings

# 1, 2, 4, 8, 16 s, then growing to a quarter of an hour; a step that fails for a day goes to staff.
_FIRST_STEPS = (1, 2, 4, 8, 16, 30, 60, 120, 300, 600)
LONGEST_STEP = 900
GIVE_UP_AFTER = 24 * 3600


def delay(seconds: float) -> timedelta:
    """Return a waiting time; chaos runs divide every one of them by CLOCK_SCALE."""
    return timedelta(seconds=seconds / settings.CLOCK_SCALE)


def backoff(attempts: int) -> timedelta:
    """Return how long a step that failed `attempts` times waits before it is tried again."""
    return delay(_FIRST_STEPS[attempts - 1] if 0 < attempts <= len(_FIRST_STEPS) else LONGEST_STEP)
