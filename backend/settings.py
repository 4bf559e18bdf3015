"""Settings of the stand-alone service, from the environment. docs/reference/settings.md lists every variable."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from backend.database_url import parse_database_url
from backend.mode import Mode, mode_of
from backend.program import program_name

BASE_DIR = Path(__file__).resolve().parent.parent


def _flag(name: str, default: str = "0") -> bool:
    value = os.environ.get(name, default).strip().lower()
    if value not in {"0", "1", "true", "false", "yes", "no"}:
        raise ImproperlyConfigured(f"{name}: expected 0 or 1, got: {value!r}")
    return value in {"1", "true", "yes"}


def _number(name: str, default: str = "0") -> int:
    value = os.environ.get(name, default).strip()
    if not (value.isascii() and value.isdigit()):
        raise ImproperlyConfigured(f"{name}: expected a whole number, 0 or more, got: {value!r}")
    return int(value)


def _list(name: str, default: str = "") -> list[str]:
    return [part.strip() for part in os.environ.get(name, default).split(",") if part.strip()]


def _database(name: str, default: str = "", **options: Any) -> dict[str, Any]:
    try:
        entry = parse_database_url(os.environ.get(name) or default, **options)
    except ValueError as error:
        raise ImproperlyConfigured(f"{name}: {error}") from None
    if entry["ENGINE"] == "django.db.backends.postgresql":
        # libpq's: counts where neither the URL nor PGAPPNAME says otherwise.
        entry.setdefault("OPTIONS", {}).setdefault("fallback_application_name", program_name(sys.argv))
    return entry


DEBUG = _flag("DOWNBEAT_DEBUG")
SECRET_KEY = os.environ.get("DOWNBEAT_SECRET_KEY") or "django-insecure-only-for-make-run-and-the-tests"
LOOPBACK_HOSTS = "localhost,127.0.0.1,[::1]"
ALLOWED_HOSTS = _list("DOWNBEAT_ALLOWED_HOSTS", LOOPBACK_HOSTS)
if not os.environ.get("DOWNBEAT_SECRET_KEY") and not DEBUG and set(ALLOWED_HOSTS) - set(LOOPBACK_HOSTS.split(",")):
    # The key above is public: whoever knows it can forge a session.
    raise ImproperlyConfigured(
        "DOWNBEAT_SECRET_KEY: expected a long random value where DOWNBEAT_ALLOWED_HOSTS names other hosts than this "
        f"machine ({', '.join(ALLOWED_HOSTS)}), got: nothing"
    )
CSRF_TRUSTED_ORIGINS = _list("DOWNBEAT_CSRF_TRUSTED_ORIGINS")
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if _flag("DOWNBEAT_BEHIND_TLS_PROXY") else None
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _flag("DOWNBEAT_BEHIND_TLS_PROXY")
SECURE_SSL_REDIRECT = _flag("DOWNBEAT_BEHIND_TLS_PROXY")
SECURE_REDIRECT_EXEMPT = [r"^(healthz|readyz|metrics)$"]
SECURE_HSTS_SECONDS = _number("DOWNBEAT_HSTS_SECONDS")
# Whether subdomains and the browsers' preload list are included is for the domain's owner to say, at the proxy.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
SECURE_CONTENT_TYPE_NOSNIFF = True
X_FRAME_OPTIONS = "DENY"

INSTALLED_APPS = [
    "backend",
    "backend.pipelines",
    "scheduler",
    "pg_queue",
    "pg_queue.results",
    "django_celery_beat",
    "rest_framework",
    "rest_framework.authtoken",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "backend.console.ConsoleConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "backend.security.ContentSecurityPolicy",
    "backend.security.NoNul",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "backend.actor.NameActor",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "backend.urls"
WSGI_APPLICATION = "backend.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [],
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

try:
    MODE = mode_of(os.environ)
except ValueError as error:
    raise ImproperlyConfigured(str(error)) from None
DEFAULT_DATABASE_URL = {
    Mode.SERVER: "postgres://postgres@127.0.0.1:5432/downbeat",
    Mode.DESKTOP: f"sqlite:///{Path(os.environ.get('DATA_DIR') or '.downbeat').absolute() / 'desktop.sqlite3'}",
}[MODE]
DATABASES = {"default": _database("DATABASE_URL", DEFAULT_DATABASE_URL, conn_max_age=600, conn_health_checks=True)}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    SILENCED_SYSTEM_CHECKS.append("models.W038")  # it defers no unique constraint: docs/howto/sqlite.md
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "admin:login"

LANGUAGE_CODE = "en-gb"
TIME_ZONE = "UTC"
USE_TZ = True

STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
WHITENOISE_USE_FINDERS = True
if not STATIC_ROOT.is_dir():  # not collected: the finders serve the apps' own files, and WhiteNoise need not warn
    warnings.filterwarnings("ignore", message="No directory at", category=UserWarning)

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        # The first one's challenge makes an anonymous request 401, not 403.
        "rest_framework.authentication.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["backend.api.permissions.ActionPermissions"],
    "DEFAULT_FILTER_BACKENDS": ["backend.api.filters.StrictFilterBackend"],
    "DEFAULT_PARSER_CLASSES": [
        "backend.api.parsers.JSONParser",
        "rest_framework.parsers.FormParser",
        "rest_framework.parsers.MultiPartParser",
    ],
    "DEFAULT_PAGINATION_CLASS": "backend.api.pagination.KeysetPagination",
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "EXCEPTION_HANDLER": "backend.api.refusals.handle",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    # How many entries of X-Forwarded-For, from the right, are our own proxies' words; any other is the caller's
    # invention. Without this setting the header as a whole would be who an anonymous caller is.
    "NUM_PROXIES": _number("DOWNBEAT_TRUSTED_PROXIES"),
    "DEFAULT_THROTTLE_CLASSES": [
        "rest_framework.throttling.AnonRateThrottle",
        "rest_framework.throttling.UserRateThrottle",
    ],
    "DEFAULT_THROTTLE_RATES": {
        "anon": os.environ.get("DOWNBEAT_THROTTLE_ANON", "60/min"),
        "user": os.environ.get("DOWNBEAT_THROTTLE_USER", "6000/min"),
    },
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Downbeat",
    "DESCRIPTION": "Periodic schedules in PostgreSQL, fired exactly once per occurrence.",
    "VERSION": "1",
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "ENUM_NAME_OVERRIDES": {
        "FirerEnum": ["beat", "pg"],
        "HandoverStateEnum": ["waiting", "done", "cancelled"],
    },
}

PIPELINES_INPUT_DIR = os.environ.get("DOWNBEAT_INPUT_DIR", str(BASE_DIR / "backend" / "pipelines" / "data"))
PIPELINES_EXECUTION_RETENTION_DAYS = 90

CELERY_BROKER_URL = os.environ.get("DOWNBEAT_CELERY_BROKER_URL") or "memory://"
if broker_folder := os.environ.get("DOWNBEAT_CELERY_BROKER_FOLDER"):
    CELERY_BROKER_URL = "filesystem://localhost/"
    CELERY_BROKER_TRANSPORT = "backend.broker:Transport"
    CELERY_BROKER_TRANSPORT_OPTIONS = dict.fromkeys(
        ("data_folder_in", "data_folder_out", "control_folder"), broker_folder
    )
CELERY_TASK_DEFAULT_QUEUE = "celery"
CELERY_TIMEZONE = TIME_ZONE
CELERY_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"

PG_QUEUE: dict[str, object] = {}
if MODE is Mode.DESKTOP:  # what a killed process was running is run again this long after the next start
    PG_QUEUE |= {"LEASE_SECONDS": 10, "RENEW_SECONDS": 3, "DRAIN_SECONDS": 10}
SCHEDULER: dict[str, object] = {}
if os.environ.get("DOWNBEAT_DIRECT_DATABASE_URL"):
    DATABASES["direct"] = _database("DOWNBEAT_DIRECT_DATABASE_URL")
    DATABASES["direct"]["TEST"] = {"MIRROR": "default"}
    PG_QUEUE["DIRECT_DATABASE"] = "direct"
if os.environ.get("DOWNBEAT_DEFAULT_FIRER"):
    SCHEDULER["DEFAULT_FIRER"] = os.environ["DOWNBEAT_DEFAULT_FIRER"]

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": os.environ.get("DOWNBEAT_LOG_LEVEL", "INFO")},
}
