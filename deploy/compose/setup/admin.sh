# Mints the first administrator's token, once.
set -eu
token=/var/lib/muster-admin/token
[ -s "$token" ] || muster-fleet-registry bootstrap-admin --config /etc/muster/config.toml --token-file "$token"
