"""The looks of `doctor` that somebody has to hear of before they ask: what is wrong there becomes an alert."""

from bitloot.ops.doctor import LOOKS, Level, examine
from orders.alerts import close_alert, raise_alert
from orders.choices import AlertKind

WATCHED = {
    "certificate": AlertKind.CERTIFICATE,
    "backup": AlertKind.BACKUP_LATE,
    "disk": AlertKind.DISK_FULL,
}


def look() -> None:
    for about, kind in WATCHED.items():
        found = list(examine({about: LOOKS[about]}))
        wrong = [finding for finding in found if finding.level is Level.WRONG]
        if wrong:
            raise_alert(kind, about, f"{wrong[0].message[:1].upper()}{wrong[0].message[1:]}. {wrong[0].remedy}")
        elif all(finding.level is Level.OK for finding in found):
            # What is merely to be looked at closes nothing: a certificate that cannot be seen may still be the old one.
            close_alert(kind, about, by="automatic: it is well again")
