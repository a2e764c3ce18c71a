//! Publishes the event log to Kafka, one replica at a time: CloudEvents 1.0 in binary mode, keyed by the aggregate.
//!
//! At least once: the cursor moves after the brokers have everything of a batch. Consumers drop what is not newer by
//! version, so a repetition changes nothing.

use crate::{
    Error, Result,
    event::{self, Cursor, Event},
    health::Health,
    kafka::KafkaConfig,
    lease::Lease,
    metrics,
    reconcile::Reconciler,
};
use async_trait::async_trait;
use rdkafka::{
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};
use sqlx::PgPool;
use std::time::Duration;

/// Rows a pass publishes at most before it moves the cursor.
const BATCH: i64 = 500;
/// How long rows stay after they are published, for watches to resume from.
const WATCH_WINDOW: Duration = Duration::from_secs(60 * 60);
/// The oldest rows of which a pass drops those that are old enough: more than come between two passes.
const TRIMMED: i64 = 2_000;

/// The relay of one service.
pub struct Relay {
    pool: PgPool,
    lease: Lease,
    source: String,
    producer: Option<FutureProducer>,
    health: Health,
}

impl Relay {
    /// A relay to the brokers; with none, rows count as published at once.
    pub fn new(pool: PgPool, service: &'static str, kafka: &KafkaConfig, health: Health) -> anyhow::Result<Self> {
        let producer = if kafka.brokers.is_empty() { None } else { Some(producer(kafka)?) };
        let lease = Lease::new(pool.clone(), "relay", Duration::from_secs(5));
        Ok(Self { pool, lease, source: format!("/muster/{service}"), producer, health })
    }

    async fn publish(&self, producer: &FutureProducer, events: &[Event]) -> Result<()> {
        // Enqueued in order; with idempotence the brokers keep that order per key.
        let mut deliveries = Vec::with_capacity(events.len());
        for event in events {
            let body = serde_json::to_vec(&event.state).map_err(Error::internal)?;
            let headers = headers(&self.source, event);
            let record = FutureRecord::to(&event.topic).key(&event.aggregate).payload(&body).headers(headers);
            let delivery = producer.send_result(record).map_err(|(error, _)| away(&error.to_string()))?;
            deliveries.push(delivery);
        }
        for delivery in deliveries {
            match delivery.await {
                Ok(Ok(_)) => {}
                Ok(Err((error, _))) => return Err(away(&error.to_string())),
                Err(_) => return Err(away("the producer closed")),
            }
        }
        Ok(())
    }
}

fn away(cause: &str) -> Error {
    Error::unavailable("KAFKA_AWAY", format!("the brokers do not take events: {cause}"))
}

/// An idempotent producer.
pub fn producer(kafka: &KafkaConfig) -> anyhow::Result<FutureProducer> {
    let mut config = kafka.client()?;
    config
        .set("enable.idempotence", "true")
        .set("linger.ms", "2")
        .set("message.timeout.ms", "10000")
        .set("queue.buffering.max.messages", "10000");
    Ok(config.create()?)
}

fn headers(source: &str, event: &Event) -> OwnedHeaders {
    let id = format!("{}-{}", event.cursor.incarnation, event.cursor.id);
    let kind = format!("dev.muster.{}.v1", event.kind);
    let version = format!("{}.{}", event.cursor.incarnation, event.version);
    let time = event.occurred_at.to_string();
    let fields: [(&str, &str); 9] = [
        ("ce_specversion", "1.0"),
        ("ce_id", &id),
        ("ce_source", source),
        ("ce_type", &kind),
        ("ce_subject", &event.aggregate),
        ("ce_time", &time),
        ("ce_musterversion", &version),
        ("ce_traceparent", &event.traceparent),
        ("content-type", "application/json"),
    ];
    let mut headers = OwnedHeaders::new_with_capacity(fields.len() + 1);
    for (key, value) in fields {
        if !value.is_empty() {
            headers = headers.insert(Header { key, value: Some(value) });
        }
    }
    if event.deleted {
        headers = headers.insert(Header { key: "ce_musterdeleted", value: Some("true") });
    }
    headers
}

#[async_trait]
impl Reconciler for Relay {
    fn name(&self) -> &'static str {
        "relay"
    }

    async fn tick(&self) -> Result<()> {
        if self.lease.acquire().await?.is_none() {
            return Ok(());
        }
        loop {
            let row = sqlx::query!(
                r#"
                select i.incarnation, r.xid::text::bigint as "xid!", r.event_id
                from incarnation i, relay_cursor r
                "#
            )
            .fetch_optional(&self.pool)
            .await?;
            let Some(row) = row else { return Ok(()) };
            let after = Cursor { incarnation: row.incarnation.cast_unsigned(), xid: row.xid, id: row.event_id };
            let events = event::read(&self.pool, after, BATCH).await?;
            let Some(last) = events.last() else { break };
            if let Some(producer) = &self.producer {
                let published = self.publish(producer, &events).await;
                self.health.report("kafka", published.as_ref().err().map(ToString::to_string));
                published?;
            }
            sqlx::query!(
                "update relay_cursor set xid = $1::text::xid8, event_id = $2 where (xid, event_id) < ($1::text::xid8, $2)",
                last.cursor.xid.to_string(),
                last.cursor.id
            )
            .execute(&self.pool)
            .await?;
            // A long backlog must not outlive the lease that lets us publish it.
            if self.lease.acquire().await?.is_none() {
                return Ok(());
            }
        }
        event::trim(&self.pool, WATCH_WINDOW, TRIMMED).await?;
        self.measure().await
    }
}

impl Relay {
    async fn measure(&self) -> Result<()> {
        let row = sqlx::query!(
            r#"
            select
                (select count(*) from event e, relay_cursor r where (e.xid, e.event_id) > (r.xid, r.event_id)) as "unpublished!",
                (pg_snapshot_xmax(pg_current_snapshot())::text::bigint
                    - pg_snapshot_xmin(pg_current_snapshot())::text::bigint) as "horizon!"
            "#
        )
        .fetch_one(&self.pool)
        .await?;
        metrics::EVENT_LOG.with_label_values(&["unpublished"]).set(row.unpublished);
        metrics::EVENT_LOG.with_label_values(&["horizon_lag"]).set(row.horizon);
        Ok(())
    }
}
