#!/bin/sh
# Bring the shop to the version that is checked out, without a gap: the new web starts beside the old one and takes over
# when it is healthy. So both run on the migrated database for a while; CHANGELOG marks a version that cannot.
set -eu
cd "$(dirname "$0")/.."

# From now on nginx passes requests to this address; those under way end where they are.
pass_to() { # HOST:PORT
    docker compose exec -T nginx sed -i "s|^set \$bitloot .*|set \$bitloot http://$1;|" /tmp/site.conf
    docker compose exec -T nginx nginx -c /etc/bitloot/nginx.conf -s reload
}

docker compose build --pull
docker compose run --rm migrate
old=$(docker compose ps --quiet web)
webs=$(($(echo "$old" | wc -w) + 1))  # one more than now: an update that broke off may have left two
docker compose up --detach --wait --no-deps --no-recreate --scale web=$webs web
for new in $(docker compose ps --quiet web); do
    case "$old" in *"$new"*) ;; *) break ;; esac
done
# By its name, not as `web`: nginx knows an address for five seconds, and one that has just gone answers nobody.
pass_to "$(docker inspect --format '{{slice .Name 1}}' "$new"):8000"
for id in $old; do
    docker stop -t 30 "$id"  # that long for the requests it has begun
    docker rm "$id"
done
docker compose up --detach --remove-orphans
pass_to web:8000
docker image prune --force --filter label=org.opencontainers.image.title=BitLoot  # the version before, now without a name
