"""How the bucket has to be set up: which pages may read from it, and what it clears away unasked."""

from collections.abc import Callable
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from django.conf import settings

from storage.objects import PROBES, ObjectUnavailable

_OURS = "bitloot"
# S3 answers an error instead of an empty list where no rule was ever set.
_NOT_SET = ("NoSuchCORSConfiguration", "NoSuchLifecycleConfiguration")


def cors_rules() -> list[dict[str, Any]]:
    return [
        {"ID": _OURS, "AllowedOrigins": [settings.SITE_URL], "AllowedMethods": ["GET"], "MaxAgeSeconds": 3600},
    ]


def lifecycle_rules() -> list[dict[str, Any]]:
    """Return what the bucket may clear away. Keys are left out on purpose.

    BitLoot ends each key at its own time; a rule here could only destroy what a customer may still open.
    """
    return [
        {"ID": f"{_OURS}-probes", "Status": "Enabled", "Filter": {"Prefix": PROBES}, "Expiration": {"Days": 1}},
        {
            "ID": f"{_OURS}-parts",
            "Status": "Enabled",
            "Filter": {"Prefix": ""},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
        },
    ]


def set_up(store: Any) -> None:
    """Set our rules, and leave the rules of others as they are. Raises ObjectUnavailable."""
    # Each call below replaces the whole list, so the rules of others are sent back with ours.
    cors = _without_ours(_read_cors(store)) + cors_rules()
    lifecycle = _without_ours(_read_lifecycle(store)) + lifecycle_rules()
    client, bucket = store.client, store.bucket_name
    _call(lambda: client.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": cors}))
    _call(lambda: client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": lifecycle}))


def differences(store: Any) -> list[str]:
    """Return what is missing in the bucket, in words. Raises ObjectUnavailable."""
    found = []
    if not any(_lets_us_read(rule) for rule in _read_cors(store)):
        found.append(f"No CORS rule lets a browser on {settings.SITE_URL} read.")
    set_rules = {rule.get("ID"): rule for rule in _read_lifecycle(store)}
    for wanted in lifecycle_rules():
        is_set = set_rules.get(wanted["ID"], {})
        if any(is_set.get(name) != wanted[name] for name in wanted if name not in ("ID", "Filter")):
            found.append(f"The lifecycle rule {wanted['ID']} is missing or differs.")
    return found


def _lets_us_read(rule: dict[str, Any]) -> bool:
    return bool({"*", settings.SITE_URL} & set(rule["AllowedOrigins"])) and "GET" in rule["AllowedMethods"]


def _without_ours(rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [rule for rule in rules if not str(rule.get("ID", "")).startswith(_OURS)]


def _read_cors(store: Any) -> list[dict[str, Any]]:
    return _rules(lambda: store.client.get_bucket_cors(Bucket=store.bucket_name)["CORSRules"])


def _read_lifecycle(store: Any) -> list[dict[str, Any]]:
    return _rules(lambda: store.client.get_bucket_lifecycle_configuration(Bucket=store.bucket_name)["Rules"])


def _rules(read: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    try:
        return _call(read)
    except ObjectUnavailable as err:
        cause = err.__cause__
        if isinstance(cause, ClientError) and cause.response.get("Error", {}).get("Code") in _NOT_SET:
            return []
        raise


def _call(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except ClientError as err:
        code = err.response.get("Error", {}).get("Code", "")
        status = err.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        hint = " This token may not change the bucket; use one with Admin Read & Write." if status == 403 else ""
        raise ObjectUnavailable(f"The object store answered {status} {code}.{hint}") from err
    except (BotoCoreError, OSError) as err:
        raise ObjectUnavailable(f"The object store did not answer: {type(err).__name__}.") from err
