"""The second factor of an account: an authenticator, and recovery codes that each work once."""

from base64 import b32encode

from django.contrib.auth.models import User
from django.db import transaction
from django_otp.plugins.otp_static.models import StaticDevice, StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice

RECOVERY_CODES = 10


def begin(user: User) -> TOTPDevice:
    """Return the authenticator that the account is about to confirm; it signs nobody in before that."""
    # The first of them: two pages that are opened at once make two, which `get_or_create` would refuse ever after.
    begun = TOTPDevice.objects.filter(user=user, confirmed=False).order_by("pk").first()
    return begun or TOTPDevice.objects.create(user=user, confirmed=False, name="authenticator")


def confirm(device: TOTPDevice) -> list[str]:
    """Let the authenticator sign in, end all earlier devices, and return the recovery codes, shown only now."""
    with transaction.atomic():
        TOTPDevice.objects.filter(user=device.user).exclude(pk=device.pk).delete()
        StaticDevice.objects.filter(user=device.user).delete()
        device.confirmed = True
        device.save(update_fields=["confirmed"])
        spare = StaticDevice.objects.create(user=device.user, name="recovery codes")
        codes = [StaticToken.random_token() for _ in range(RECOVERY_CODES)]
        StaticToken.objects.bulk_create([StaticToken(device=spare, token=code) for code in codes])
    return codes


def secret_of(device: TOTPDevice) -> str:
    """Return the secret as it is typed into an authenticator that reads no QR code."""
    return b32encode(device.bin_key).decode().rstrip("=")
