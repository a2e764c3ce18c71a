# Makes the internal authority, once, and a certificate for each service, each time.
set -eu
muster-fleet-registry bootstrap-pki --dir /var/lib/muster-pki
for service in fleet-registry scheduler rollout policy; do
    # Not quoted: each word is a host.
    muster-fleet-registry issue-service-certificate "$service" --dir /var/lib/muster-pki $HOSTS
done
