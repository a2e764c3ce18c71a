//! One agent's stream, from Hello to its end.

use super::{
    OUTBOX, Session, Sessions,
    beats::{Arrived, Beats},
    hello, receive,
    verdicts::{Incoming, Stored},
};
use crate::{
    app::{self, App},
    convert,
    domain::State,
    store::{cluster, desired, question},
};
use muster_kit::{
    Caller, Error, Result, db, incarnation,
    time::{duration_to_proto, to_proto},
};
use muster_proto::agent::v1::{
    AgentMessage, Desired, Hello, HubMessage, ObservationAck, VerdictAck, Welcome, agent_message::Message as FromAgent,
    hub_message::Message,
};
use prost::Message as _;
use std::{sync::atomic::Ordering, time::Duration};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use uuid::Uuid;

/// How long a new stream may take to say Hello.
const HELLO: Duration = Duration::from_secs(10);
/// Silence after which a stream is given up, in heartbeats: the agent dials anew.
const SILENT_BEATS: u32 = 6;

/// What the hub sends.
pub type Outgoing = ReceiverStream<std::result::Result<HubMessage, Status>>;

/// A replica's side of the link.
#[derive(Clone)]
pub struct Hub {
    /// What it works with.
    pub app: App,
    /// The sessions it holds.
    pub sessions: Sessions,
    /// Where heartbeats go.
    pub beats: Beats,
}

impl Hub {
    /// Takes a stream: Hello, Welcome, what differs; then it goes on by itself.
    pub async fn connect(&self, caller: &Caller, mut incoming: Streaming<AgentMessage>) -> Result<Outgoing> {
        let (name, fingerprint) = caller.cluster()?;
        let first = tokio::time::timeout(HELLO, incoming.message()).await;
        let Ok(Ok(Some(AgentMessage { message: Some(FromAgent::Hello(said)) }))) = first else {
            return Err(Error::invalid("message", "the first message must be hello, within ten seconds"));
        };
        let (outbox, receiver) = mpsc::channel(OUTBOX);
        let (cluster_id, sequence, items) = self.admit(name, fingerprint, &said).await?;
        let session = Session { id: items.session, cluster_id, outbox, sent: sequence, told_to_leave: false };
        let welcome = Welcome {
            cluster: format!("clusters/{name}"),
            incarnation: self.app.incarnation.load(Ordering::Relaxed),
            lease: Some(duration_to_proto(self.app.settings.lease())),
            heartbeat_interval: Some(duration_to_proto(self.app.settings.heartbeat_interval())),
            clock: Some(to_proto(self.app.clock.now())),
            takes_verdict_changes: true,
        };
        session.tell(Message::Welcome(welcome))?;
        // In slices, so that no message is beyond what gRPC takes.
        for slice in items.items.chunks(500) {
            let slice = slice.iter().cloned().map(convert::item).collect::<Result<Vec<_>>>()?;
            session.tell(Message::Desired(Desired { sequence: sequence.cast_unsigned(), items: slice, bundles: Vec::new() }))?;
        }
        receive::preflight(&self.app, name, &said.agent_version, said.preflight).await?;
        self.sessions.add(session.clone());
        self.app.send.now();
        tracing::info!(cluster.name = name, items = items.items.len(), "an agent has connected");
        tokio::spawn(self.clone().follow(name.to_owned(), session, incoming));
        Ok(ReceiverStream::new(receiver))
    }

    /// Checks who it is, makes its session the one that counts, and finds what it must be told.
    async fn admit(&self, name: &str, fingerprint: &str, said: &Hello) -> Result<(i64, i64, Told)> {
        let mut tx = db::begin(&self.app.pool).await?;
        let known = cluster::lock(&mut tx, name).await?;
        let credentials = cluster::credentials(&mut tx, known.id).await?;
        let valid = [credentials.fingerprint, credentials.previous].into_iter().flatten().any(|held| held == fingerprint);
        if !valid || known.state == State::Left {
            return Err(Error::unauthenticated("the certificate is void"));
        }
        if known.uid.as_deref() != Some(said.cluster_uid.as_str()) {
            return Err(Error::denied("hello.cluster_uid: is not the cluster that enrolled"));
        }
        let session = Uuid::new_v4();
        cluster::begin_session(&mut tx, known.id, session, fingerprint).await?;
        let (mut items, mut sequence) = desired::snapshot(&mut tx, known.id).await?;
        let mut difference = hello::compare(&items, &said.digests);
        let ours = incarnation::current(&mut tx).await?;
        let remembered = difference.newest_incarnation.max(said.hub_incarnation);
        if difference.diverged || remembered > ours {
            // It remembers more, or something else: this database is another one than it knew.
            let raised = incarnation::raise_above(&mut tx, remembered.cast_signed()).await?;
            desired::renew(&mut tx, known.id, raised).await?;
            self.app.incarnation.store(raised.cast_unsigned(), Ordering::Relaxed);
            tracing::warn!(
                cluster.name = name,
                incarnation = raised,
                "an agent remembers another hub: the incarnation is raised"
            );
            (items, sequence) = desired::snapshot(&mut tx, known.id).await?;
            difference = hello::compare(&items, &said.digests);
        }
        tx.commit().await?;
        let items = difference.send.into_iter().map(|index| items[index].clone()).collect();
        Ok((known.id, sequence, Told { session, items }))
    }

    /// Receives until the stream ends, is replaced, or falls silent.
    async fn follow(self, name: String, session: Session, mut incoming: Streaming<AgentMessage>) {
        let silence = self.app.settings.heartbeat_interval() * SILENT_BEATS;
        let mut verdicts = Incoming::default();
        let why = loop {
            let message = tokio::select! {
                () = session.outbox.closed() => break "the agent hung up".to_owned(),
                message = tokio::time::timeout(silence, incoming.message()) => message,
            };
            let message = match message {
                Err(_) => break "silent for too long".to_owned(),
                Ok(Err(status)) => break status.message().to_owned(),
                Ok(Ok(None)) => break "the agent closed the stream".to_owned(),
                Ok(Ok(Some(message))) => message,
            };
            if let Err(error) = self.take(&name, &session, &mut verdicts, message).await {
                let text = error.to_string();
                let _ = session.outbox.try_send(Err(error.into()));
                break text;
            }
        };
        self.sessions.remove(session.cluster_id, session.id);
        tracing::info!(cluster.name = name, why, "an agent's stream has ended");
    }

    async fn take(&self, name: &str, session: &Session, verdicts: &mut Incoming, message: AgentMessage) -> Result<()> {
        match message.message {
            Some(FromAgent::Heartbeat(beat)) => {
                let arrived = Arrived { session: session.clone(), sequence: beat.sequence };
                // A full queue means the database is away; the heartbeat is not acknowledged, as it must not be.
                if self.beats.try_send(arrived).is_err() {
                    tracing::debug!(cluster.name = name, "a heartbeat was dropped");
                }
                Ok(())
            }
            Some(FromAgent::Inventory(inventory)) => receive::inventory(&self.app, name, inventory).await,
            Some(FromAgent::Observations(batch)) => {
                receive::observations(&self.app, session.cluster_id, name, batch.observations).await?;
                session.tell(Message::ObservationAck(ObservationAck { sequence: batch.sequence }))
            }
            Some(FromAgent::VerdictChange(part)) => {
                let sequence = part.sequence;
                let whole_wanted = verdicts.take(&self.app, name, session, part).await? == Stored::WholeWanted;
                session.tell(Message::VerdictAck(VerdictAck { sequence, whole_wanted }))
            }
            Some(FromAgent::Answer(answer)) => {
                let id =
                    Uuid::parse_str(&answer.request_id).map_err(|_| Error::invalid("answer.request_id", "is not one of ours"))?;
                if !question::answer(&self.app.pool, id, session.cluster_id, &answer.encode_to_vec()).await? {
                    use muster_proto::agent::v1::{Cancelled, HubRequest, hub_request::Request};
                    let cancelled = HubRequest { request_id: answer.request_id, request: Some(Request::Cancelled(Cancelled {})) };
                    session.tell(Message::Request(cancelled))?;
                }
                Ok(())
            }
            Some(FromAgent::LeaveDone(_)) => {
                let mut tx = db::begin(&self.app.pool).await?;
                app::cluster::left(&mut tx, name).await?;
                tx.commit().await?;
                Err(Error::unauthenticated("the cluster has left"))
            }
            Some(FromAgent::Hello(_)) => Err(Error::invalid("message", "hello comes once")),
            None => Err(Error::invalid("message", "is empty")),
        }
    }
}

/// What an agent is told after Hello.
struct Told {
    session: Uuid,
    items: Vec<desired::Item>,
}
