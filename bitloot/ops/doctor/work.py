"""Whether the work is done: workers, beat, webhooks, alerts, keys."""

from collections.abc import Iterator
from datetime import timedelta

from django.conf import settings
from django.db.models import Max
from django.db.models.functions import Now
from django.utils import timezone

from bitloot.core import sweeps
from bitloot.core.clock import in_words
from bitloot.core.database import reason_of
from bitloot.core.presence import living
from bitloot.core.queue import queues
from bitloot.ops.backup.places import made_at, place
from bitloot.ops.doctor.finding import Finding, judged, look, ok, wrong
from fulfillment.models import Reservation, SupplierGate
from orders.models import Alert
from orders.notifications import LastDelivery, last_deliveries
from payments.coins import FRESH_SECONDS
from payments.models import Coin, Payment
from storage.sealing import master_key_ready
from storage.services import keys_under_other_masters, missing_objects, unknown_master_keys
from webhooks.models import WebhookLog

LATE = timedelta(seconds=90)
LATELY = timedelta(days=7)
A_DAY = timedelta(hours=26)  # cron may be late, and a backup takes its time
BEAT_IS_LATE = timedelta(seconds=2 * FRESH_SECONDS)


def workers() -> Iterator[Finding]:
    seen = list(living())
    if seen:
        yield ok(f"{len(seen)} seen: {'; '.join(f'{each} (version {each.version})' for each in seen[:5])}")
    else:
        yield wrong("none was seen in the last minute", "Start one (`celery -A bitloot worker`), and read its log.")
    late = 0
    for model in queues():
        waiting = model._default_manager.filter(next_attempt_at__lt=Now() - LATE).count()
        if waiting:
            late += 1
            yield wrong(
                f"{waiting} {model._meta.verbose_name_plural} wait for over {LATE.seconds} s",
                "Is a worker running (`celery -A bitloot worker`)? Restart it, and read its log.",
            )
    if not late:
        yield ok("nothing waits longer than it should")


def beat() -> Iterator[Finding]:
    """Judge beat by what it starts: each periodic task notes when it ended well."""
    late = dict(sweeps.late())
    for name, ago in late.items():
        yield wrong(
            f"the periodic task “{name}” last ended well {in_words(ago)} ago",
            "Do beat (`celery -A bitloot.beat beat`) and Redis run? If only this one is late, read the worker's log.",
        )
    fetched = Coin.objects.aggregate(last=Max("refreshed_at"))["last"]
    remedy = "Is beat running (`celery -A bitloot.beat beat`), and NOWPayments well? Read the logs of beat and worker."
    if fetched is None:
        yield wrong("nobody has fetched the coins yet, so nobody can pay", remedy)
        return
    sentence = f"the coins were fetched {in_words(timezone.now() - fetched)} ago"
    yield ok(sentence) if timezone.now() - fetched < BEAT_IS_LATE else wrong(sentence, remedy)


def webhooks() -> Iterator[Finding]:
    sold = Payment.objects.filter(finished_at__gt=Now() - LATELY).exists()
    yield from _seen(WebhookLog.Provider.NOWPAYMENTS, sold, "the IPN's address and secret in NOWPayments' dashboard")
    bought = Reservation.objects.filter(delivered_at__gt=Now() - LATELY, manual=False).exists()
    yield from _seen(WebhookLog.Provider.KINGUIN, bought, "the webhook's address and secret in Kinguin's dashboard")


def _seen(provider: str, expected: bool, where: str) -> Iterator[Finding]:
    last = WebhookLog.objects.filter(provider=provider).aggregate(last=Max("received_at"))["last"]
    if last is not None and timezone.now() - last < LATELY:
        yield ok(f"{provider} sent one {in_words(timezone.now() - last)} ago")
    elif expected:
        sentence = f"{provider} has sent none for a week, although there were sales"
        yield wrong(
            sentence, f"Check {where}. Orders still move, because payments and purchases are read as well, but later."
        )
    else:
        yield ok(f"{provider} has sent none for a week, and nothing was sold")


def alerts() -> Iterator[Finding]:
    for channel in last_deliveries():
        yield _channel(channel)
    if not last_deliveries():
        yield wrong("alerts reach nobody", "Set STAFF_EMAIL or ALERT_URL, then run `manage.py test_alert`.")
    if count := Alert.objects.filter(status=Alert.Status.OPEN).count():
        yield look(
            f"{count} alerts are open", "Decide about them on the admin's home page; docs/runbook.md has each kind."
        )


def _channel(channel: LastDelivery) -> Finding:
    if channel.error:
        return wrong(
            f"{channel.channel}: {channel.error}", "Run `manage.py test_alert`; correct STAFF_EMAIL or ALERT_URL."
        )
    if channel.delivered_at is None:
        return look(f"{channel.channel}: nothing was ever delivered there", "Run `manage.py test_alert`.")
    return ok(f"{channel.channel}: the last one arrived {in_words(timezone.now() - channel.delivered_at)} ago")


def purchases() -> Iterator[Finding]:
    stopped = list(SupplierGate.objects.exclude(status=SupplierGate.Status.OPEN))
    if settings.SAFE_MODE:
        yield look(
            "SAFE_MODE is set: nothing is bought", "Take it out of the environment once the books balance; restart."
        )
    for gate in stopped:
        since = f"{gate.changed_at:%Y-%m-%d %H:%M} UTC"
        yield look(
            f"the gate to {gate} since {since} ({gate.reason})",
            "`manage.py safe_mode off` opens one that staff stopped.",
        )
    if not stopped and not settings.SAFE_MODE:
        yield ok("purchases may leave")


def keys() -> Iterator[Finding]:
    if not master_key_ready():
        yield wrong(
            "no key can be sealed", "Set KEY_ENCRYPTION_SECRET; the copy you keep elsewhere, if there are keys."
        )
    elif unknown := unknown_master_keys():
        sentence = f"keys need the master keys {', '.join(unknown)}, which this process does not have"
        yield wrong(sentence, "Add the earlier secret to KEY_ENCRYPTION_SECRET_FALLBACKS.")
    elif left := keys_under_other_masters():
        yield look(f"{sum(left.values())} keys are under an earlier secret", "Run `manage.py rotate_keys`.")
    else:
        yield ok("every key opens under the current secret")


def stored_keys() -> Iterator[Finding]:
    """Compare the object store's list with the keys that are kept nowhere else."""
    missing = missing_objects()
    if not missing:
        yield ok("every key that only the object store has is there")
        return
    yield wrong(
        f"{len(missing)} keys are gone from the object store, the first is {missing[0]}",
        "Restore the bucket, or fetch the keys from the supplier again: `key_integrity` in docs/runbook.md.",
    )


def backup() -> Iterator[Finding]:
    if not settings.BACKUP_SECRET:
        remedy = "Set BACKUP_SECRET and run `manage.py backup` from cron, unless PostgreSQL is backed up elsewhere."
        yield look("no backups are made by BitLoot", remedy)
        return
    remedy = "Run `manage.py backup` from cron each day, and read what it prints."
    try:
        names = place().names()
    except OSError as err:
        yield wrong(f"{place()} cannot be looked into: {reason_of(err)}", "Correct BACKUP_TARGET, or the rights to it.")
        return
    if not names:
        yield wrong(f"there is none in {place()}", remedy)
        return
    age = timezone.now() - made_at(names[0])
    sentence = f"the newest in {place()} is {in_words(age)} old"
    yield judged(sentence, remedy, is_wrong=age > timedelta(days=2), is_close=age > A_DAY)
