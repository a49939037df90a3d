#!/bin/sh
# Fetch Cloudflare's addresses and write them to cloudflare.conf, or leave it as it is if the lists look wrong.
set -eu
source=${CLOUDFLARE_LISTS:-https://www.cloudflare.com}
target=$(dirname "$0")/cloudflare.conf
new=$(mktemp)
trap 'rm -f "$new"' EXIT

{
    sed -n '/^#/p; /^real_ip_header/p' "$target"
    for list in ips-v4 ips-v6; do
        curl --fail --silent --show-error --location "$source/$list"
        echo  # the lists do not end with a newline
    done | sed -n 's|^\([0-9a-f.:]\{1,\}/[0-9]\{1,3\}\)$|set_real_ip_from \1;|p'
} >"$new"
found=$(grep -c '^set_real_ip_from' "$new" || true)
[ "$found" -ge 10 ] || { echo "only $found addresses came from $source: nothing was changed" >&2; exit 1; }
cat "$new" >"$target"
echo "$found addresses are in $target; reload nginx to use them"
