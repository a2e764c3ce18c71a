//! The event log: what happened, once, in the transaction in which it did. It feeds Kafka and `Watch`.
//!
//! A reader's cursor is `(incarnation, xid, id)`, read in that order and only below the snapshot's horizon. A bare id
//! cursor would skip, for ever, the rows of a transaction that committed late.

use crate::{Error, Result, Tx, telemetry};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use sqlx::{PgPool, types::Json};
use tokio::sync::Notify;

/// Something that happened to a resource.
#[derive(Debug)]
pub struct NewEvent<'a, S> {
    /// The Kafka topic, as in `muster.jobs`.
    pub topic: &'static str,
    /// What happened, as in `job.placed`.
    pub kind: &'static str,
    /// The resource's name.
    pub aggregate: &'a str,
    /// The resource's new version.
    pub version: i64,
    /// Whether it is gone.
    pub deleted: bool,
    /// Its whole small state: the proto message of the resource.
    pub state: &'a S,
}

/// An event ready to be written.
#[derive(Debug, Serialize)]
pub struct Prepared {
    topic: &'static str,
    r#type: &'static str,
    aggregate: String,
    version: i64,
    deleted: bool,
    state: Value,
    traceparent: String,
}

impl<S: Serialize> NewEvent<'_, S> {
    /// The event with what caused it, as a `traceparent`; empty if nothing is known of that.
    ///
    /// # Errors
    /// A state that is no JSON.
    pub fn caused_by(&self, traceparent: String) -> Result<Prepared> {
        Ok(Prepared {
            topic: self.topic,
            r#type: self.kind,
            aggregate: self.aggregate.to_owned(),
            version: self.version,
            deleted: self.deleted,
            state: serde_json::to_value(self.state).map_err(Error::internal)?,
            traceparent,
        })
    }
}

/// Appends to the log; the last thing a transaction does. The present span is its cause.
pub async fn append<S: Serialize>(tx: &mut Tx, event: NewEvent<'_, S>) -> Result<()> {
    append_all(tx, &[event.caused_by(telemetry::current_traceparent())?]).await
}

/// Told whenever this process appends to a log: that soon grows.
static APPENDED: Notify = Notify::const_new();

/// Waits until this process appends to a log. Its transaction has still to commit then.
pub async fn appended() {
    APPENDED.notified().await;
}

/// Appends several events in this order, in one statement; the last thing a transaction does.
pub async fn append_all(tx: &mut Tx, events: &[Prepared]) -> Result<()> {
    if events.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        r#"
        insert into event (topic, type, aggregate, version, deleted, state, traceparent)
        select topic, type, aggregate, version, deleted, state, traceparent
        from rows from (
            jsonb_to_recordset($1) as (
                topic text, type text, aggregate text, version bigint, deleted boolean, state jsonb, traceparent text
            )
        ) with ordinality as e (topic, type, aggregate, version, deleted, state, traceparent, place)
        order by place
        "#,
        Json(events) as _
    )
    .execute(&mut **tx)
    .await?;
    APPENDED.notify_waiters();
    Ok(())
}

/// Where a reader is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// The life of the database.
    pub incarnation: u64,
    /// The transaction.
    pub xid: i64,
    /// The row within it.
    pub id: i64,
}

impl Cursor {
    /// The cursor as a resume token.
    pub fn token(self) -> String {
        URL_SAFE_NO_PAD.encode(format!("{}:{}:{}", self.incarnation, self.xid, self.id))
    }

    /// Reads a resume token.
    pub fn parse(token: &str) -> Result<Self> {
        let malformed = || Error::invalid("resume_token", "not a token of this watch");
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| malformed())?;
        let text = String::from_utf8(bytes).map_err(|_| malformed())?;
        let mut parts = text.split(':');
        let mut next = || parts.next().and_then(|part| part.parse::<i64>().ok()).ok_or_else(malformed);
        Ok(Self { incarnation: next()?.cast_unsigned(), xid: next()?, id: next()? })
    }
}

/// A row of the log.
#[derive(Debug, Clone)]
pub struct Event {
    /// Where it stands.
    pub cursor: Cursor,
    /// The Kafka topic.
    pub topic: String,
    /// What happened.
    pub kind: String,
    /// The resource's name.
    pub aggregate: String,
    /// The resource's version.
    pub version: i64,
    /// Whether it is gone.
    pub deleted: bool,
    /// The resource, as proto3 JSON.
    pub state: Value,
    /// What caused it.
    pub traceparent: String,
    /// When.
    pub occurred_at: Timestamp,
}

/// Rows after a cursor, in order, never one that an earlier transaction may still come before.
pub async fn read(pool: &PgPool, after: Cursor, limit: i64) -> Result<Vec<Event>> {
    let rows = sqlx::query!(
        r#"
        select
            event_id, xid::text::bigint as "xid!", topic, type as kind, aggregate, version, deleted, state, traceparent, occurred_at
        from event
        where (xid, event_id) > ($1::text::xid8, $2)
        and xid < pg_snapshot_xmin(pg_current_snapshot())
        order by xid, event_id
        limit $3
        "#,
        after.xid.to_string(),
        after.id,
        limit
    )
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Event {
            cursor: Cursor { incarnation: after.incarnation, xid: row.xid, id: row.event_id },
            topic: row.topic,
            kind: row.kind,
            aggregate: row.aggregate,
            version: row.version,
            deleted: row.deleted,
            state: row.state,
            traceparent: row.traceparent,
            occurred_at: row.occurred_at.to_jiff(),
        })
        .collect())
}

/// The end of the log as of now: everything that is visible to `tx` stands before it. A list read in the same
/// `repeatable read` transaction and a watch from here on fit together without a gap.
pub async fn end(tx: &mut Tx) -> Result<Cursor> {
    let row = sqlx::query!(
        r#"
        select
            incarnation,
            (pg_snapshot_xmin(pg_current_snapshot())::text::bigint - 1) as "xid!"
        from incarnation
        "#
    )
    .fetch_one(&mut **tx)
    .await?;
    // Rows at or above xmin may come again after the list; readers drop what is not newer by version.
    Ok(Cursor { incarnation: row.incarnation.cast_unsigned(), xid: row.xid, id: i64::MAX })
}

/// Checks that everything after a cursor is still there.
pub async fn check(pool: &PgPool, cursor: Cursor) -> Result<()> {
    let row = sqlx::query!(
        r#"
        select i.incarnation, h.xid::text::bigint as "xid!", h.event_id
        from incarnation i, event_horizon h
        "#
    )
    .fetch_one(pool)
    .await?;
    if row.incarnation.cast_unsigned() != cursor.incarnation || (cursor.xid, cursor.id) < (row.xid, row.event_id) {
        return Err(Error::too_old("resume_token: too old; list again"));
    }
    Ok(())
}

/// Drops rows that are published and older than the watch window, of the `limit` oldest; gives how many. As long as the very oldest is
/// younger no other is looked at: this runs after every few events.
pub async fn trim(pool: &PgPool, keep: std::time::Duration, limit: i64) -> Result<u64> {
    let mut tx = crate::db::begin(pool).await?;
    let dropped = sqlx::query!(
        r#"
        with oldest as (
            select event_id, xid, occurred_at
            from event
            order by xid, event_id
            limit (
                select case when occurred_at < now() - make_interval(secs => $1) then $2::bigint else 0 end
                from event
                order by xid, event_id
                limit 1
            )
        ), old as (
            select o.event_id, o.xid
            from oldest o, relay_cursor r
            where (o.xid, o.event_id) <= (r.xid, r.event_id)
            and o.occurred_at < now() - make_interval(secs => $1)
        ), gone as (
            delete from event e using old where e.event_id = old.event_id returning e.xid, e.event_id
        ), latest as (
            select xid, event_id from gone order by xid desc, event_id desc limit 1
        ), moved as (
            update event_horizon h set xid = l.xid, event_id = l.event_id from latest l where (h.xid, h.event_id) < (l.xid, l.event_id)
        )
        select count(*) as "count!" from gone
        "#,
        keep.as_secs_f64(),
        limit
    )
    .fetch_one(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(dropped.count.cast_unsigned())
}
