//! Heartbeats, batched: one statement a batch, acknowledged only after it has committed.
//!
//! A replica that cannot reach Postgres must not keep a session alive that another replica believes dead.

use super::Session;
use crate::{
    app::App,
    store::cluster::{self, Beat},
};
use muster_proto::agent::v1::{HeartbeatAck, HubMessage, hub_message::Message};
use std::{collections::HashSet, time::Duration};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Heartbeats that may wait for a batch: ten seconds of ten thousand agents at one in five seconds.
const QUEUE: usize = 20_000;
/// How long a batch collects.
const COLLECT: Duration = Duration::from_millis(50);

/// A heartbeat that came.
#[derive(Debug)]
pub struct Arrived {
    /// Whose it is.
    pub session: Session,
    /// Its number.
    pub sequence: u64,
}

/// Where heartbeats go.
pub type Beats = mpsc::Sender<Arrived>;

/// The queue and the loop that empties it.
pub fn start(app: App, shutdown: CancellationToken) -> (Beats, impl Future<Output = ()> + Send) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (sender, run(app, receiver, shutdown))
}

async fn run(app: App, mut arrived: mpsc::Receiver<Arrived>, shutdown: CancellationToken) {
    let mut batch = Vec::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            count = arrived.recv_many(&mut batch, QUEUE) => {
                if count == 0 {
                    return;
                }
            }
        }
        tokio::time::sleep(COLLECT).await;
        while let Ok(more) = arrived.try_recv() {
            batch.push(more);
        }
        write(&app, &mut batch).await;
    }
}

async fn write(app: &App, batch: &mut Vec<Arrived>) {
    // The last of each session is enough, and one row must not stand twice in a statement.
    let mut seen = HashSet::new();
    batch.reverse();
    batch.retain(|beat| seen.insert(beat.session.cluster_id));
    let beats: Vec<Beat> =
        batch.iter().map(|beat| Beat { cluster_id: beat.session.cluster_id, session: beat.session.id }).collect();
    let gap = Duration::from_millis(app.settings.suspect_after_ms);
    match cluster::beat(&app.pool, &beats, app.clock.now(), app.settings.lease(), gap).await {
        Ok(renewed) => {
            let renewed: HashSet<_> = renewed.into_iter().collect();
            for beat in batch.drain(..) {
                if renewed.contains(&beat.session.id) {
                    let ack = HubMessage { message: Some(Message::HeartbeatAck(HeartbeatAck { sequence: beat.sequence })) };
                    // A full outbox: the agent is slow, and the next heartbeat is acknowledged instead.
                    let _ = beat.session.outbox.try_send(Ok(ack));
                } else {
                    let _ = beat
                        .session
                        .outbox
                        .try_send(Err(tonic::Status::aborted("another connection of this cluster took its place")));
                }
            }
        }
        Err(error) => {
            tracing::warn!(error = %error, count = batch.len(), "heartbeats could not be stored and are not acknowledged");
            batch.clear();
        }
    }
}
