"""The one reader of the environment. `.env.example` explains each variable, in this order."""

import os
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import environ
from csp.constants import NONE, SELF
from kombu import Exchange, Queue

from bitloot import environment
from bitloot.core import sentinel, sentry, traces
from bitloot.environment import Environment
from bitloot.mail_providers import PROVIDERS

BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = Path(os.environ.get("BITLOOT_VAR", BASE_DIR / "var"))
# Static files are collected into an image without any secret; such a process can sign and serve nothing.
BUILDING = os.environ.get("BITLOOT_BUILDING") == "1"

# The database, mails and sealed keys under var/ are for this system user alone.
os.umask(0o077)

_env_file = Path(os.environ.get("BITLOOT_ENV_FILE", BASE_DIR / ".env"))
if _env_file.is_file():
    environ.Env.read_env(str(_env_file))
env = Environment(os.environ)

# --- Django -----------------------------------------------------------------------------------------------------------
SECRET_KEY = env.own_secret("SECRET_KEY", least=50)
SECRET_KEY_FALLBACKS = list(env.fallbacks("SECRET_KEY_FALLBACKS"))
DEBUG = env.flag("DEBUG")
ALLOWED_HOSTS = env.hosts("ALLOWED_HOSTS")
env.require(DEBUG or "*" not in ALLOWED_HOSTS, "ALLOWED_HOSTS has to name the hosts, not *")
SITE_URL = env.read("SITE_URL", partial(environment.url, path=""), default="", required=True)
env.require(
    not (SITE_URL and ALLOWED_HOSTS) or environment.is_allowed(str(urlsplit(SITE_URL).hostname), ALLOWED_HOSTS),
    "SITE_URL has a host that is missing in ALLOWED_HOSTS",
)
CSRF_TRUSTED_ORIGINS = [SITE_URL] if SITE_URL else []

INSTALLED_APPS = [
    "bitloot.staff.apps.BitLootAdminConfig",  # django.contrib.admin with our AdminSite
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.sites",
    "django.contrib.flatpages",
    "django.contrib.sitemaps",
    "rest_framework",
    "knox",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "csp",
    "anymail",
    "django_otp",
    "django_otp.plugins.otp_totp",
    "django_otp.plugins.otp_static",
    "bitloot",
    "bitloot.core",
    "orders",
    "storage",
    "payments",
    "fulfillment",
    "webhooks",
    "bitloot.partners",
    "bitloot.evidence.apps.EvidenceConfig",
    "bitloot.accounting.apps.AccountingConfig",
    "bitloot.staff.apps.StaffConfig",
]
MIDDLEWARE = [
    "bitloot.core.middleware.RequestMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "bitloot.core.languages.LanguageMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_otp.middleware.OTPMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "bitloot.urls"
WSGI_APPLICATION = "bitloot.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "bitloot.core.store.store",
                "bitloot.core.languages.switch",
            ]
        },
    }
]
APPEND_SLASH = False
SITE_ID = 1  # what flatpages ask for; there is one shop
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("de", "Deutsch")]  # for customers; the admin and what staff are sent are in English
LOCALE_PATHS = [BASE_DIR / "locale"]
TIME_ZONE = "UTC"
USE_TZ = True
FORMAT_MODULE_PATH = "bitloot.formats"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "bitloot.staff.passwords.RefusesGuessable"},
    {"NAME": "bitloot.staff.passwords.EndsTokens"},
]
STATIC_URL = "/static/"
STATIC_ROOT = VAR_DIR / "static"
WHITENOISE_USE_FINDERS = DEBUG
STORAGES: dict[str, Any] = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": VAR_DIR / "media"}},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG
        else "bitloot.core.staticfiles.ModuleStaticFilesStorage"
    },
}

# --- Database ---------------------------------------------------------------------------------------------------------
DATABASE_URL = env.read("DATABASE_URL", environment.database_url, default="")
# A process that has it works as the owner of the tables: `migrate` and what else changes what is fixed for the shop.
MIGRATE_DATABASE_URL = env.read("MIGRATE_DATABASE_URL", environment.database_url, default="")
env.require(DATABASE_URL or not MIGRATE_DATABASE_URL, "MIGRATE_DATABASE_URL needs DATABASE_URL beside it")
DATABASE_THROUGH_PGBOUNCER = env.flag("DATABASE_THROUGH_PGBOUNCER")
env.require(DATABASE_URL or not DATABASE_THROUGH_PGBOUNCER, "DATABASE_THROUGH_PGBOUNCER needs DATABASE_URL beside it")
DATABASE_REPLICA_URL = env.read("DATABASE_REPLICA_URL", environment.database_url, default="")
env.require(DATABASE_URL or not DATABASE_REPLICA_URL, "DATABASE_REPLICA_URL needs DATABASE_URL beside it")
env.require(
    not (DATABASE_URL and DATABASE_REPLICA_URL) or not environment.is_one_server(DATABASE_REPLICA_URL, DATABASE_URL),
    "DATABASE_REPLICA_URL leads to the same server as DATABASE_URL; leave it out without a replica",
)
_TIMEOUTS = "-c statement_timeout=15s -c lock_timeout=5s -c idle_in_transaction_session_timeout=60s"
if DATABASE_URL:
    DATABASES = {"default": environ.Env.db_url_config(MIGRATE_DATABASE_URL or DATABASE_URL)}
    # Asking the server before each use would cost a third of the IPN rate (2338 to 1361/s, 0.66 to 0.79 CPU s per
    # 1000). Without it, each pooled connection fails once after PostgreSQL was restarted: an IPN is answered 503 and
    # comes again, and a worker's row is due again after its backoff or, at worst, its lease.
    DATABASES["default"].update(CONN_MAX_AGE=0, CONN_HEALTH_CHECKS=False)
    DATABASES["default"].setdefault("OPTIONS", {}).update(
        # Shared by all threads of a process; anything that waits for others gives its connection back first.
        # While PostgreSQL is away, a request waits `timeout` for a connection before it is answered 503.
        pool={"min_size": 1, "max_size": 4, "timeout": 5},
        connect_timeout=3,
        options=_TIMEOUTS,
        # Every statement that repeats is parsed and planned once per connection.
        server_side_binding=True,
        prepare_threshold=3,
    )
    if DATABASE_THROUGH_PGBOUNCER and not MIGRATE_DATABASE_URL:
        # The next transaction may have another server connection: nothing that outlives one works. docs/capacity.md
        # has the timeouts, which PgBouncer has to set, because it takes no `options`.
        DATABASES["default"]["DISABLE_SERVER_SIDE_CURSORS"] = True
        DATABASES["default"]["OPTIONS"].update(prepare_threshold=None)
        del DATABASES["default"]["OPTIONS"]["options"]
    if DATABASE_REPLICA_URL:
        # For staff's lists (bitloot/core/replica.py). Few ask for them, so there is no pool: each request connects.
        DATABASES["replica"] = environ.Env.db_url_config(DATABASE_REPLICA_URL)
        DATABASES["replica"].update(CONN_MAX_AGE=0, TEST={"MIRROR": "default"})
        DATABASES["replica"].setdefault("OPTIONS", {}).update(
            connect_timeout=3,
            # A replica that was made a server of its own would take what is written.
            options=f"{_TIMEOUTS} -c default_transaction_read_only=on",
        )
        DATABASE_ROUTERS = ["bitloot.core.replica.Router"]
else:
    if not BUILDING:
        VAR_DIR.mkdir(parents=True, exist_ok=True)
        VAR_DIR.chmod(0o700)  # one of an earlier version may be open
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": VAR_DIR / "bitloot.sqlite3",
            "CONN_MAX_AGE": None,
            "OPTIONS": {
                "transaction_mode": "IMMEDIATE",
                "timeout": 20,
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;",
            },
            "TEST": {"NAME": str(VAR_DIR / "test.sqlite3")},
        }
    }

# --- Broker and cache: messages are wake-ups, so the broker may lose every one of them --------------------------------
REDIS_URL = env.read("REDIS_URL", partial(environment.redis_url, password_needed=not DEBUG), default="")
CLOCK_SCALE = float(env.number("CLOCK_SCALE", default="1", least="0.001", most="1000"))
CELERY_BROKER_TRANSPORT_OPTIONS: dict[str, object]
if REDIS_URL:
    CELERY_BROKER_URL = REDIS_URL
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        "max_retries": 0,
        "socket_connect_timeout": 0.3,
        "socket_timeout": 5,
        "visibility_timeout": 300,
    }
    CACHES: dict[str, dict[str, Any]] = {
        "default": {
            "BACKEND": "bitloot.core.cache.ForgivingRedisCache",
            # A database of its own: emptying the cache empties all of it.
            "LOCATION": environment.next_database(REDIS_URL),
            "OPTIONS": {
                "socket_connect_timeout": 0.3,
                "socket_timeout": 0.5,
                "serializer": "bitloot.core.cache.JsonSerializer",
            },
        }
    }
    if sentinel.is_sentinel(REDIS_URL):
        _sentinels = sentinel.Sentinels.parse(REDIS_URL)
        CELERY_BROKER_URL = _sentinels.broker_url
        CELERY_BROKER_TRANSPORT_OPTIONS |= {
            "master_name": _sentinels.master,
            "sentinel_kwargs": _sentinels.ask_options(seconds=0.3),
        }
        # In a list: Django takes a comma for the beginning of another server.
        CACHES["default"]["LOCATION"] = [environment.next_database(REDIS_URL)]
        CACHES["default"]["OPTIONS"]["pool_class"] = "bitloot.core.cache.MasterPool"
else:
    # Embedded, there is no broker. The worker finds its rows by sweeping, and beat runs its few tasks itself.
    CELERY_BROKER_URL = "memory://"
    CELERY_BROKER_TRANSPORT_OPTIONS = {}
    CELERY_TASK_ALWAYS_EAGER = True
    CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
# Clients that were refused too often, and what this process counts: more, in an attack, than Django's 300 entries.
CACHES["local"] = {
    "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
    "LOCATION": "local",
    "OPTIONS": {"MAX_ENTRIES": 20_000},
}
# Apart, so that somebody who asks for many pages cannot push anything else out.
# Each search is a page, and a hundred products are 300 KB.
CACHES["pages"] = {
    "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
    "LOCATION": "pages",
    "OPTIONS": {"MAX_ENTRIES": 100},
}
# Each process keeps the covers that were asked for last, some 8 MiB: with R2, every one is a call.
CACHES["covers"] = {
    "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
    "LOCATION": "covers",
    "OPTIONS": {"MAX_ENTRIES": 200},
}
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_POOL = "threads"
# For the drains that messages start and for beat's tasks; rows are handled by the threads of bitloot.core.worker.
CELERY_WORKER_CONCURRENCY = 10
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_IGNORE_RESULT = True
# Every message is a wake-up, which may get lost: the broker does not have to remember which ones a worker has taken.
CELERY_TASK_QUEUES = [Queue("celery", Exchange("celery"), routing_key="celery", no_ack=True)]
CELERY_WORKER_ENABLE_REMOTE_CONTROL = False
CELERY_WORKER_SEND_TASK_EVENTS = False
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = 20
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
# A Redis that is read-only or out of memory answers with an error instead of hanging up; the worker waits for both.
CELERY_BROKER_CHANNEL_ERROR_RETRY = True
CELERY_WORKER_CONSUMER = "bitloot.core.broker:Consumer"
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULE_FILENAME = str(VAR_DIR / "beat-schedule")
CELERY_BEAT_MAX_LOOP_INTERVAL = 1
# How often each worker looks at every queue. Without a broker, this is also how it hears of the web's rows.
SWEEP_SECONDS = max((3.0 if REDIS_URL else 0.5) / CLOCK_SCALE, 0.2)
CELERY_BEAT_SCHEDULE = {
    "housekeeping": {"task": "orders.housekeeping", "schedule": max(60.0 / CLOCK_SCALE, 1), "options": {"expires": 60}},
    "alerts": {"task": "orders.remind", "schedule": max(60.0 / CLOCK_SCALE, 1), "options": {"expires": 60}},
    "coins": {"task": "payments.coins", "schedule": max(5.0 / CLOCK_SCALE, 1), "options": {"expires": 30}},
    "stock": {"task": "fulfillment.stock", "schedule": max(60.0 / CLOCK_SCALE, 1), "options": {"expires": 60}},
    "funds": {"task": "fulfillment.balance", "schedule": max(300.0 / CLOCK_SCALE, 1), "options": {"expires": 60}},
    "ipns": {"task": "webhooks.silence", "schedule": max(600.0 / CLOCK_SCALE, 1), "options": {"expires": 600}},
    "watch": {"task": "bitloot.watch", "schedule": max(1800.0 / CLOCK_SCALE, 5), "options": {"expires": 1800}},
    "retention": {"task": "storage.retention", "schedule": max(600.0 / CLOCK_SCALE, 1), "options": {"expires": 600}},
    "prune": {"task": "bitloot.prune", "schedule": max(21_600.0 / CLOCK_SCALE, 5), "options": {"expires": 3600}},
}

# --- Mail -------------------------------------------------------------------------------------------------------------
_mail_schemes = (*environ.Env.EMAIL_SCHEMES, *PROVIDERS) if DEBUG else environment.KEEPS_MAIL
_mail = env.mail("EMAIL_URL", schemes=_mail_schemes)
EMAIL_BACKEND = _mail.get("EMAIL_BACKEND", "django.core.mail.backends.dummy.EmailBackend")
EMAIL_HOST, EMAIL_PORT = _mail.get("EMAIL_HOST"), _mail.get("EMAIL_PORT")
EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = _mail.get("EMAIL_HOST_USER"), _mail.get("EMAIL_HOST_PASSWORD")
EMAIL_USE_TLS, EMAIL_USE_SSL = _mail.get("EMAIL_USE_TLS", False), _mail.get("EMAIL_USE_SSL", False)
EMAIL_FILE_PATH = _mail.get("EMAIL_FILE_PATH")
EMAIL_TIMEOUT = 15
_mail_provider = _mail.get("PROVIDER")
EMAIL_WEBHOOK_SECRET = env.their_secret("EMAIL_WEBHOOK_SECRET", required=_mail_provider is not None)
# What a provider says of a mail later: that it arrived, came back, or was reported as spam.
EMAIL_WEBHOOK_VIEW = _mail_provider.webhook if _mail_provider else ""
# Letters beyond ASCII before the @. A mail server is asked with the mail.
EMAIL_TAKES_LETTERS = _mail_provider.takes_letters if _mail_provider else True
MAIL_SHOWS_PICTURES = _mail_provider is None or _mail_provider.shows_pictures
ANYMAIL = {"REQUESTS_TIMEOUT": EMAIL_TIMEOUT, **_mail.get("ANYMAIL", {})}
if _mail_provider:
    ANYMAIL |= _mail_provider.webhook_settings(EMAIL_WEBHOOK_SECRET)
DEFAULT_FROM_EMAIL = env.read("DEFAULT_FROM_EMAIL", environment.sender, default="", required=True)
env.require(
    DEBUG or "@localhost" not in DEFAULT_FROM_EMAIL,
    "DEFAULT_FROM_EMAIL has to be an address that other mail servers know",
)
DKIM_SELECTOR = env.words("DKIM_SELECTOR", "[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")
SERVER_EMAIL = DEFAULT_FROM_EMAIL
STAFF_EMAIL = env.emails("STAFF_EMAIL", required=True)  # a mail for each: one refused address stops no other

# --- Prices and clients -----------------------------------------------------------------------------------------------
# The supplier charges EUR, and there is no rate source yet.
STORE_CURRENCY = env.choice("STORE_CURRENCY", ("EUR",), default="EUR")
TRUSTED_PROXIES = env.whole("TRUSTED_PROXIES", default=0, least=0, most=5)
if SITE_URL.startswith("https://") and not TRUSTED_PROXIES and not DEBUG:
    env.doubtful.append(
        "SITE_URL is https and TRUSTED_PROXIES is 0: behind a proxy that ends TLS, every page would redirect to itself."
    )
THROTTLE_SCALE = float(env.number("THROTTLE_SCALE", default="1", least="0", most="1000"))

# --- REST -------------------------------------------------------------------------------------------------------------
REST_FRAMEWORK: dict[str, Any] = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["bitloot.partners.authentication.ApiKeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["bitloot.core.clients.ClientMay"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["bitloot.core.api.StrictJSONParser"],
    "DEFAULT_SCHEMA_CLASS": "bitloot.ops.schema.Operation",
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "bitloot.core.api.JsonOnlyNegotiation",
    "EXCEPTION_HANDLER": "bitloot.core.api.problem_handler",
    "DEFAULT_THROTTLE_CLASSES": ["bitloot.core.api.ScaledThrottle"],
    "DEFAULT_THROTTLE_RATES": {
        "read": "600/min",
        "orders": "60/min",
        "payments": "60/min",
        "lookup": "20/min",
        "reveal": "60/min",
        "reports": "30/min",
        "staff": "600/min",
    },
    "NUM_PROXIES": TRUSTED_PROXIES,
    "UNAUTHENTICATED_USER": None,
    "UNAUTHENTICATED_TOKEN": None,
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
REST_KNOX = {"TOKEN_TTL": timedelta(hours=10), "AUTO_REFRESH": False}
SPECTACULAR_SETTINGS = {
    "TITLE": "BitLoot",
    "DESCRIPTION": "Order a game key, pay in crypto, open the key. Errors are application/problem+json (RFC 9457).",
    "VERSION": "1.0.0",
    "OAS_VERSION": "3.1.0",
    "LICENSE": {"name": "MIT", "url": "https://opensource.org/license/mit"},
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVERS": [{"url": SITE_URL}] if SITE_URL else [],
    "TAGS": [
        {"name": "Products", "description": "What is for sale."},
        {"name": "Orders", "description": "Placed by anyone, opened with the order's own token."},
        {"name": "Payments", "description": "Coins, addresses to pay to, and money that goes back."},
        {"name": "Keys", "description": "How far the delivery is, and what opens the keys."},
        {"name": "Staff", "description": "For staff, with a token from /api/admin/login. See docs/staff.md."},
    ],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_NAME_OVERRIDES": {
        "FulfillmentStatusEnum": "bitloot.ops.schema.FULFILLMENT_STATUSES",
        "OrderStatusEnum": "orders.models.Order.Status",
        "PaymentStatusEnum": "payments.models.Payment.Status",
    },
    "PREPROCESSING_HOOKS": ["bitloot.ops.schema.only_api"],
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "bitloot.ops.schema.add_shared_parts",
        "bitloot.ops.schema.add_webhooks",
    ],
}

# --- NOWPayments ------------------------------------------------------------------------------------------------------
NOWPAYMENTS_BASE_URL = env.read(
    "NOWPAYMENTS_BASE_URL", partial(environment.url, ends_with="/v1"), default="", required=True
)
NOWPAYMENTS_API_KEY = env.their_secret("NOWPAYMENTS_API_KEY")
NOWPAYMENTS_IPN_SECRET = env.webhook_secrets("NOWPAYMENTS_IPN_SECRET", most=200)
NOWPAYMENTS_CALLS_PER_SECOND = float(env.number("NOWPAYMENTS_CALLS_PER_SECOND", default="5", least="0", most="1000"))
PAYMENT_QUOTES_PER_ORDER = env.whole("PAYMENT_QUOTES_PER_ORDER", default=3, least=1, most=20)
PAYMENT_QUOTES_PER_HOUR = env.whole("PAYMENT_QUOTES_PER_HOUR", default=60, least=1, most=10_000)
PAYMENT_TOLERANCE = env.number("PAYMENT_TOLERANCE", default="0.005", least="0", most="0.05")

# --- Kinguin ----------------------------------------------------------------------------------------------------------
KINGUIN_API = env.choice("KINGUIN_API", ("ecommerce", "reservations", "orders"), default="ecommerce")
_path = "/esa/api" if KINGUIN_API == "ecommerce" else ""
KINGUIN_BASE_URL = env.read("KINGUIN_BASE_URL", partial(environment.url, ends_with=_path), default="", required=True)
KINGUIN_API_KEY = env.their_secret("KINGUIN_API_KEY")
KINGUIN_CLIENT_ID = env.text("KINGUIN_CLIENT_ID", required=KINGUIN_API == "reservations")
KINGUIN_CLIENT_SECRET = env.their_secret("KINGUIN_CLIENT_SECRET", required=KINGUIN_API == "reservations")
KINGUIN_WEBHOOK_SECRET = env.webhook_secrets("KINGUIN_WEBHOOK_SECRET", most=32)  # their form takes no more
KINGUIN_CALLS_PER_SECOND = float(env.number("KINGUIN_CALLS_PER_SECOND", default="10", least="0", most="1000"))
KINGUIN_LOOKS_PER_MINUTE = env.whole("KINGUIN_LOOKS_PER_MINUTE", default=20, least=5, most=600)
PRODUCT_GONE_DAYS = env.whole("PRODUCT_GONE_DAYS", default=7, least=1, most=365)
COVER_HOSTS = env.read("COVER_HOSTS", environment.hosts, default=[".kinguin.net"])
env.require("*" not in COVER_HOSTS, "COVER_HOSTS has to name the hosts, not *")
SAFE_MODE = env.flag("SAFE_MODE")

# --- R2 ---------------------------------------------------------------------------------------------------------------
R2_ENDPOINT = env.read("R2_ENDPOINT", partial(environment.url, path=""), default="")
R2_ACCESS_KEY_ID = env.text("R2_ACCESS_KEY_ID")
R2_SECRET_ACCESS_KEY = env.their_secret("R2_SECRET_ACCESS_KEY", required=False)
R2_BUCKET = env.read("R2_BUCKET", environment.bucket, default="")
env.all_or_none(
    R2_ENDPOINT=R2_ENDPOINT,
    R2_ACCESS_KEY_ID=R2_ACCESS_KEY_ID,
    R2_SECRET_ACCESS_KEY=R2_SECRET_ACCESS_KEY,
    R2_BUCKET=R2_BUCKET,
)
if R2_BUCKET:
    STORAGES["keys"] = {
        "BACKEND": "storage.r2.R2Storage",
        "OPTIONS": {
            "bucket_name": R2_BUCKET,
            "endpoint_url": R2_ENDPOINT,
            "access_key": R2_ACCESS_KEY_ID,
            "secret_key": R2_SECRET_ACCESS_KEY,
        },
    }
else:
    STORAGES["keys"] = {"BACKEND": "storage.objects.EmbeddedStorage", "OPTIONS": {"location": VAR_DIR / "objects"}}
# Covers beside the keys, under names of their own. Browsers get them from the shop itself (orders/covers.py).
STORAGES["covers"] = {
    "BACKEND": "storage.r2.R2Files" if R2_BUCKET else "storage.objects.EmbeddedFiles",
    "OPTIONS": STORAGES["keys"]["OPTIONS"],
}

# --- Keys -------------------------------------------------------------------------------------------------------------
KEY_ENCRYPTION_SECRET = env.own_secret("KEY_ENCRYPTION_SECRET")
KEY_ENCRYPTION_SECRET_FALLBACKS = env.fallbacks("KEY_ENCRYPTION_SECRET_FALLBACKS")
KEY_ENVIRONMENT = env.read("KEY_ENVIRONMENT", environment.label, default="production")
SIGNED_URL_TTL_SECONDS = env.whole("SIGNED_URL_TTL_SECONDS", default=900, least=60, most=604_800)
KEY_RETENTION_DAYS = env.read("KEY_RETENTION_DAYS", environment.days_or_never, default=365)
KEY_OPENED_MAIL = env.flag("KEY_OPENED_MAIL", default=True)

# --- Retention --------------------------------------------------------------------------------------------------------
WEBHOOK_RETENTION_DAYS = env.read("WEBHOOK_RETENTION_DAYS", environment.days_or_never, default=90)
UNPAID_EMAIL_RETENTION_DAYS = env.read("UNPAID_EMAIL_RETENTION_DAYS", environment.days_or_never, default=30)
MAIL_RETENTION_DAYS = env.read("MAIL_RETENTION_DAYS", environment.days_or_never, default=365)
KEY_ACCESS_RETENTION_DAYS = env.read("KEY_ACCESS_RETENTION_DAYS", environment.days_or_never, default=365)

# --- Store ------------------------------------------------------------------------------------------------------------
STORE_NAME = env.text("STORE_NAME", required=True, most=60)
SUPPORT_EMAIL = env.read("SUPPORT_EMAIL", environment.email, default="", required=True)
COINS_FIRST = env.words("COINS_FIRST", "[a-z0-9]{2,20}")
OVERPAID_ALERT = env.number("OVERPAID_ALERT", default="0.05", least="0", most="1")
APPROVAL_LIMIT = env.number("APPROVAL_LIMIT", default="100", least="0", most="1000000")
APPROVAL_SHARE = env.number("APPROVAL_SHARE", default="0.2", least="0", most="1")
REFUND_REST_HOURS = env.whole("REFUND_REST_HOURS", default=24, least=0, most=720)
ORDER_TOKEN_SECRET = env.own_secret("ORDER_TOKEN_SECRET")
ORDER_TOKEN_SECRET_FALLBACKS = env.fallbacks("ORDER_TOKEN_SECRET_FALLBACKS")

# --- Operation --------------------------------------------------------------------------------------------------------
ALERT_URL = env.alert_urls("ALERT_URL")
ALERT_REPEAT_HOURS = env.whole("ALERT_REPEAT_HOURS", default=4, least=0, most=168)
ALERT_QUIET_HOURS = env.read("ALERT_QUIET_HOURS", environment.quiet_hours, default=None)
BALANCE_RUNWAY_DAYS = env.whole("BALANCE_RUNWAY_DAYS", default=3, least=0, most=90)
SENTRY_DSN = env.read("SENTRY_DSN", environment.sentry_dsn, default="")
OTEL_EXPORTER_OTLP_ENDPOINT = env.read("OTEL_EXPORTER_OTLP_ENDPOINT", environment.collector_url, default="")
env.require(
    not OTEL_EXPORTER_OTLP_ENDPOINT or traces.is_installed(),
    "OTEL_EXPORTER_OTLP_ENDPOINT needs `pip install --require-hashes -r requirements-traces.txt`",
)
METRICS_TOKEN = env.own_secret("METRICS_TOKEN", least=32, required=False)
METRICS_PORT = env.whole("METRICS_PORT", default=0, least=0, most=65_534)
env.require(METRICS_TOKEN or not METRICS_PORT, "METRICS_PORT needs METRICS_TOKEN, which is asked for there as well")
BACKUP_SECRET = env.own_secret("BACKUP_SECRET", required=False)
BACKUP_TARGET = env.read("BACKUP_TARGET", environment.backup_target, default=str(VAR_DIR / "backups"))
env.require(
    R2_ENDPOINT or not BACKUP_TARGET.startswith("s3://"), "BACKUP_TARGET is a bucket, and R2_ENDPOINT is not set"
)
BACKUP_KEEP = env.whole("BACKUP_KEEP", default=14, least=1, most=1000)
LOG_LEVEL = env.choice("LOG_LEVEL", ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"), default="INFO")
LOG_FORMAT = env.choice("LOG_FORMAT", ("line", "json"), default="line")
# Where the demo's own receiver listens. Without DEBUG nothing is sent to this machine, whatever an endpoint says.
WEBHOOKS_TO_LOOPBACK = DEBUG
HSTS = env.choice("HSTS", ("host", "subdomains", "preload"), default="host")
env.require(DEBUG or CLOCK_SCALE == 1, "CLOCK_SCALE is for chaos runs only; leave it out in production")
env.require(
    DEBUG or not os.environ.get("FAILPOINT"), "FAILPOINT kills this process on purpose; leave it out in production"
)
env.secrets_differ()

# --- Browser security -------------------------------------------------------------------------------------------------
_R2_ORIGIN = ["{0.scheme}://{0.netloc}".format(urlsplit(R2_ENDPOINT))] if R2_ENDPOINT else []
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "connect-src": [SELF, *_R2_ORIGIN],
        "img-src": [SELF, "data:", "blob:"],
        "font-src": [SELF],
        "base-uri": [NONE],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
        # Text becomes a script or markup in no page of the shop's. Not in the admin, whose jQuery needs that.
        "require-trusted-types-for": ["'script'"],
        "trusted-types": [NONE],
    }
}
# How far HSTS reaches is the operator's choice (HSTS): a promise for subdomains may be more than they can keep.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
X_FRAME_OPTIONS = "DENY"
# Not no-referrer: with it browsers send forms with “Origin: null”, which the CSRF check refuses. The order page,
# whose address holds a secret, says no-referrer itself.
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
CSRF_FAILURE_VIEW = "bitloot.ops.errors.form_refused"
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = LANGUAGE_COOKIE_HTTPONLY = True
LANGUAGE_COOKIE_NAME, LANGUAGE_COOKIE_AGE = "language", 365 * 24 * 3600
# Every staff account needs a one-time code to sign in; without DEBUG there is no way around it.
STAFF_OTP_REQUIRED = not DEBUG
if env.flag("CHECK_BREACHED_PASSWORDS", default=True):
    AUTH_PASSWORD_VALIDATORS += [{"NAME": "bitloot.staff.passwords.RefusesBreached"}]
OTP_TOTP_ISSUER = "BitLoot staff"
SESSION_ENGINE = "bitloot.core.sessions"
SESSION_COOKIE_AGE = 30 * 60  # from the last page that was opened, see bitloot.staff.site
if not DEBUG and SITE_URL.startswith("https://"):
    SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = LANGUAGE_COOKIE_SECURE = True
    SESSION_COOKIE_NAME, CSRF_COOKIE_NAME = "__Host-sessionid", "__Host-csrftoken"
    SECURE_HSTS_SECONDS = 31_536_000
    SECURE_HSTS_INCLUDE_SUBDOMAINS, SECURE_HSTS_PRELOAD = HSTS != "host", HSTS == "preload"
    SECURE_SSL_REDIRECT = True
    SECURE_REDIRECT_EXEMPT = [r"^(livez|readyz|metrics)$"]
if TRUSTED_PROXIES:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
DATA_UPLOAD_MAX_MEMORY_SIZE = 256 * 1024
DATA_UPLOAD_MAX_NUMBER_FIELDS = 400
# A cover that staff upload, and the fields around it.
FILE_UPLOAD_MAX_MEMORY_SIZE = 5 * 1024 * 1024 + DATA_UPLOAD_MAX_MEMORY_SIZE
FILE_UPLOAD_HANDLERS = ["django.core.files.uploadhandler.MemoryFileUploadHandler"]

# --- Logging ----------------------------------------------------------------------------------------------------------
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"facts": {"()": "bitloot.core.logs.Facts"}},
    "formatters": {
        "line": {"()": "bitloot.core.logs.Line", "secrets": env.secret_values()},
        "json": {"()": "bitloot.core.logs.JsonLine", "secrets": env.secret_values()},
    },
    "handlers": {"console": {"class": "logging.StreamHandler", "filters": ["facts"], "formatter": LOG_FORMAT}},
    "root": {"handlers": ["console"], "level": LOG_LEVEL},
    "loggers": {
        "django": {"handlers": []},  # its own would write a second, plain line while DEBUG is on
        "django.request": {"level": "ERROR"},
        # A line for each scanner that comes by an address: the proxy has it already.
        "django.security.DisallowedHost": {"level": "CRITICAL"},
        "celery": {"level": "WARNING"},  # it would log each wake-up twice
        "urllib3": {"level": "WARNING"},
        "botocore": {"level": "WARNING"},
        "boto3": {"level": "WARNING"},
        "kombu": {"level": "ERROR"},
        "opentelemetry": {"level": "ERROR"},  # a collector that is away would fill the log
        "apprise": {"level": "CRITICAL"},  # it would log hosts and tokens of ALERT_URL
    },
}

DOUBTFUL_SETTINGS = tuple(env.doubtful + env.misspelt())  # `manage.py doctor` names them, too
if BUILDING:
    SECRET_KEY = ""  # Django refuses to sign anything without one
else:
    env.start()
if SENTRY_DSN:
    sentry.start(SENTRY_DSN, secrets=env.secret_values())
if OTEL_EXPORTER_OTLP_ENDPOINT and not BUILDING:
    traces.start(OTEL_EXPORTER_OTLP_ENDPOINT)
