#!/bin/sh
# Print nginx.conf with the places that Debian and Ubuntu give nginx outside of a container.
set -eu
echo "user www-data;"
sed -e 's|^pid /tmp/|pid /run/|' -e 's|/tmp/nginx-|/var/lib/nginx/|' -e 's|/tmp/site.conf|/etc/nginx/bitloot-site.conf|' \
    -e 's|/dev/stdout|/var/log/nginx/access.log|' -e 's|/dev/stderr|/var/log/nginx/error.log|' \
    "$(dirname "$0")/../nginx.conf"
