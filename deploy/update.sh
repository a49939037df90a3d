#!/bin/sh
# Bring the shop to the version that is checked out, without a gap: the new web starts beside the old one and takes over
# when it is healthy. So both run on the migrated database for a while; CHANGELOG marks a version that cannot.
set -eu
cd "$(dirname "$0")/.."

docker compose build --pull
docker compose run --rm migrate
old=$(docker compose ps --quiet web)
docker compose up --detach --wait --no-deps --no-recreate --scale web=2 web
# It refuses new requests, which the proxy then passes to the other web, and has 30 seconds for those it has begun.
docker stop --time 30 $old
docker rm $old
docker compose up --detach --remove-orphans
docker compose exec nginx nginx -c /etc/bitloot/nginx.conf -s reload
