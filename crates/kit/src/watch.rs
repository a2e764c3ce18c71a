//! `Watch` from the event log: what exists, then `SYNCED`, then every change, resumable.
//!
//! One [`Tail`] a process polls the log's end and wakes all watchers; each reads from its own cursor, so a slow watcher
//! costs itself and nobody else.

use crate::{
    Result,
    event::{self, Cursor, Event},
};
use async_trait::async_trait;
use serde::de::DeserializeOwned;
use sqlx::PgPool;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// How often the log's end is looked at: what a watcher waits at most after a commit.
const POLL: Duration = Duration::from_millis(25);
/// The same once nothing has come for [`QUIET_AFTER`]: what other replicas append is found that much later then.
const QUIET_POLL: Duration = Duration::from_millis(100);
/// See [`QUIET_POLL`].
const QUIET_AFTER: Duration = Duration::from_secs(1);
/// Rows read at a time.
const BATCH: i64 = 500;
/// Messages that may wait for a slow client before its watch stops reading.
const BUFFER: usize = 256;

/// Tells watchers that the log has grown.
#[derive(Debug, Clone)]
pub struct Tail {
    pool: PgPool,
    end: watch::Receiver<(i64, i64)>,
    shutdown: CancellationToken,
}

impl Tail {
    /// The tail and the loop that feeds it.
    pub fn new(pool: PgPool, shutdown: CancellationToken) -> (Self, impl Future<Output = ()> + Send) {
        let (sender, end) = watch::channel((0, 0));
        let feed = feed(pool.clone(), sender, shutdown.clone());
        (Self { pool, end, shutdown }, feed)
    }

    /// Waits until the log has grown since the last call.
    pub async fn grown(&mut self) {
        // The feeder lives as long as the process; if it is gone, so are we.
        if self.end.changed().await.is_err() {
            self.shutdown.cancelled().await;
        }
    }
}

async fn feed(pool: PgPool, sender: watch::Sender<(i64, i64)>, shutdown: CancellationToken) {
    let mut stirred = Instant::now();
    loop {
        let end = sqlx::query!(
            r#"
            select xid::text::bigint as "xid!", event_id
            from event
            where xid < pg_snapshot_xmin(pg_current_snapshot())
            order by xid desc, event_id desc
            limit 1
            "#
        )
        .fetch_optional(&pool)
        .await;
        let pause = match end {
            Ok(end) => {
                let end = end.map_or((0, 0), |end| (end.xid, end.event_id));
                let grown = sender.send_if_modified(|known| std::mem::replace(known, end) != end);
                if grown {
                    stirred = Instant::now();
                }
                POLL
            }
            // The health check reports it; here it is only not hammered.
            Err(_) => Duration::from_secs(1),
        };
        let quiet = stirred.elapsed() > QUIET_AFTER;
        let next = async {
            tokio::time::sleep(pause).await;
            if quiet {
                tokio::select! {
                    () = event::appended() => stirred = Instant::now(),
                    () = tokio::time::sleep(QUIET_POLL - POLL) => {}
                }
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = next => {}
        }
    }
}

/// What a watch of one kind of resource is made of.
#[async_trait]
pub trait Watched: Send + Sync + 'static {
    /// The resource's message.
    type Resource: DeserializeOwned + Send;
    /// The response of the watch.
    type Response: Send + 'static;

    /// Everything that exists, and the log's end as of the same snapshot.
    async fn list(&self) -> Result<(Vec<Self::Resource>, Cursor)>;

    /// Whether an event is about a resource of this watch.
    fn wants(&self, event: &Event) -> bool;

    /// A response; `None` as the resource says that everything existing has been sent.
    fn respond(&self, change: Change, resource: Option<Self::Resource>, resume_token: String) -> Self::Response;
}

/// What a response is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Existed when the watch began.
    Existing,
    /// Created or changed.
    Changed,
    /// Deleted.
    Deleted,
    /// Everything existing has been sent.
    Synced,
}

/// The stream of a watch.
pub type WatchStream<R> = ReceiverStream<std::result::Result<R, Status>>;

/// Starts a watch at `resume_token` (empty: with everything that exists).
pub async fn start<W: Watched>(tail: &Tail, resume_token: &str, watched: W) -> Result<WatchStream<W::Response>> {
    let resumed = if resume_token.is_empty() {
        None
    } else {
        let cursor = Cursor::parse(resume_token)?;
        event::check(&tail.pool, cursor).await?;
        Some(cursor)
    };
    let (sender, receiver) = mpsc::channel(BUFFER);
    let tail = tail.clone();
    tokio::spawn(async move {
        let shutdown = tail.shutdown.clone();
        tokio::select! {
            () = shutdown.cancelled() => {
                // Best effort: the client may be gone as well.
                let _ = sender.try_send(Err(Status::unavailable("the service is stopping; resume the watch")));
            }
            outcome = follow(tail, resumed, &watched, &sender) => {
                if let Err(Some(error)) = outcome {
                    let _ = sender.send(Err(error.into())).await;
                }
            }
        }
    });
    Ok(ReceiverStream::new(receiver))
}

/// Sends until the client is gone (`Err(None)`) or something fails.
async fn follow<W: Watched>(
    mut tail: Tail,
    resumed: Option<Cursor>,
    watched: &W,
    sender: &mpsc::Sender<std::result::Result<W::Response, Status>>,
) -> std::result::Result<(), Option<crate::Error>> {
    let mut cursor = match resumed {
        Some(cursor) => cursor,
        None => {
            let (existing, cursor) = watched.list().await.map_err(Some)?;
            for resource in existing {
                let response = watched.respond(Change::Existing, Some(resource), cursor.token());
                sender.send(Ok(response)).await.map_err(|_| None)?;
            }
            cursor
        }
    };
    sender.send(Ok(watched.respond(Change::Synced, None, cursor.token()))).await.map_err(|_| None)?;
    loop {
        // Marks the present end as seen first, so that what comes while we read wakes us again.
        tail.end.borrow_and_update();
        loop {
            let events = event::read(&tail.pool, cursor, BATCH).await.map_err(Some)?;
            let Some(last) = events.last() else { break };
            cursor = last.cursor;
            for event in events.into_iter().filter(|event| watched.wants(event)) {
                let change = if event.deleted { Change::Deleted } else { Change::Changed };
                let resource = serde_json::from_value(event.state).map_err(|error| Some(crate::Error::internal(error)))?;
                let response = watched.respond(change, Some(resource), event.cursor.token());
                sender.send(Ok(response)).await.map_err(|_| None)?;
            }
        }
        tokio::select! {
            () = tail.grown() => {}
            () = sender.closed() => return Err(None),
        }
        event::check(&tail.pool, cursor).await.map_err(Some)?;
    }
}
