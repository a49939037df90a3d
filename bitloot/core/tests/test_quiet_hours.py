"""When quiet hours end, by the clock of their place."""

from datetime import UTC, datetime

import pytest

from bitloot.environment import quiet_hours

NIGHT = quiet_hours("22:00-07:00 Europe/Berlin")  # two hours before UTC in summer, one in winter
NOON = quiet_hours("12:00-13:30")
EARLY = quiet_hours("02:15-02:45 Europe/Berlin")  # inside of the hour that summer time takes and gives


def moment(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("hours", "now", "until"),
    [
        (NIGHT, "2026-07-01T19:59:59", None),
        (NIGHT, "2026-07-01T20:00", "2026-07-02T05:00"),
        (NIGHT, "2026-07-01T23:00", "2026-07-02T05:00"),
        (NIGHT, "2026-07-02T04:59:59", "2026-07-02T05:00"),
        (NIGHT, "2026-07-02T05:00", None),
        (NIGHT, "2026-12-31T22:00", "2027-01-01T06:00"),
        (NIGHT, "2026-10-24T21:00", "2026-10-25T06:00"),  # clocks are set back that night
        (NIGHT, "2026-03-28T22:00", "2026-03-29T05:00"),  # and forward in this one
        (NOON, "2026-07-01T11:59", None),
        (NOON, "2026-07-01T12:00", "2026-07-01T13:30"),
        (NOON, "2026-07-01T13:30", None),
        (EARLY, "2026-10-25T00:20", "2026-10-25T00:45"),
        (EARLY, "2026-10-25T01:20", "2026-10-25T01:45"),
    ],
)
def test_quiet_hours_end_by_the_clock_of_their_place(hours, now, until):
    assert hours.until(moment(now)) == (until and moment(until))
