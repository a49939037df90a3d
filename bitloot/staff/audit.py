"""Changes of rights become rows and log lines, whether they come from the admin, a command or a shell."""

import logging
from typing import Any

from django.contrib.auth.models import Group, Permission, User
from django.db.models import Model
from django.db.models.signals import m2m_changed, post_save, pre_delete, pre_save
from django.dispatch import receiver

from bitloot.core import logs
from bitloot.partners.signals import rights_changed
from bitloot.staff.models import StaffEvent
from bitloot.staff.notices import notify

logger = logging.getLogger(__name__)

COMMAND_LINE = "the command line"
# What a change of each field of an account is called, from and to.
FLAGS = {
    "is_active": ("deactivated", "activated"),
    "is_staff": ("no longer staff", "made staff"),
    "is_superuser": ("no longer superuser", "made superuser"),
}
_VERBS = {"post_add": "given", "post_remove": "taken", "pre_clear": "taken"}


def record(about: Model, what: str) -> None:
    """Write that something about an account or group changed, in the transaction that changes it."""
    actor = logs.known_facts().get("staff") or COMMAND_LINE
    StaffEvent.objects.create(actor=actor, about=f"{about._meta.verbose_name} {about}"[:160], what=what[:500])
    # By number: people type their password where the name belongs.
    logger.warning("rights of %s %s changed: %s", about._meta.model_name, about.pk, what)


@receiver(m2m_changed, sender=User.groups.through)
@receiver(m2m_changed, sender=User.user_permissions.through)
@receiver(m2m_changed, sender=Group.permissions.through)
def members_changed(
    sender: Any, instance: Model, action: str, reverse: bool, model: type[Model], pk_set: set[Any] | None, **_: Any
) -> None:
    """Write what was given to an account or group, or taken from it."""
    if action in _VERBS:
        # Before a clear: it names no keys, and after it the rows that could are gone.
        keys = _linked(sender, instance, model) if pk_set is None else pk_set
        _write(instance, _VERBS[action], reverse=reverse, of=model, keys=keys)


def _linked(through: Any, instance: Model, model: type[Model]) -> set[Any]:
    links = through._default_manager.filter(**{str(instance._meta.model_name): instance})
    return set(links.values_list(model._meta.model_name, flat=True))


def _write(instance: Model, verb: str, *, reverse: bool, of: type[Model], keys: set[Any]) -> None:
    rows = of._default_manager.filter(pk__in=keys)
    if reverse:  # a group or permission that got or lost members: the accounts and groups changed
        for row in rows:
            _about(row, f"{instance._meta.verbose_name} {verb}: {_name(instance)}")
    elif keys:
        names = ", ".join(sorted(_name(row) for row in rows))
        _about(instance, f"{of._meta.verbose_name_plural} {verb}: {names}")


def _name(row: Any) -> str:
    return f"{row.content_type.app_label}.{row.codename}" if isinstance(row, Permission) else str(row)


def _about(row: Any, what: str) -> None:
    record(row, what)
    if isinstance(row, User):
        notify(row, f"The rights of your account {row.get_username()} have changed. {what[:150].capitalize()}.")


@receiver(pre_delete, sender=User)
@receiver(pre_delete, sender=Group)
def ended(instance: Model, **_: Any) -> None:
    record(instance, "deleted")


@receiver(pre_save, sender=User)
def account_changed(instance: User, raw: bool = False, update_fields: Any = None, **_: Any) -> None:
    """Write what about an account changes with this save; bitloot.staff.passwords hears of new passwords."""
    if raw or (update_fields and set(update_fields) <= {"last_login", "password"}):
        return
    before = User.objects.filter(pk=instance.pk).first() if instance.pk else None
    if before is None:
        return
    changes = [
        words[bool(getattr(instance, name))]
        for name, words in FLAGS.items()
        if getattr(before, name) != getattr(instance, name)
    ]
    if before.email != instance.email:
        changes.append("e-mail address changed")
    if changes:
        record(instance, ", ".join(changes))
        # To the address that it had: a new one may be a thief's.
        notify(before, f"Your account {before.get_username()} has changed: {', '.join(changes)}.")


@receiver(post_save, sender=User)
def account_made(instance: User, created: bool, raw: bool = False, **_: Any) -> None:
    """Write that an account began as superuser, as `createsuperuser` makes them; all other rights are given later."""
    if created and not raw and instance.is_superuser:
        record(instance, FLAGS["is_superuser"][True])


@receiver(rights_changed)
def api_key_changed(about: Model, what: str, **_: Any) -> None:
    record(about, what)
