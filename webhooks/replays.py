"""Many webhooks replayed or rehearsed in the background: a row is the run, a worker takes it part by part."""

import hashlib
import json
import time
import uuid
from typing import Any

from django.contrib.admin.models import ADDITION, CHANGE, LogEntry
from django.contrib.auth import get_user_model
from django.db import IntegrityError, transaction
from django.db.models import Count, QuerySet

from bitloot.core import queries, wakeup
from bitloot.core.clock import delay
from bitloot.core.decisions import ConfirmForm, Decision, DecisionRefused, demand
from bitloot.core.providers import OverBudget
from bitloot.core.queue import LeaseLost
from webhooks.choosing import Chosen, chosen
from webhooks.foresight import foreseen_or_left
from webhooks.models import Replay, ReplayRun, Verdict, WebhookLog
from webhooks.services import REPLAY, replay

MAY_REPLAY, MAY_REHEARSE = "webhooks.replay_webhooks", "webhooks.rehearse_webhook"
MOST = 100_000
# Webhooks that a run has with their handlers at a time: those that arrive now are not to wait behind thousands.
IN_HAND = 25
PART = 50
# A part ends well within its lease.
PART_SECONDS = 20
LOOK_AGAIN = 1
TOO_MANY = f"More than {MOST} match. Narrow the filter."
NONE = "Nothing matches, so there is nothing to replay."


def objection_to_run(wanted: Chosen) -> str | None:
    found = count(wanted)
    if not found:
        return NONE
    return TOO_MANY if found > MOST else None


def count(wanted: Chosen) -> int:
    # Counted no further than matters: a filter may match millions.
    return chosen(wanted).order_by()[: MOST + 1].count()


def start_run(
    wanted: Chosen, *, is_dry: bool, actor: str, user_id: int | None = None, pk: uuid.UUID | None = None
) -> tuple[ReplayRun, bool]:
    """Begin a run and return it, and whether it is new: the same request twice is one run, and so are two people's
    requests for the same webhooks while the first run is not finished. Raises DecisionRefused.
    """
    wanted = wanted.without_address()
    demand(objection_to_run(wanted))
    newest = WebhookLog.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    fields = {
        "is_dry": is_dry, "wanted": wanted.as_json(), "digest": _digest(wanted, is_dry), "actor": actor,
        "user_id": user_id, "total": count(wanted), "ends_with": newest,
    }  # fmt: skip
    try:
        # A savepoint, since `begin` is in a transaction: the constraint's error must not end that one as well.
        with transaction.atomic():
            run, is_new = ReplayRun.objects.get_or_create(pk=pk or uuid.uuid4(), defaults=fields)
    except IntegrityError:  # the constraint: the newest with this filter was open
        run, is_new = ReplayRun.objects.filter(digest=fields["digest"]).order_by("-created_at")[0], False
    if is_new:
        wakeup.notify("replays")
    return run, is_new


def begin(wanted: Chosen, *, is_dry: bool, user: Any, pk: uuid.UUID | None = None) -> tuple[ReplayRun, bool]:
    """Begin a run for a member of staff, with its line in the staff log. Raises DecisionRefused."""
    with transaction.atomic():
        run, is_new = start_run(wanted, is_dry=is_dry, actor=user.get_username(), user_id=user.pk, pk=pk)
        if is_new:
            words = f"{run.kind}: {Chosen.from_json(run.wanted)}"[:500]
            LogEntry.objects.log_actions(user.pk, [run], ADDITION, words)
    return run, is_new


def advance(run: ReplayRun) -> None:
    """Do the next part of a claimed run. A worker that takes it up after another died does no webhook twice."""
    until = time.monotonic() + PART_SECONDS
    step = _rehearse if run.is_dry else _hand_over
    rows = list(_next(run))
    done = run.done_to
    try:
        for log in rows:
            step(run, log)
            done = log.pk
            if time.monotonic() > until:
                break
    except OverBudget as err:
        # This webhook was not rehearsed; the next part begins with it.
        run.release(delay(err.seconds), done_to=done)
        return
    # A run ends only with the last verdict: until then a handler still has some of its webhooks.
    if rows or _in_hand(run).exists():
        run.release(delay(0) if run.is_dry else delay(LOOK_AGAIN), done_to=done)
    else:
        run.mark_finished()


def give_up(run: ReplayRun) -> None:
    run.mark_given_up(note="It crashed the worker three times. Look at the log of the worker.")


def progress(run: ReplayRun) -> dict[str, int]:
    """Return how many webhooks of the run came to each verdict."""
    return dict(run.replays.values_list("verdict").annotate(Count("pk")).order_by("verdict"))


def stop(run: ReplayRun, *, actor: str) -> None:
    """Let it end where it is. Raises DecisionRefused."""
    demand(objection_to_stopping(run))
    run.mark_stopped(note=f"Stopped by {actor}.")


def replay_these(run: ReplayRun, *, actor: str) -> None:
    """Replay what a dry run looked at. Raises DecisionRefused."""
    demand(objection_to_replaying(run))
    wanted = Chosen.from_json(run.wanted)
    # Named by the dry run, so that a second press, or another person's, finds the first one's run.
    user = get_user_model().objects.filter(username=actor).first()
    start_run(wanted, is_dry=False, actor=actor, user_id=user.pk if user else None, pk=uuid.uuid5(run.pk, "replay"))


def objection_to_stopping(run: ReplayRun) -> str | None:
    return None if run.status == ReplayRun.Status.RUNNING else "It has ended already."


def objection_to_replaying(run: ReplayRun) -> str | None:
    if not run.is_dry:
        return "This was not a dry run."
    if run.status == ReplayRun.Status.RUNNING:
        return "The dry run has not ended yet."
    if ReplayRun.objects.filter(pk=uuid.uuid5(run.pk, "replay")).exists():
        return "These were replayed already; the list of replays has it."
    return objection_to_run(Chosen.from_json(run.wanted))


def _next(run: ReplayRun) -> QuerySet[WebhookLog]:
    wanted = chosen(Chosen.from_json(run.wanted))
    most = PART if run.is_dry else max(IN_HAND - _in_hand(run).count(), 0)
    # No further than what was there at the beginning: a run that follows new arrivals would never end.
    return wanted.filter(pk__gt=run.done_to, pk__lte=run.ends_with).order_by("pk")[:most]


def _in_hand(run: ReplayRun) -> QuerySet[Replay]:
    return run.replays.filter(verdict=Verdict.HANDED)


def _hand_over(run: ReplayRun, log: WebhookLog) -> None:
    with transaction.atomic():
        # Under the run's lock: one that staff stop in the middle of a part hands over nothing more.
        if not queries.select(ReplayRun, {"pk": run.pk, "claim_token": run.claim_token}, lock=True):
            raise LeaseLost(f"{run} was stopped, or another worker has it")
        # One transaction: the row that says “done in this run” must not exist without the hand-over, nor the other way
        # round.
        if run.replays.filter(log=log).exists():
            return  # a worker that was killed had come so far
        try:
            replay(log, actor=run.actor, run=run)
        except DecisionRefused as err:
            Replay.objects.create(log=log, run=run, actor=run.actor, verdict=Verdict.LEFT, text=str(err))
            return
        if run.user_id is not None:
            # The same line as the button leaves.
            LogEntry.objects.log_actions(run.user_id, [log], CHANGE, REPLAY.label)


def _rehearse(run: ReplayRun, log: WebhookLog) -> None:
    if run.replays.filter(log=log).exists():
        return
    # Outside of a transaction, as providers are asked. If the worker dies before the row is there, it is rehearsed
    # again.
    verdict, text = foreseen_or_left(log)
    Replay.objects.create(log=log, run=run, actor=run.actor, verdict=verdict, text=text)


def _digest(wanted: Chosen, is_dry: bool) -> str:
    return hashlib.sha256(json.dumps([is_dry, wanted.as_json()], sort_keys=True).encode()).hexdigest()


STOP = Decision(
    name="stop",
    label="Stop",
    permission="webhooks.stop_replays",
    objection=objection_to_stopping,
    carry_out=stop,
    done="it ends here; webhooks that were handed over already are handled",
    consequence="What was handed over stays so; the others are left as they are.",
    form=ConfirmForm,
)
REPLAY_THESE = Decision(
    name="replay_these",
    label="Replay these now",
    permission=MAY_REPLAY,
    objection=objection_to_replaying,
    carry_out=replay_these,
    done="they are replayed in the background; the list of replays shows how far it is",
    consequence="Each webhook that the filter matches now goes to its handler again. What a handler does then follows"
    " from what the provider says at that time, which may differ from the dry run.",
    form=ConfirmForm,
)
