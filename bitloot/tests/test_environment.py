"""Settings that cannot lie: each variable with wrong values and with right ones, and what the processes print."""

import os
import re
import subprocess
import sys
from decimal import Decimal
from urllib.parse import urlsplit

import pytest
from django.test import override_settings
from django.utils.module_loading import import_string

from bitloot import environment
from bitloot.environment import Environment
from bitloot.mail_providers import PROVIDERS
from tools.dev import configuration
from tools.dev.devenv import ROOT, contract_variables, process_environment, write_environment

RANDOM = "Zq3vX8_bNw1mK7-tYr5cJ0hGdLs2PfUeA9iOxV4kQ6B"
OTHER = RANDOM[::-1]
WEBHOOK, MAIL_SECRET = "5f2a9c7be1804d36", "7c41e98d2ab06f53"
NUMBERS = ("abc", "", "1e999", "NaN", "Infinity", "-1", "15m")


def production(**changes):
    """Return a right environment with DEBUG off, with some variables changed or (None) left out."""
    values = {
        "SECRET_KEY": RANDOM + "abcdefgh",
        "ALLOWED_HOSTS": "shop.example",
        "SITE_URL": "https://shop.example",
        "EMAIL_URL": "smtp+tls://shop:word@mail.example:587",
        "DEFAULT_FROM_EMAIL": "Shop <shop@shop.example>",
        "STAFF_EMAIL": "staff@shop.example",
        "TRUSTED_PROXIES": "1",
        "NOWPAYMENTS_BASE_URL": "https://api.nowpayments.example/v1",
        "NOWPAYMENTS_API_KEY": "K4ZTQ2M-1NX4P7W-G2SR9YD-8VHC3JB",
        "NOWPAYMENTS_IPN_SECRET": "u7Xc2Lq9Vt4Rb8Zn1Ks6",
        "KINGUIN_BASE_URL": "https://gateway.kinguin.example/esa/api",
        "KINGUIN_API_KEY": "9d1f7a3c5b8e2046",
        "KINGUIN_WEBHOOK_SECRET": WEBHOOK,
        "KEY_ENCRYPTION_SECRET": OTHER,
        "STORE_NAME": "Shop",
        "SUPPORT_EMAIL": "help@shop.example",
        "ORDER_TOKEN_SECRET": RANDOM[20:] + RANDOM[:20] + "7",
    } | changes
    return {name: value for name, value in values.items() if value is not None}


def read_settings(**changes):
    """Execute bitloot/settings.py with this environment; return its names and what it found wrong."""
    found = {}
    names = {"__file__": str(ROOT / "bitloot" / "settings.py"), "__name__": "settings_under_test"}
    source = (ROOT / "bitloot" / "settings.py").read_text()
    with pytest.MonkeyPatch.context() as patch:
        for name in contract_variables():
            patch.delenv(name, raising=False)
        for name, value in production(**changes).items():
            patch.setenv(name, value)
        patch.setenv("BITLOOT_ENV_FILE", "/nonexistent")
        try:
            exec(compile(source, "settings.py", "exec"), names)
        except SystemExit as err:
            head, *found = str(err).split("\n  - ")
            assert head == "BitLoot cannot start. See .env.example."
    return names, list(found)


def test_a_right_environment_starts_without_a_word(caplog):
    settings, wrong = read_settings()
    assert (wrong, caplog.messages) == ([], [])
    assert settings["DEBUG"] is False


REQUIRED = sorted(set(production()) - {"TRUSTED_PROXIES"})


def test_every_missing_one_is_named_at_once():
    _, wrong = read_settings(**dict.fromkeys(REQUIRED))
    assert sorted(wrong) == [f"{name} is not set" for name in REQUIRED]


def test_the_example_file_marks_what_is_required():
    text = (ROOT / ".env.example").read_text()
    assert sorted(re.findall(r"^([A-Z][A-Z0-9_]+)=$", text, re.MULTILINE)) == REQUIRED
    for name in REQUIRED:
        assert re.search(rf"^# \(\*\)[^\n]*\n(#[^\n]*\n)*{name}=$", text, re.MULTILINE), name


SENTINEL = "sentinel://:password@host1:26379,host2:26379/0?master=NAME"
MASTER = f"needs the name by which the sentinels know the master: {SENTINEL}"
NO_HOST = "holds '', which is not a sentinel; write host:port, separated by commas"
DATABASE = "has to end with the number of a database from 0 to 14, like /0; the cache takes the next one"
SERVICE = "is not a URL of apprise; its documentation lists one for each service"
MAIL = (
    "has to begin with one of smtp://, smtps://, smtp+tls://, smtp+ssl://, filemail://, anymail+brevo://,"
    " anymail+mailgun://, anymail+mailjet://, anymail+postmark://, anymail+resend://, anymail+ses://"
)
DAYS = "has to be a whole number from 30 to 36500, or never"
FLAG = "has to be one of 1, 0, true, false, yes, no, on, off"
WRONG = {
    "SECRET_KEY": {
        RANDOM: "has to have 50 to 200 characters",
        "a" * 50: "is not random: it has fewer than 8 different characters, or repeats itself",
        "abcdefghij" * 5: "is not random: it has fewer than 8 different characters, or repeats itself",
        "change-me-" + RANDOM: "still has an example value",
        RANDOM + "," + OTHER: "holds a comma, which secrets cannot have",
    },
    "DEBUG": {"maybe": FLAG, "2": FLAG},
    "ALLOWED_HOSTS": {
        "*": "ALLOWED_HOSTS has to name the hosts, not *",
        "https://shop.example": "holds 'https://shop.example'; write host names only, without https:// and port",
        "shop.example:443": "holds 'shop.example:443'; write host names only, without https:// and port",
        ".example,.com": "holds '.example', which is not yours alone",
    },
    "SITE_URL": {
        "http://shop.example": "has to be https (http is accepted on loopback only)",
        "https://shop.example/store": "has to be without a path",
        "https://shop.example?x=1": "has to be an address only: no user name, no ? and no #",
        "https://elsewhere.example": "SITE_URL has a host that is missing in ALLOWED_HOSTS",
        "shop.example": "is not a URL",
        "https://-ü.example": "has a host that cannot exist",
        "https://shop.example:99999": "is not a URL",
    },
    "DATABASE_URL": {
        "mysql://shop@host/name": "has to begin with postgres://; leave it out for SQLite under var/",
        "foo": "has to begin with postgres://; leave it out for SQLite under var/",
        "postgres://shop@host": "names no database: postgres://user:password@host:5432/name",
        "postgres://shop@host:port/name": "is not a URL",
    },
    "MIGRATE_DATABASE_URL": {
        "mysql://shop@host/name": "has to begin with postgres://; leave it out for SQLite under var/",
        "postgres://owner@host/name": "MIGRATE_DATABASE_URL needs DATABASE_URL beside it",
    },
    "DATABASE_THROUGH_PGBOUNCER": {"session": FLAG, "1": "DATABASE_THROUGH_PGBOUNCER needs DATABASE_URL beside it"},
    "DATABASE_REPLICA_URL": {
        "mysql://shop@host/name": "has to begin with postgres://; leave it out for SQLite under var/",
        "postgres://shop@host/name": "DATABASE_REPLICA_URL needs DATABASE_URL beside it",
    },
    "REDIS_URL": {
        "foo": "is not a URL",
        "http://host": "has to begin with redis://, rediss:// or sentinel://",
        "redis://redis.example:6379/0": "needs a password on another machine: redis://:password@host:6379/0",
        "redis://:word@host/cache": DATABASE,
        "redis://:word@host/15": DATABASE,
        "redis://:word@host1:6379,host2:6379/0": "is not a URL",
        "sentinel://:word@host1:26379,host2:26379/0": MASTER,
        "sentinel://:word@host/0?master=": MASTER,
        "sentinel://:word@host/0?master=a%20shop": MASTER,
        "sentinel://:word@host/?master=shop&ssl=1": "has the option 'ssl'; Sentinel takes master and sentinel_password",
        "sentinel://:word@/0?master=shop": NO_HOST,
        "sentinel://:word@host,/0?master=shop": NO_HOST,
        "sentinel://:word@host:70000/0?master=shop": (
            "holds 'host:70000', which is not a sentinel; write host:port, separated by commas"
        ),
        "sentinel://:word@host/15?master=shop": DATABASE,
        "sentinel://host1,127.0.0.1/0?master=shop": f"needs a password on another machine: {SENTINEL}",
    },
    "EMAIL_URL": {
        "mail.example": MAIL,
        "consolemail://": MAIL,
        "smtp://": "is not a URL",
        "anymail+postmark://api.postmarkapp.com": "needs the provider's key: anymail+NAME://USER:KEY@HOST",
        "anymail+mailjet://:key@api.mailjet.com": "needs the provider's key: anymail+NAME://USER:KEY@HOST",
        "anymail+brevo://k:key@api.brevo.com/v3": "ends with the provider's host: docs/mail.md has it for each",
        "anymail+postmark://": "is not a URL",
        "smtp+tls://shop:word@host:port": "is not a URL",
    },
    "DEFAULT_FROM_EMAIL": {
        "notanaddress": "holds 'notanaddress', which is not an e-mail address",
        "Shop <shop>": "holds 'shop', which is not an e-mail address",
        "Shop <shop@localhost>": "DEFAULT_FROM_EMAIL has to be an address that other mail servers know",
    },
    "DKIM_SELECTOR": {"a b": "holds 'a b', which cannot be right", "-x": "holds '-x', which cannot be right"},
    "STAFF_EMAIL": {
        "nobody": "holds 'nobody', which is not an e-mail address",
        "a@shop.example;b@shop.example": "holds 'a@shop.example;b@shop.example', which is not an e-mail address",
        ",".join(f"a{n}@shop.example" for n in range(11)): "has more than ten addresses",
    },
    "STORE_CURRENCY": {"USD": "has to be one of EUR"},
    "TRUSTED_PROXIES": dict.fromkeys((*NUMBERS, "two", "6", "1.5"), "has to be a whole number from 0 to 5"),
    "THROTTLE_SCALE": dict.fromkeys((*NUMBERS, "1001"), "has to be a number from 0 to 1000"),
    "NOWPAYMENTS_CALLS_PER_SECOND": dict.fromkeys((*NUMBERS, "1001"), "has to be a number from 0 to 1000"),
    "KINGUIN_CALLS_PER_SECOND": dict.fromkeys((*NUMBERS, "1001"), "has to be a number from 0 to 1000"),
    "PAYMENT_QUOTES_PER_ORDER": dict.fromkeys((*NUMBERS, "0", "21", "1.5"), "has to be a whole number from 1 to 20"),
    "KINGUIN_LOOKS_PER_MINUTE": dict.fromkeys((*NUMBERS, "4", "601"), "has to be a whole number from 5 to 600"),
    "PRODUCT_GONE_DAYS": dict.fromkeys((*NUMBERS, "0", "366"), "has to be a whole number from 1 to 365"),
    "COVER_HOSTS": {
        "*": "COVER_HOSTS has to name the hosts, not *",
        "https://a.net": "holds 'https://a.net'; write host names only, without https:// and port",
        ".com": "holds '.com', which is not yours alone",
    },
    "PAYMENT_QUOTES_PER_HOUR": dict.fromkeys((*NUMBERS, "0", "10001"), "has to be a whole number from 1 to 10000"),
    "NOWPAYMENTS_BASE_URL": {
        "https://api.nowpayments.example": "has to end with /v1",
        "http://api.nowpayments.example/v1": "has to be https (http is accepted on loopback only)",
    },
    "NOWPAYMENTS_API_KEY": {
        "short": "has to have 16 to 200 characters",
        "your-api-key-here-please": "still has an example value",
        "aaaaaaaaaaaaaaaaaaaa": "is not random: it has fewer than 5 different characters, or repeats itself",
    },
    "NOWPAYMENTS_IPN_SECRET": {
        "K4ZTQ2M-1NX4P7W-G2SR9YD-8VHC3JB": "NOWPAYMENTS_IPN_SECRET has the same value as"
        " NOWPAYMENTS_API_KEY; each needs its own",
        f"{RANDOM},{OTHER},{WEBHOOK}": "has more than 2 values",
        f"{RANDOM},short": "has to have 16 to 200 characters",
    },
    "PAYMENT_TOLERANCE": dict.fromkeys((*NUMBERS, "0.5"), "has to be a number from 0 to 0.05"),
    "KINGUIN_API": {"Ecommerce": "has to be one of ecommerce, reservations, orders"},
    "KINGUIN_BASE_URL": {"https://gateway.kinguin.example": "has to end with /esa/api"},
    "KINGUIN_API_KEY": {WEBHOOK: "KINGUIN_WEBHOOK_SECRET has the same value as KINGUIN_API_KEY; each needs its own"},
    "KINGUIN_WEBHOOK_SECRET": {RANDOM: "has to have 16 to 32 characters"},
    "EMAIL_WEBHOOK_SECRET": {
        "short": "has to have 16 to 200 characters",
        WEBHOOK: "KINGUIN_WEBHOOK_SECRET has the same value as EMAIL_WEBHOOK_SECRET; each needs its own",
    },
    "SAFE_MODE": {"enabled": FLAG},
    "R2_BUCKET": {
        "keys": "R2_ENDPOINT, R2_ACCESS_KEY_ID, R2_SECRET_ACCESS_KEY, R2_BUCKET belong together; R2_ENDPOINT,"
        " R2_ACCESS_KEY_ID, R2_SECRET_ACCESS_KEY missing: set all or none",
        "Keys Bucket": "has to be a bucket's name: 3 to 63 small letters, digits and hyphens",
    },
    "R2_ENDPOINT": {"https://r2.example/keys": "has to be without a path"},
    "KEY_ENCRYPTION_SECRET": {
        "a" * 43: "is not random: it has fewer than 8 different characters, or repeats itself",
        production()["SECRET_KEY"]: "KEY_ENCRYPTION_SECRET has the same value as SECRET_KEY; each needs its own",
    },
    "SECRET_KEY_FALLBACKS": {"short": "has to have 43 to 200 characters"},
    "KEY_ENCRYPTION_SECRET_FALLBACKS": {
        "a": "has to have 43 to 200 characters",
        OTHER: "KEY_ENCRYPTION_SECRET_FALLBACKS has the same value as KEY_ENCRYPTION_SECRET; each needs its own",
    },
    "KEY_ENVIRONMENT": {"x" * 41: "has to be at most 40 letters, digits, dots, hyphens and underscores"},
    "SIGNED_URL_TTL_SECONDS": dict.fromkeys(
        (*NUMBERS, "59", "604801"), "has to be a whole number from 60 to 604800"
    ),
    "KEY_RETENTION_DAYS": dict.fromkeys(
        (*NUMBERS, "0", "29", "forever"), "has to be a whole number from 30 to 36500, or never"
    ),
    "KEY_OPENED_MAIL": {"maybe": FLAG},
    "CHECK_BREACHED_PASSWORDS": {"maybe": FLAG},
    "WEBHOOK_RETENTION_DAYS": dict.fromkeys((*NUMBERS, "29"), DAYS),
    "UNPAID_EMAIL_RETENTION_DAYS": dict.fromkeys((*NUMBERS, "29"), DAYS),
    "MAIL_RETENTION_DAYS": dict.fromkeys((*NUMBERS, "29"), DAYS),
    "KEY_ACCESS_RETENTION_DAYS": dict.fromkeys((*NUMBERS, "29"), DAYS),
    "STORE_NAME": {
        "x" * 61: "is longer than 60 characters",
        "Two\nlines": "holds a line break or another character that cannot be printed",
    },
    "SUPPORT_EMAIL": {"help": "holds 'help', which is not an e-mail address"},
    "COINS_FIRST": {"btc,e t h": "holds 'e t h', which cannot be right"},
    "OVERPAID_ALERT": dict.fromkeys((*NUMBERS, "5"), "has to be a number from 0 to 1"),
    "APPROVAL_LIMIT": dict.fromkeys(NUMBERS, "has to be a number from 0 to 1000000"),
    "APPROVAL_SHARE": dict.fromkeys((*NUMBERS, "5"), "has to be a number from 0 to 1"),
    "REFUND_REST_HOURS": dict.fromkeys((*NUMBERS, "721"), "has to be a whole number from 0 to 720"),
    "ORDER_TOKEN_SECRET": {"short": "has to have 43 to 200 characters"},
    "ORDER_TOKEN_SECRET_FALLBACKS": {"short": "has to have 43 to 200 characters"},
    "ALERT_URL": {
        "ftp://x": f"number 1 {SERVICE}",
        "json://127.0.0.1/a, nonsense://x": f"number 2 {SERVICE}",
        "hello": f"number 1 {SERVICE}",
    },
    "ALERT_REPEAT_HOURS": dict.fromkeys((*NUMBERS, "169"), "has to be a whole number from 0 to 168"),
    "ALERT_QUIET_HOURS": dict.fromkeys(
        ("night", "22:00", "22:00-24:00", "07:00-07:00", "22:00-07:00 Atlantis", "22:00-07:00 ../etc/passwd"),
        "has to be two times and a place: 22:00-07:00 Europe/Berlin",
    ),
    "BALANCE_RUNWAY_DAYS": dict.fromkeys((*NUMBERS, "91"), "has to be a whole number from 0 to 90"),
    "SENTRY_DSN": {"sentry": "is not a DSN; Sentry shows it in the project's settings"},
    "OTEL_EXPORTER_OTLP_ENDPOINT": {"ftp://collector": "has to be an http or https URL"},
    "METRICS_TOKEN": {"x": "has to have 32 to 200 characters"},
    "METRICS_PORT": {
        **dict.fromkeys((*NUMBERS, "65535"), "has to be a whole number from 0 to 65534"),
        "9101": "METRICS_PORT needs METRICS_TOKEN, which is asked for there as well",
    },
    "HSTS": {"yes": "has to be one of host, subdomains, preload"},
    "BACKUP_SECRET": {"short": "has to have 43 to 200 characters"},
    "BACKUP_TARGET": {
        "backups": "has to be a folder that begins with /, or s3://bucket/prefix",
        "s3://No Bucket": "has to be a bucket's name: 3 to 63 small letters, digits and hyphens",
        "s3://backups/shop": "BACKUP_TARGET is a bucket, and R2_ENDPOINT is not set",
    },
    "BACKUP_KEEP": dict.fromkeys((*NUMBERS, "0", "1001"), "has to be a whole number from 1 to 1000"),
    "LOG_FORMAT": {"xml": "has to be one of line, json"},
    "LOG_LEVEL": {"verbose": "has to be one of DEBUG, INFO, WARNING, ERROR, CRITICAL"},
    "CLOCK_SCALE": {
        "20": "CLOCK_SCALE is for chaos runs only; leave it out in production",
        "0": "has to be a number from 0.001 to 1000",
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [(name, value, message) for name, cases in WRONG.items() for value, message in cases.items() if value],
)
def test_a_wrong_value_is_named(name, value, message):
    _, wrong = read_settings(**{name: value})
    assert wrong == [message if name in message or "_" in message.split()[0] else f"{name} {message}"]


def test_every_variable_has_wrong_values_in_the_table():
    free = {"KINGUIN_CLIENT_ID", "KINGUIN_CLIENT_SECRET", "R2_ACCESS_KEY_ID", "R2_SECRET_ACCESS_KEY"}
    assert set(contract_variables()) - set(WRONG) == free


RIGHT = [
    ("DEBUG", "On", True),
    ("ALLOWED_HOSTS", "Shop.example, .shop.example,[::1]", ["shop.example", ".shop.example", "[::1]"]),
    (
        "ALLOWED_HOSTS",
        "shop.example,Straße.de,.bücher.example",
        [
            "shop.example",
            "xn--strae-oqa.de",
            ".xn--bcher-kva.example",
        ],
    ),
    ("SITE_URL", "https://shop.example/", "https://shop.example"),
    ("NOWPAYMENTS_BASE_URL", "https://straße.de:8443/v1/", "https://xn--strae-oqa.de:8443/v1"),
    ("DATABASE_URL", "postgres://shop@/name?host=/run", "postgres://shop@/name?host=/run"),
    ("REDIS_URL", "redis://:word@redis.example:6379", "redis://:word@redis.example:6379/0"),
    ("REDIS_URL", "redis://127.0.0.1:6379/3", "redis://127.0.0.1:6379/3"),
    ("REDIS_URL", "sentinel://:word@one,two:5/?master=shop", "sentinel://:word@one,two:5/0?master=shop"),
    ("REDIS_URL", "sentinel://127.0.0.1,localhost:5/2?master=shop", "sentinel://127.0.0.1,localhost:5/2?master=shop"),
    ("STAFF_EMAIL", "a@shop.example, b@shop.example,a@shop.example", ("a@shop.example", "b@shop.example")),
    ("STAFF_EMAIL", "a@straße.de", ("a@xn--strae-oqa.de",)),
    ("DEFAULT_FROM_EMAIL", "shop@shop.example", "shop@shop.example"),
    ("DEFAULT_FROM_EMAIL", "Straße <shop@straße.de>", "Straße <shop@xn--strae-oqa.de>"),
    ("THROTTLE_SCALE", "0", 0.0),
    ("NOWPAYMENTS_CALLS_PER_SECOND", "2.5", 2.5),
    ("NOWPAYMENTS_CALLS_PER_SECOND", "", 5.0),
    ("PAYMENT_QUOTES_PER_ORDER", "1", 1),
    ("PAYMENT_TOLERANCE", "0.05", Decimal("0.05")),
    ("NOWPAYMENTS_BASE_URL", "http://127.0.0.1:1/x/v1/", "http://127.0.0.1:1/x/v1"),
    ("EMAIL_WEBHOOK_SECRET", MAIL_SECRET, MAIL_SECRET),
    ("KINGUIN_WEBHOOK_SECRET", f"{WEBHOOK}, {WEBHOOK[::-1]}", (WEBHOOK, WEBHOOK[::-1])),
    ("SAFE_MODE", "yes", True),
    ("SAFE_MODE", "off", False),
    ("KEY_RETENTION_DAYS", "Never", environment.A_CENTURY),
    ("KEY_RETENTION_DAYS", "30", 30),
    ("SIGNED_URL_TTL_SECONDS", "604800", 604800),
    ("COINS_FIRST", "BTC, usdttrc20", ("btc", "usdttrc20")),
    ("APPROVAL_LIMIT", "250.50", Decimal("250.50")),
    (
        "ALERT_URL",
        "json://127.0.0.1/a?to=x,y , json://127.0.0.1/b",
        ("json://127.0.0.1/a?to=x,y", "json://127.0.0.1/b"),
    ),
    ("KEY_ENCRYPTION_SECRET_FALLBACKS", f"{RANDOM}x,{RANDOM}y", (f"{RANDOM}x", f"{RANDOM}y")),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/", "http://collector:4318"),
    ("THROTTLE_SCALE", "", 1.0),
]


@pytest.mark.parametrize(("name", "value", "meaning"), RIGHT)
def test_a_right_value_is_understood(name, value, meaning):
    settings, wrong = read_settings(**{name: value})
    assert wrong == []
    assert settings[name] == meaning


def test_several_wrong_values_are_named_together():
    _, wrong = read_settings(SAFE_MODE="enabled", KEY_RETENTION_DAYS="0", LOG_LEVEL="verbose")
    assert [sentence.split()[0] for sentence in wrong] == ["SAFE_MODE", "KEY_RETENTION_DAYS", "LOG_LEVEL"]


def test_no_message_repeats_a_secret():
    """Every secret, and every URL that may hold one, with a value that is wrong and recognisable."""
    names = [name for name in contract_variables() if re.search("SECRET|KEY$|TOKEN|DSN|_URL", name)]
    _, wrong = read_settings(**dict.fromkeys(names, "CANARY CANARY"))
    assert len(wrong) >= len(names) - 2
    assert "CANARY" not in " ".join(wrong)


def test_mail_is_delivered_as_the_url_says():
    settings, _ = read_settings(EMAIL_URL="smtp+ssl://shop:w%40rd@mail.example:465")
    assert (settings["EMAIL_HOST"], settings["EMAIL_PORT"], settings["EMAIL_HOST_PASSWORD"]) == (
        "mail.example", 465, "w@rd",
    )  # fmt: skip
    assert (settings["EMAIL_USE_SSL"], settings["EMAIL_USE_TLS"]) == (True, False)


BASIC, API_KEY, API_KEY_IN_URL = {"WEBHOOK_SECRET": f"bitloot:{MAIL_SECRET}"}, "k3y/with@signs", "k3y%2Fwith%40signs"


@pytest.mark.parametrize(
    ("url", "anymail"),
    [
        ("anymail+brevo://key:{}@api.brevo.com",
         {"BREVO_API_KEY": API_KEY, "BREVO_API_URL": "https://api.brevo.com/v3/", **BASIC}),
        ("anymail+mailgun://api:{}@api.eu.mailgun.net",
         {"MAILGUN_API_KEY": API_KEY, "MAILGUN_API_URL": "https://api.eu.mailgun.net/v3/",
          "MAILGUN_WEBHOOK_SIGNING_KEY": MAIL_SECRET}),
        ("anymail+mailjet://public:{}@api.mailjet.com",
         {"MAILJET_API_KEY": "public", "MAILJET_SECRET_KEY": API_KEY, **BASIC,
          "MAILJET_API_URL": "https://api.mailjet.com/v3.1/"}),
        ("anymail+ses://AKIA1:{}@eu-central-1",
         {"AMAZON_SES_CLIENT_PARAMS": {
             "region_name": "eu-central-1", "aws_access_key_id": "AKIA1", "aws_secret_access_key": API_KEY}, **BASIC}),
    ],
)  # fmt: skip
def test_mail_may_leave_over_a_providers_api(url, anymail):
    settings, wrong = read_settings(EMAIL_URL=url.format(API_KEY_IN_URL), EMAIL_WEBHOOK_SECRET=MAIL_SECRET)
    assert (wrong, settings["ANYMAIL"]) == ([], {"REQUESTS_TIMEOUT": 15, **anymail})
    assert {API_KEY, MAIL_SECRET} <= set(settings["env"].secret_values())  # kept out of every log line


def test_a_provider_of_mail_needs_its_webhooks_secret():
    url = f"anymail+resend://key:{API_KEY_IN_URL}@api.resend.com"
    assert read_settings(EMAIL_URL=url)[1] == ["EMAIL_WEBHOOK_SECRET is not set"]


@pytest.mark.parametrize("name", PROVIDERS)
def test_every_provider_can_send_and_be_told(name):
    provider = PROVIDERS[name]
    url = urlsplit(f"{name}://user:{WEBHOOK}@host.example")
    with override_settings(ANYMAIL=provider.settings(url) | provider.webhook_settings(WEBHOOK)):
        import_string(provider.backend)()
        import_string(provider.webhook)()


@pytest.mark.parametrize(("value", "is_asked"), [("", True), ("1", True), ("0", False)])
def test_new_passwords_are_looked_up_unless_told_not_to(value, is_asked):
    settings, _ = read_settings(CHECK_BREACHED_PASSWORDS=value)
    names = [one["NAME"] for one in settings["AUTH_PASSWORD_VALIDATORS"]]
    assert ("bitloot.staff.passwords.RefusesBreached" in names) == is_asked


def test_broker_and_cache_have_a_database_each():
    settings, _ = read_settings(REDIS_URL="redis://:word@redis.example:6379/0")
    assert settings["CELERY_BROKER_URL"] == "redis://:word@redis.example:6379/0"
    assert settings["CACHES"]["default"]["LOCATION"] == "redis://:word@redis.example:6379/1"


def test_sentinels_reach_broker_and_cache_in_the_words_of_each():
    url = "sentinel://:s%3Bw%2Cx@one.example,two.example:5000/3?master=shop&sentinel_password=theirs"
    settings, wrong = read_settings(REDIS_URL=url)
    assert wrong == []
    assert settings["CELERY_BROKER_URL"] == (
        "sentinel://:s%3Bw%2Cx@one.example:26379/3;sentinel://:s%3Bw%2Cx@two.example:5000/3"
    )
    options = settings["CELERY_BROKER_TRANSPORT_OPTIONS"]
    assert [options["master_name"], options["sentinel_kwargs"]["password"]] == ["shop", "theirs"]
    assert settings["CACHES"]["default"]["LOCATION"] == [url.replace("/3?", "/4?")]
    assert {"s;w,x", "theirs"} <= set(settings["LOGGING"]["formatters"]["line"]["secrets"])


def test_pgbouncer_is_asked_for_nothing_that_outlives_a_transaction():
    through = {"DATABASE_URL": "postgres://shop@host:6432/name", "DATABASE_THROUGH_PGBOUNCER": "1"}
    database = read_settings(**through)[0]["DATABASES"]["default"]
    assert [database["OPTIONS"]["prepare_threshold"], "options" in database["OPTIONS"]] == [None, False]
    assert database["DISABLE_SERVER_SIDE_CURSORS"] is True
    owner = read_settings(**through, MIGRATE_DATABASE_URL="postgres://owner@host:5432/name")[0]["DATABASES"]["default"]
    assert "statement_timeout" in owner["OPTIONS"]["options"]  # it works past PgBouncer


@pytest.mark.parametrize(
    ("url", "of"),
    [("postgres://shop@db/name", "postgres://other@db:5432/name"),
     ("postgres://shop@/name?host=/run/pg&port=5433", "postgres://shop@/name?port=5433&host=/run/pg")],
)  # fmt: skip
def test_a_replica_is_another_server(url, of):
    sentence = "DATABASE_REPLICA_URL leads to the same server as DATABASE_URL; leave it out without a replica"
    assert read_settings(DATABASE_URL=of, DATABASE_REPLICA_URL=url)[1] == [sentence]


def test_a_replica_is_only_read_and_never_migrated():
    urls = {"DATABASE_URL": "postgres://shop@db/name", "DATABASE_REPLICA_URL": "postgres://shop@other/name"}
    settings, wrong = read_settings(**urls)
    assert wrong == []
    replica = settings["DATABASES"]["replica"]
    assert "default_transaction_read_only=on" in replica["OPTIONS"]["options"]
    assert replica["TEST"] == {"MIRROR": "default"}  # or Django would make a second database for the tests
    assert settings["DATABASE_ROUTERS"] == ["bitloot.core.replica.Router"]
    assert set(read_settings(DATABASE_URL=urls["DATABASE_URL"])[0]["DATABASES"]) == {"default"}


def test_redis_needs_no_password_while_developing():
    assert read_settings(DEBUG="1", REDIS_URL="redis://redis.example:6379/0")[1] == []


def test_reservations_need_their_credentials():
    _, wrong = read_settings(KINGUIN_API="reservations")
    assert wrong == ["KINGUIN_CLIENT_ID is not set", "KINGUIN_CLIENT_SECRET is not set"]


def test_a_failpoint_is_refused_in_production():
    assert read_settings(FAILPOINT="x")[1] == ["FAILPOINT kills this process on purpose; leave it out in production"]


@pytest.mark.parametrize("name", contract_variables())
def test_each_variable_can_come_from_a_file(name, tmp_path):
    """Without its last newline: every file that echo or an editor wrote has one."""
    values = production(R2_ENDPOINT="https://r2.example", R2_ACCESS_KEY_ID="id", R2_BUCKET="keys") | {
        "DATABASE_URL": "postgres://shop@/name",
        "R2_SECRET_ACCESS_KEY": "Mh2Xw9Lr4Qz7Tb1V",
        "METRICS_TOKEN": "q8Lw3Zx6Vn1Rt9Kb4Hs7Mc2Yf5Pd0Jg",
    }
    values.setdefault(name, dict((n, v) for n, v, _ in RIGHT if v).get(name, ""))
    if not values[name]:
        return
    plain, wrong = read_settings(**values)
    path = tmp_path / "value"
    path.write_text(values[name] + "\n")
    from_file, still_wrong = read_settings(**{**values, name: None, f"{name}_FILE": str(path)})
    shown = "EMAIL_HOST" if name == "EMAIL_URL" else name
    assert (from_file[shown], still_wrong) == (plain[shown], wrong)


def test_a_file_that_cannot_be_read_is_named():
    _, wrong = read_settings(STORE_NAME=None, STORE_NAME_FILE="/nonexistent")
    assert wrong == ["STORE_NAME_FILE names a file that cannot be read (FileNotFoundError)", "STORE_NAME is not set"]


def test_a_value_and_a_file_are_one_too_many(tmp_path):
    _, wrong = read_settings(METRICS_TOKEN_FILE=str(tmp_path / "x"), METRICS_TOKEN="y")
    assert wrong == ["METRICS_TOKEN and METRICS_TOKEN_FILE are both set; keep one of them"]


def test_a_misspelt_name_is_pointed_out(caplog):
    read_settings(KINGUIN_WEBHOOK_SECRETS=WEBHOOK, R2_BUKET_FILE="/x", KINGUIN_BASE="x", HOME="/", KEYBOARD="de")
    assert caplog.messages == [
        "KINGUIN_BASE is not a setting of BitLoot; did you mean KINGUIN_BASE_URL?",
        "KINGUIN_WEBHOOK_SECRETS is not a setting of BitLoot; did you mean KINGUIN_WEBHOOK_SECRET?",
        "R2_BUKET is not a setting of BitLoot; did you mean R2_BUCKET?",
    ]
    assert Environment({"STORE_ZZZZZZZZ": "1"}).misspelt() == [
        "STORE_ZZZZZZZZ is not a setting of BitLoot and has no effect."
    ]


def test_https_without_a_proxy_is_pointed_out(caplog):
    assert read_settings(TRUSTED_PROXIES=None)[1] == []
    assert ["TRUSTED_PROXIES is 0" in message for message in caplog.messages] == [True]


# --- what real processes do ---

PROCESSES = {
    "manage.py": [sys.executable, "manage.py", "migrate"],
    "worker": [sys.executable, "-m", "celery", "-A", "bitloot", "worker"],
    "beat": [sys.executable, "-m", "celery", "-A", "bitloot", "beat"],
    "web": [sys.executable, "-m", "granian", "--interface", "wsgi", "--port", "0", "bitloot.wsgi:application"],
    "any WSGI server": [sys.executable, "-c", "import bitloot.wsgi"],
}


@pytest.mark.parametrize("process", PROCESSES)
def test_a_process_with_a_wrong_setting_prints_a_sentence_and_ends(process, tmp_path):
    environment = process_environment(tmp_path, port=8000, sandbox_port=8001, SAFE_MODE="enabled")
    done = subprocess.run(
        PROCESSES[process], cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert f"BitLoot cannot start. See .env.example.\n  - SAFE_MODE {FLAG}" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_static_files_are_collected_without_any_setting(tmp_path):
    environment = {"PATH": os.environ["PATH"], "BITLOOT_BUILDING": "1", "BITLOOT_VAR": str(tmp_path)}
    environment["BITLOOT_ENV_FILE"] = "/nonexistent"
    script = "from django.conf import settings; settings.STATIC_ROOT; settings.SECRET_KEY"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False,
        env=environment | {"DJANGO_SETTINGS_MODULE": "bitloot.settings"},
    )  # fmt: skip
    assert "The SECRET_KEY setting must not be empty" in done.stderr


def test_the_documentation_says_what_the_example_file_says():
    assert configuration.TARGET.read_text() == configuration.render(), "run python -m tools.dev.configuration"


def test_the_development_environment_of_an_older_checkout_is_completed(tmp_path):
    path = tmp_path / "dev.env"
    path.write_text("SECRET_KEY=kept\n")
    assert write_environment(tmp_path) == path
    first = path.read_text()
    names = [line.partition("=")[0] for line in first.splitlines()]
    assert first.startswith("SECRET_KEY=kept\n")
    assert len(names) == len(set(names))
    assert {"ORDER_TOKEN_SECRET", "STORE_NAME", "SUPPORT_EMAIL", "DEFAULT_FROM_EMAIL"} <= set(names)
    write_environment(tmp_path)
    assert path.read_text() == first
