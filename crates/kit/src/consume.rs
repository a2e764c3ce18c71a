//! Consumes a Kafka topic with effects that happen once.
//!
//! The offset is a row, advanced by compare-and-set in the transaction of the effect, so that a zombie consumer changes
//! nothing and a crash repeats nothing. One replica consumes at a time, by lease; unknown partitions start from the
//! earliest message. What cannot be read goes to `<topic>.dead` with the reason and never blocks the partition.

use crate::{Error, Result, Tx, db, error::Kind, health::Health, kafka::KafkaConfig, lease::Lease, reconcile::backoff, relay};
use async_trait::async_trait;
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _, StreamConsumer},
    message::{BorrowedMessage, Header, Headers as _, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};
use sqlx::PgPool;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// A message as it came.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its key, if it is UTF-8.
    pub key: String,
    /// Its headers that are UTF-8, lower case.
    pub headers: BTreeMap<String, String>,
    /// Its body.
    pub body: Vec<u8>,
    /// Where it stood, as in `mlops.events/0/42`.
    pub position: String,
}

/// What is done with a topic's messages.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// The effect of a message, within the transaction that also advances the offset. `Invalid` (and any refusal that a
    /// repetition would not change) sends the message to the dead letters; `Unavailable`, `Conflict` and `Internal` are
    /// tried again.
    async fn handle(&self, tx: &mut Tx, message: &Message) -> Result<()>;
}

/// A consumer of one topic.
pub struct Consumer {
    pool: PgPool,
    kafka: KafkaConfig,
    topic: String,
    lease: Lease,
    handler: Arc<dyn Handler>,
    health: Health,
}

/// How long a message is tried before it counts as unreadable: its failure is not the brokers' or the database's.
const MAX_ATTEMPTS: u32 = 20;

impl Consumer {
    /// A consumer; `name` is the lease's.
    pub fn new(
        pool: PgPool,
        kafka: KafkaConfig,
        topic: &str,
        name: &'static str,
        handler: Arc<dyn Handler>,
        health: Health,
    ) -> Self {
        let lease = Lease::new(pool.clone(), name, Duration::from_secs(5));
        Self { pool, kafka, topic: topic.to_owned(), lease, handler, health }
    }

    /// Consumes until `shutdown`. Without brokers it ends at once.
    pub async fn run(self, shutdown: CancellationToken) {
        if self.kafka.brokers.is_empty() {
            return;
        }
        let mut failures = 0;
        while !shutdown.is_cancelled() {
            let outcome = tokio::select! {
                () = shutdown.cancelled() => break,
                outcome = self.session() => outcome,
            };
            match outcome {
                Ok(()) => failures = 0,
                Err(error) => {
                    failures += 1;
                    self.health.report("kafka-in", Some(error.to_string()));
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = tokio::time::sleep(backoff(failures.max(3))) => {}
            }
        }
        if let Err(error) = self.lease.release().await {
            tracing::debug!(error = %error, "the consumer's lease was not released; it runs out");
        }
    }

    /// One assignment: as long as we hold the lease and the brokers answer.
    async fn session(&self) -> Result<()> {
        if self.lease.acquire().await?.is_none() {
            return Ok(());
        }
        let (cluster, partitions) = self.discover().await?;
        let consumer: StreamConsumer = self.client()?.create().map_err(away)?;
        let dead = relay::producer(&self.kafka).map_err(Error::internal)?;
        let mut assignment = TopicPartitionList::new();
        for partition in partitions {
            let next = sqlx::query_scalar!(
                "select next_offset from consumer_offset where kafka_cluster = $1 and topic = $2 and partition = $3",
                cluster,
                self.topic,
                partition
            )
            .fetch_optional(&self.pool)
            .await?;
            let offset = next.map_or(Offset::Beginning, Offset::Offset);
            assignment.add_partition_offset(&self.topic, partition, offset).map_err(away)?;
        }
        consumer.assign(&assignment).map_err(away)?;
        self.health.report("kafka-in", None);
        loop {
            if self.lease.acquire().await?.is_none() {
                return Ok(());
            }
            // Renews the lease at least every second also while nothing comes.
            match tokio::time::timeout(Duration::from_secs(1), consumer.recv()).await {
                Err(_) => {}
                Ok(Err(error)) => return Err(away(error)),
                Ok(Ok(message)) => self.take(&cluster, &dead, &message).await?,
            }
        }
    }

    fn client(&self) -> Result<ClientConfig> {
        let mut config = self.kafka.client().map_err(away)?;
        config
            // Never used for offsets: those are rows. librdkafka wants a name.
            .set("group.id", format!("muster-{}", self.topic))
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            .set("fetch.wait.max.ms", "50")
            .set("queued.max.messages.kbytes", "16384");
        Ok(config)
    }

    async fn discover(&self) -> Result<(String, Vec<i32>)> {
        let probe: BaseConsumer = self.client()?.create().map_err(away)?;
        let topic = self.topic.clone();
        let found = tokio::task::spawn_blocking(move || {
            let cluster = probe.client().fetch_cluster_id(Duration::from_secs(3)).unwrap_or_default();
            let metadata = probe.fetch_metadata(Some(&topic), Duration::from_secs(3))?;
            let partitions = metadata.topics().first().map(|topic| topic.partitions().iter().map(|p| p.id()).collect());
            Ok::<_, rdkafka::error::KafkaError>((cluster, partitions.unwrap_or_else(Vec::new)))
        })
        .await
        .map_err(Error::internal)?
        .map_err(away)?;
        if found.1.is_empty() {
            return Err(Error::unavailable("KAFKA_AWAY", format!("the topic {} does not exist yet", self.topic)));
        }
        Ok(found)
    }

    /// Handles one message, however often it takes.
    async fn take(&self, cluster: &str, dead: &FutureProducer, message: &BorrowedMessage<'_>) -> Result<()> {
        let read = read(message);
        let mut attempt = 1;
        loop {
            let error = match self.apply(cluster, message, Some(&read)).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let again = matches!(error.kind(), Kind::Unavailable | Kind::Conflict)
                || (error.kind() == Kind::Internal && attempt < MAX_ATTEMPTS);
            if !again {
                tracing::warn!(position = read.position, error = %error, "a message goes to the dead letters");
                bury(dead, &self.topic, &read, &error.to_string()).await?;
                return self.apply(cluster, message, None).await;
            }
            if self.lease.acquire().await?.is_none() {
                return Ok(());
            }
            tokio::time::sleep(backoff(attempt)).await;
            attempt += 1;
        }
    }

    /// The effect (none: the message is passed over) and the offset, together.
    async fn apply(&self, cluster: &str, message: &BorrowedMessage<'_>, read: Option<&Message>) -> Result<()> {
        let mut tx = db::begin(&self.pool).await?;
        let moved = sqlx::query!(
            r#"
            insert into consumer_offset as known (kafka_cluster, topic, partition, next_offset)
            values ($1, $2, $3, $4)
            on conflict (kafka_cluster, topic, partition) do update
            set next_offset = excluded.next_offset
            where known.next_offset < excluded.next_offset
            "#,
            cluster,
            self.topic,
            message.partition(),
            message.offset() + 1
        )
        .execute(&mut *tx)
        .await?;
        // Somebody was here before: a zombie's message, or one of before a restart.
        if moved.rows_affected() == 0 {
            return Ok(());
        }
        if let Some(read) = read {
            self.handler.handle(&mut tx, read).await?;
        }
        tx.commit().await?;
        Ok(())
    }
}

fn away(error: impl std::fmt::Display) -> Error {
    Error::unavailable("KAFKA_AWAY", format!("the brokers are away: {error}"))
}

fn read(message: &BorrowedMessage<'_>) -> Message {
    let mut headers = BTreeMap::new();
    if let Some(borrowed) = message.headers() {
        for header in borrowed.iter() {
            if let Some(value) = header.value.and_then(|value| std::str::from_utf8(value).ok()) {
                headers.insert(header.key.to_ascii_lowercase(), value.to_owned());
            }
        }
    }
    Message {
        key: message.key().and_then(|key| std::str::from_utf8(key).ok()).unwrap_or_default().to_owned(),
        headers,
        body: message.payload().unwrap_or_default().to_vec(),
        position: format!("{}/{}/{}", message.topic(), message.partition(), message.offset()),
    }
}

/// Publishes to the dead letters, with where it stood and why.
async fn bury(dead: &FutureProducer, topic: &str, message: &Message, reason: &str) -> Result<()> {
    let mut headers = OwnedHeaders::new();
    for (key, value) in &message.headers {
        headers = headers.insert(Header { key, value: Some(value) });
    }
    headers = headers
        .insert(Header { key: "muster-dead-reason", value: Some(reason) })
        .insert(Header { key: "muster-dead-position", value: Some(&message.position) });
    let topic = format!("{topic}.dead");
    let record = FutureRecord::to(&topic).key(&message.key).payload(&message.body).headers(headers);
    dead.send(record, Duration::from_secs(10)).await.map(|_| ()).map_err(|(error, _)| away(error))
}
