# Exact versions, so that two builds differ only by what changed here. Stronger still is the digest, which `make digests`
# prints where a registry can be reached: append it to the tag, python:3.11.13-slim-bookworm@sha256:…
FROM python:3.11.13-slim-bookworm AS base

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 BITLOOT_VAR=/var/lib/bitloot
RUN useradd --system --uid 10001 --home-dir /nonexistent --shell /usr/sbin/nologin bitloot \
    && install -d -o bitloot -g bitloot /var/lib/bitloot /var/lib/bitloot/objects /var/lib/bitloot/backups
# pg_dump and pg_restore for backups; of Debian's version 15, as the database of docker-compose.yml.
RUN apt-get update && apt-get install -y --no-install-recommends postgresql-client && rm -rf /var/lib/apt/lists/*
WORKDIR /app

COPY requirements.txt .
RUN pip install --disable-pip-version-check --require-hashes -r requirements.txt

COPY manage.py LICENSE ./
COPY bitloot bitloot
COPY orders orders
COPY payments payments
COPY fulfillment fulfillment
COPY storage storage
COPY webhooks webhooks
COPY templates templates
COPY locale locale
# The admin shows it.
COPY docs/runbook.md docs/runbook.md

# Static files need no secrets, so they are part of the image.
USER bitloot
RUN BITLOOT_BUILDING=1 python manage.py collectstatic --no-input --verbosity 0

# A throw-away shop with stand-ins for the providers: compose's profile "sandbox". Never part of the shop's own image.
FROM base AS sandbox
USER root
COPY requirements-dev.txt .
RUN pip install --disable-pip-version-check --require-hashes -r requirements-dev.txt
COPY .env.example ./
COPY tools tools
COPY sandbox sandbox
USER bitloot
CMD ["python", "-m", "tools.dev.demo", "--var", "/tmp/demo"]

# Last, and so what `docker build .` makes.
FROM base AS shop
LABEL org.opencontainers.image.title=BitLoot
EXPOSE 8000
CMD ["granian", "--interface", "wsgi", "--host", "0.0.0.0", "--port", "8000", "--workers", "2", \
    "--blocking-threads", "8", "--no-ws", "--workers-kill-timeout", "20", "--respawn-failed-workers", "bitloot.wsgi:application"]
