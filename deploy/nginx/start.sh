#!/bin/sh
# Start nginx in its container. The few lines that only the environment knows go into a file that nginx.conf includes.
#   ALLOWED_HOSTS   the names of the shop, as in .env; others get no answer
#   WEB             the application, host:port
#   RESOLVER        the name server that knows WEB; Docker's own unless set
#   BEHIND          "cloudflare" if that is in front; the client is then whom Cloudflare names
set -eu
: "${ALLOWED_HOSTS:?set ALLOWED_HOSTS}"

folder=$(dirname "$0")
site=${SITE_CONF:-/tmp/site.conf}
{
    echo "server_name $(echo "$ALLOWED_HOSTS" | tr ',' ' ');"
    # Short, so that a re-created web is found within seconds.
    echo "resolver ${RESOLVER:-127.0.0.11} valid=5s ipv6=off;"
    echo "resolver_timeout 3s;"
    echo "set \$bitloot http://${WEB:-web:8000};"
    echo "set \$bitloot_pages $folder/pages;"
    case "${BEHIND:-}" in
        "") ;;
        cloudflare) echo "include $folder/cloudflare.conf;" ;;
        *) echo "BEHIND has to be empty or cloudflare, not ${BEHIND}" >&2; exit 1 ;;
    esac
} >"$site"

conf=${NGINX_CONF:-/etc/nginx/nginx.conf}
# A renewed certificate is read on reload; a reload drops no request.
(while sleep "${RELOAD_SECONDS:-21600}"; do nginx -c "$conf" -s reload || true; done) &
exec nginx -e stderr -c "$conf" -g "daemon off;"
