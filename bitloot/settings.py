"""The one reader of the environment. `.env.example` explains each variable, in this order."""

import os
import sys
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

import environ
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured
from kombu import Exchange, Queue

BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = Path(os.environ.get("BITLOOT_VAR", BASE_DIR / "var"))

env = environ.FileAwareEnv()
_env_file = Path(os.environ.get("BITLOOT_ENV_FILE", BASE_DIR / ".env"))
if _env_file.is_file():
    env.read_env(str(_env_file))

_wrong: list[str] = []


def _required(name: str, *, minimum: int = 1) -> str:
    """Return a value that production cannot do without; collect every wrong one so that all are named at once."""
    value = env.str(name, default="").strip()
    if not value:
        _wrong.append(f"{name} is not set")
    elif len(value) < minimum:
        _wrong.append(f"{name} is shorter than {minimum} characters")
    elif value.lower().startswith(("change", "example", "secret", "password")):
        _wrong.append(f"{name} still has an example value")
    return value


def _secrets(name: str, *, minimum: int = 16) -> tuple[str, ...]:
    """Return one or two secrets, comma-separated while they are being changed."""
    values = tuple(part.strip() for part in _required(name, minimum=minimum).split(",") if part.strip())
    if len(values) > 2:
        _wrong.append(f"{name} has more than two values")
    if any(len(value) < minimum for value in values):
        _wrong.append(f"{name} has a value shorter than {minimum} characters")
    return values


def _provider_url(name: str, value: str) -> str:
    parts = urlsplit(value)
    loopback = parts.hostname in ("127.0.0.1", "localhost", "::1")
    if value and parts.scheme != "https" and not (parts.scheme == "http" and loopback):
        _wrong.append(f"{name} has to be https (http is accepted on loopback only)")
    return value.rstrip("/")


# --- Django -----------------------------------------------------------------------------------------------------------
DEBUG = env.bool("DEBUG", default=False)
SECRET_KEY = _required("SECRET_KEY", minimum=50)
ALLOWED_HOSTS = [host.strip() for host in _required("ALLOWED_HOSTS").split(",") if host.strip()]
if "*" in ALLOWED_HOSTS and not DEBUG:
    _wrong.append("ALLOWED_HOSTS must name the hosts, not *")
SITE_URL = _provider_url("SITE_URL", _required("SITE_URL"))
CSRF_TRUSTED_ORIGINS = [SITE_URL] if SITE_URL else []

INSTALLED_APPS = [
    "bitloot.staff.apps.BitLootAdminConfig",  # django.contrib.admin with our AdminSite
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "knox",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "csp",
    "django_otp",
    "django_otp.plugins.otp_totp",
    "django_otp.plugins.otp_static",
    "bitloot",
    "orders",
    "storage",
    "payments",
    "fulfillment",
    "webhooks",
    "bitloot.staff.apps.StaffConfig",
]
MIDDLEWARE = [
    "bitloot.core.middleware.RequestMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
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
            ]
        },
    }
]
APPEND_SLASH = False
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "bitloot.staff.passwords.EndsTokens"},
]
STATIC_URL = "/static/"
STATIC_ROOT = VAR_DIR / "static"
WHITENOISE_USE_FINDERS = DEBUG
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": VAR_DIR / "media"}},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG
        else "bitloot.core.staticfiles.ModuleStaticFilesStorage"
    },
}

# --- Database ---------------------------------------------------------------------------------------------------------
DATABASE_URL = env.str("DATABASE_URL", default="")
if DATABASE_URL:
    DATABASES = {"default": env.db_url_config(DATABASE_URL)}
    # Asking the server before each use would cost a third of the IPN rate (2338 to 1361/s, 0.66 to 0.79 CPU s per
    # 1000). Without it, each pooled connection fails once after PostgreSQL was restarted: an IPN is answered 503 and
    # comes again, and a worker's row is due again after its backoff or, at worst, its lease.
    DATABASES["default"].update(CONN_MAX_AGE=0, CONN_HEALTH_CHECKS=False)
    DATABASES["default"].setdefault("OPTIONS", {}).update(
        # Shared by all threads of a process; anything that waits for others gives its connection back first.
        # While PostgreSQL is away, a request waits `timeout` for a connection before it is answered 503.
        pool={"min_size": 1, "max_size": 4, "timeout": 5},
        connect_timeout=3,
        options="-c statement_timeout=15s -c lock_timeout=5s -c idle_in_transaction_session_timeout=60s",
        # Every statement that repeats is parsed and planned once per connection.
        server_side_binding=True,
        prepare_threshold=3,
    )
else:
    VAR_DIR.mkdir(parents=True, exist_ok=True)
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
REDIS_URL = env.str("REDIS_URL", default="")
CLOCK_SCALE = env.float("CLOCK_SCALE", default=1.0)
CELERY_BROKER_TRANSPORT_OPTIONS: dict[str, object]
if REDIS_URL:
    CELERY_BROKER_URL = REDIS_URL
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        "max_retries": 0,
        "socket_connect_timeout": 0.3,
        "socket_timeout": 5,
        "visibility_timeout": 300,
    }
    CACHES = {
        "default": {
            "BACKEND": "bitloot.core.cache.ForgivingRedisCache",
            "LOCATION": REDIS_URL,
            "OPTIONS": {
                "socket_connect_timeout": 0.3,
                "socket_timeout": 0.5,
                "serializer": "bitloot.core.cache.JsonSerializer",
            },
        }
    }
else:
    # The embedded store has no broker. The worker finds its rows by sweeping, and beat runs its few tasks itself.
    CELERY_BROKER_URL = "memory://"
    CELERY_BROKER_TRANSPORT_OPTIONS = {}
    CELERY_TASK_ALWAYS_EAGER = True
    CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
CACHES["local"] = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "local"}
# Apart, so that somebody who asks for many pages cannot push anything else out.
CACHES["pages"] = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "pages"}
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_POOL = "threads"
# For the drains that messages start and for beat's tasks; rows are handled by the threads of bitloot.core.worker.
CELERY_WORKER_CONCURRENCY = 10
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_IGNORE_RESULT = True
# Every message is a wake-up, which may get lost: the broker need not remember which ones a worker has taken.
CELERY_TASK_QUEUES = [Queue("celery", Exchange("celery"), routing_key="celery", no_ack=True)]
CELERY_WORKER_ENABLE_REMOTE_CONTROL = False
CELERY_WORKER_SEND_TASK_EVENTS = False
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = 20
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULE_FILENAME = str(VAR_DIR / "beat-schedule")
CELERY_BEAT_MAX_LOOP_INTERVAL = 1
# How often each worker looks at every queue. Without a broker, this is also how it hears of the web's rows.
SWEEP_SECONDS = max((3.0 if REDIS_URL else 0.5) / CLOCK_SCALE, 0.2)
CELERY_BEAT_SCHEDULE = {
    "housekeeping": {"task": "orders.housekeeping", "schedule": max(60.0 / CLOCK_SCALE, 1), "options": {"expires": 60}},
    "coins": {"task": "payments.coins", "schedule": max(5.0 / CLOCK_SCALE, 1), "options": {"expires": 30}},
    "funds": {"task": "fulfillment.balance", "schedule": max(300.0 / CLOCK_SCALE, 1), "options": {"expires": 60}},
    "retention": {"task": "storage.retention", "schedule": max(600.0 / CLOCK_SCALE, 1), "options": {"expires": 600}},
}

# --- Mail -------------------------------------------------------------------------------------------------------------
EMAIL_URL = _required("EMAIL_URL")
vars().update(env.email_url_config(EMAIL_URL or "consolemail://"))
EMAIL_TIMEOUT = 15
DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL", default="BitLoot <shop@localhost>")
SERVER_EMAIL = DEFAULT_FROM_EMAIL
STAFF_EMAIL = env.str("STAFF_EMAIL", default="")

# --- Store ------------------------------------------------------------------------------------------------------------
STORE_CURRENCY = env.str("STORE_CURRENCY", default="EUR").upper()
if STORE_CURRENCY != "EUR":
    _wrong.append("STORE_CURRENCY has to be EUR: the supplier charges EUR and BitLoot has no rate source yet")
TRUSTED_PROXIES = env.int("TRUSTED_PROXIES", default=0)
THROTTLE_SCALE = env.float("THROTTLE_SCALE", default=1.0)
# Signs order tokens and our own links, so that SECRET_KEY may change without ending them.
ORDER_TOKEN_SECRET = _required("ORDER_TOKEN_SECRET", minimum=43)
ORDER_TOKEN_SECRET_FALLBACKS = env.list("ORDER_TOKEN_SECRET_FALLBACKS", default=[])

# --- REST -------------------------------------------------------------------------------------------------------------
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.AllowAny"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["bitloot.core.api.StrictJSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "bitloot.core.api.JsonOnlyNegotiation",
    "EXCEPTION_HANDLER": "bitloot.core.api.problem_handler",
    "DEFAULT_THROTTLE_CLASSES": ["bitloot.core.api.ScaledThrottle"],
    "DEFAULT_THROTTLE_RATES": {
        "read": "600/min",
        "orders": "60/min",
        "payments": "60/min",
        "lookup": "20/min",
        "reveal": "60/min",
        "staff": "600/min",
    },
    "NUM_PROXIES": TRUSTED_PROXIES,
    "UNAUTHENTICATED_USER": None,
    "UNAUTHENTICATED_TOKEN": None,
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
REST_KNOX = {"TOKEN_TTL": __import__("datetime").timedelta(hours=10), "AUTO_REFRESH": False}
SPECTACULAR_SETTINGS = {
    "TITLE": "BitLoot",
    "DESCRIPTION": "Order a game key, pay in crypto, open the key. Errors are application/problem+json (RFC 9457).",
    "VERSION": "1.0.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_NAME_OVERRIDES": {
        "FulfillmentStatusEnum": "bitloot.ops.schema.FULFILLMENT_STATUSES",
        "OrderStatusEnum": "orders.models.Order.Status",
        "PaymentStatusEnum": "payments.models.Payment.Status",
    },
    "PREPROCESSING_HOOKS": ["bitloot.ops.schema.only_api"],
    "POSTPROCESSING_HOOKS": ["drf_spectacular.hooks.postprocess_schema_enums", "bitloot.ops.schema.add_problem"],
}

# --- NOWPayments ------------------------------------------------------------------------------------------------------
NOWPAYMENTS_BASE_URL = _provider_url("NOWPAYMENTS_BASE_URL", _required("NOWPAYMENTS_BASE_URL"))
NOWPAYMENTS_API_KEY = _required("NOWPAYMENTS_API_KEY", minimum=16)
NOWPAYMENTS_IPN_SECRET = _secrets("NOWPAYMENTS_IPN_SECRET")
if NOWPAYMENTS_API_KEY and NOWPAYMENTS_API_KEY in NOWPAYMENTS_IPN_SECRET:
    _wrong.append("NOWPAYMENTS_IPN_SECRET is the API key; NOWPayments shows them as two different values")
PAYMENT_TOLERANCE = Decimal(env.str("PAYMENT_TOLERANCE", default="0.005"))
if not Decimal(0) <= PAYMENT_TOLERANCE <= Decimal("0.05"):
    _wrong.append("PAYMENT_TOLERANCE has to lie between 0 and 0.05")

# --- Kinguin ----------------------------------------------------------------------------------------------------------
KINGUIN_API = env.str("KINGUIN_API", default="ecommerce")
if KINGUIN_API not in ("ecommerce", "reservations", "orders"):
    _wrong.append("KINGUIN_API has to be ecommerce, reservations or orders")
KINGUIN_BASE_URL = _provider_url("KINGUIN_BASE_URL", _required("KINGUIN_BASE_URL"))
KINGUIN_API_KEY = _required("KINGUIN_API_KEY", minimum=16)
KINGUIN_CLIENT_ID = env.str("KINGUIN_CLIENT_ID", default="")
KINGUIN_CLIENT_SECRET = env.str("KINGUIN_CLIENT_SECRET", default="")
if KINGUIN_API == "reservations" and not (KINGUIN_CLIENT_ID and KINGUIN_CLIENT_SECRET):
    _wrong.append("KINGUIN_CLIENT_ID and KINGUIN_CLIENT_SECRET are needed for KINGUIN_API=reservations")
KINGUIN_WEBHOOK_SECRET = _secrets("KINGUIN_WEBHOOK_SECRET")
SAFE_MODE = env.bool("SAFE_MODE", default=False)

# --- R2 ---------------------------------------------------------------------------------------------------------------
R2_ENDPOINT = _provider_url("R2_ENDPOINT", env.str("R2_ENDPOINT", default=""))
R2_ACCESS_KEY_ID = env.str("R2_ACCESS_KEY_ID", default="")
R2_SECRET_ACCESS_KEY = env.str("R2_SECRET_ACCESS_KEY", default="")
R2_BUCKET = env.str("R2_BUCKET", default="")
if R2_BUCKET and not (R2_ENDPOINT and R2_ACCESS_KEY_ID and R2_SECRET_ACCESS_KEY):
    _wrong.append("R2_ENDPOINT, R2_ACCESS_KEY_ID and R2_SECRET_ACCESS_KEY are needed with R2_BUCKET")
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

# --- Keys -------------------------------------------------------------------------------------------------------------
KEY_ENCRYPTION_SECRET = _required("KEY_ENCRYPTION_SECRET", minimum=43)
KEY_ENCRYPTION_SECRET_FALLBACKS = env.list("KEY_ENCRYPTION_SECRET_FALLBACKS", default=[])
KEY_ENVIRONMENT = env.str("KEY_ENVIRONMENT", default="production")
SIGNED_URL_TTL_SECONDS = env.int("SIGNED_URL_TTL_SECONDS", default=900)
KEY_RETENTION_DAYS = env.int("KEY_RETENTION_DAYS", default=365)
KEY_OPENED_MAIL = env.bool("KEY_OPENED_MAIL", default=True)

# --- Operation --------------------------------------------------------------------------------------------------------
ALERT_URL = env.str("ALERT_URL", default="")
SENTRY_DSN = env.str("SENTRY_DSN", default="")
METRICS_TOKEN = env.str("METRICS_TOKEN", default="")
LOG_LEVEL = env.str("LOG_LEVEL", default="INFO")
if CLOCK_SCALE != 1.0 and not DEBUG:
    _wrong.append("CLOCK_SCALE is for chaos runs only; leave it out in production")
if os.environ.get("FAILPOINT") and not DEBUG:
    _wrong.append("FAILPOINT kills this process on purpose; leave it out in production")

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
    }
}
X_FRAME_OPTIONS = "DENY"
# Not no-referrer: with it browsers send forms with “Origin: null”, which the CSRF check refuses. The order page,
# whose address holds a secret, says no-referrer itself.
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
CSRF_FAILURE_VIEW = "bitloot.ops.errors.form_refused"
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
# Every staff account needs a one-time code to come in; without DEBUG there is no way around it.
STAFF_OTP_REQUIRED = not DEBUG
OTP_TOTP_ISSUER = "BitLoot staff"
SESSION_ENGINE = "bitloot.core.sessions"
SESSION_COOKIE_AGE = 30 * 60  # from the last page that was opened, see bitloot.staff.site
if not DEBUG and SITE_URL.startswith("https://"):
    SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True
    SESSION_COOKIE_NAME, CSRF_COOKIE_NAME = "__Host-sessionid", "__Host-csrftoken"
    SECURE_HSTS_SECONDS = 31_536_000
    SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = True
    SECURE_SSL_REDIRECT = True
    SECURE_REDIRECT_EXEMPT = [r"^(livez|readyz|metrics)$"]
if TRUSTED_PROXIES:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
DATA_UPLOAD_MAX_MEMORY_SIZE = 256 * 1024
DATA_UPLOAD_MAX_NUMBER_FIELDS = 400
FILE_UPLOAD_HANDLERS = ["django.core.files.uploadhandler.MemoryFileUploadHandler"]

# --- Logging ----------------------------------------------------------------------------------------------------------
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": LOG_LEVEL},
    "loggers": {
        "django.request": {"level": "ERROR"},
        "urllib3": {"level": "WARNING"},
        "botocore": {"level": "WARNING"},
        "boto3": {"level": "WARNING"},
        "kombu": {"level": "ERROR"},
    },
}

_builds_only = len(sys.argv) > 1 and sys.argv[1] in ("collectstatic", "makemigrations")
if _wrong and not _builds_only:
    raise ImproperlyConfigured(
        "BitLoot cannot start, its environment is incomplete. See .env.example.\n  - " + "\n  - ".join(_wrong)
    )
if SENTRY_DSN:
    import sentry_sdk

    sentry_sdk.init(
        dsn=SENTRY_DSN, send_default_pii=False, include_local_variables=False, max_request_body_size="never"
    )
