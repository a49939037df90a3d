FROM python:3.11-slim

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 BITLOOT_VAR=/var/lib/bitloot
RUN useradd --system --uid 10001 --home-dir /nonexistent --shell /usr/sbin/nologin bitloot \
    && install -d -o bitloot -g bitloot /var/lib/bitloot /var/lib/bitloot/objects
WORKDIR /app

COPY requirements.txt .
RUN pip install --disable-pip-version-check -r requirements.txt

COPY manage.py LICENSE ./
COPY bitloot bitloot
COPY orders orders
COPY payments payments
COPY fulfillment fulfillment
COPY storage storage
COPY webhooks webhooks
COPY templates templates

# Static files need no secrets, so they are part of the image.
USER bitloot
RUN BITLOOT_BUILDING=1 python manage.py collectstatic --no-input --verbosity 0

EXPOSE 8000
# Under a name of ALLOWED_HOSTS, or the answer is 400.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s CMD ["python", "-c", \
    "import os, urllib.request as u; h = {'Host': os.environ['ALLOWED_HOSTS'].split(',')[0].strip()}; \
    u.urlopen(u.Request('http://127.0.0.1:8000/livez', headers=h), timeout=4)"]
CMD ["granian", "--interface", "wsgi", "--host", "0.0.0.0", "--port", "8000", "--workers", "2", \
    "--blocking-threads", "8", "--no-ws", "--workers-kill-timeout", "20", "--respawn-failed-workers", "bitloot.wsgi:application"]
