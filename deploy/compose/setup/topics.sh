# Makes the topics; services never do. One that is there stays as it is.
set -eu
for topic in muster.clusters muster.jobs muster.releases muster.policies mlops.events \
    muster.clusters.dead muster.jobs.dead muster.releases.dead muster.policies.dead mlops.events.dead; do
    /opt/kafka/bin/kafka-topics.sh --bootstrap-server kafka:9092 --create --if-not-exists --topic "$topic" --partitions 3
done
