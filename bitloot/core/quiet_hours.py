"""The hours in which only what is urgent may wake somebody, by the clock of a place."""

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo


@dataclass(frozen=True)
class QuietHours:
    begin: time
    end: time
    zone: ZoneInfo

    def until(self, moment: datetime) -> datetime | None:
        """Return when the quiet hours end that this moment lies in, or None outside of them."""
        local = moment.astimezone(self.zone)
        clock, over_midnight = local.time(), self.begin > self.end
        if over_midnight and clock >= self.begin:
            day = local.date() + timedelta(days=1)
        elif clock < self.end and (over_midnight or clock >= self.begin):
            day = local.date()
        else:
            return None
        end = datetime.combine(day, self.end, self.zone)
        # When clocks are set back, an hour comes twice: in its second round the first end is over. Compared in UTC,
        # because times of one place are compared by what the clock shows.
        first = end.astimezone(UTC)
        return first if first > moment else end.replace(fold=1).astimezone(UTC)
