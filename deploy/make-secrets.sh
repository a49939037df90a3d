#!/bin/sh
# Write secrets/: what can be made is made, what an account gives you is an empty file to fill in. A file that is there
# already is never touched, so this can be run again. Nobody but root may enter the folder; the files are readable
# because a container's user, which is another one, reads them through its mount.
set -eu
cd "${1:-$(dirname "$0")/..}"
umask 077
mkdir -p secrets
cd secrets

write() { # NAME VALUE
    [ -e "$1" ] || printf '%s' "$2" >"$1"  # no newline at the end: it would be part of the secret
    chmod 0444 "$1"
}
random() { # BYTES, in letters and digits only, as an address can hold them unescaped
    od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'
}

write secret_key "$(random 40)"
write key_encryption_secret "$(random 32)"
write order_token_secret "$(random 32)"
write backup_secret "$(random 32)"
write email_webhook_secret "$(random 24)"
write postgres_password "$(random 24)"
write redis_password "$(random 24)"
write migrate_database_url "postgres://bitloot:$(cat postgres_password)@postgres:5432/bitloot"
write database_url "postgres://bitloot_app:$(random 24)@postgres:5432/bitloot"
write redis_url "redis://:$(cat redis_password)@redis:6379/0"
for name in email_url nowpayments_api_key nowpayments_ipn_secret kinguin_api_key kinguin_webhook_secret r2_secret_access_key; do
    write "$name" ""
    [ -s "$name" ] || echo "fill in secrets/$name"
done
echo "Keep a copy of secrets/key_encryption_secret and secrets/backup_secret away from this server:"
echo "without the first no key can be opened again, without the second no backup."
