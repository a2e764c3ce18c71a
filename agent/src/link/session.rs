//! One connection, from Hello to its end.

use super::{
    Ended, HEALTH_PART, Link, LinkError,
    answer::Answers,
    channel::MAX_MESSAGE,
    convert::{self, malformed},
    enrol::{EnrolError, renew, renewal_due},
    fetch::{self, Bundles},
    measure,
    outbox::Outbox,
    verdicts::Telling,
};
use crate::{
    domain::generation::Arrival,
    inventory::{ClockOffsets, Preflight, preflight},
    ledger::{Identity, Leaving},
};
use jiff::Timestamp;
use muster_kit::time::{duration_from_proto, to_proto};
use muster_proto::agent::v1::{
    AgentMessage, Desired, Heartbeat, Hello, HubMessage, LeaveDone, Welcome, agent_link_service_client::AgentLinkServiceClient,
    agent_message::Message, hub_message::Message as FromHub,
};
use rand::Rng;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// Messages to the hub that may wait; the producers wait with them.
const OUTBOX: usize = 64;
/// How long the hub may take to answer Hello.
const WELCOME_WITHIN: Duration = Duration::from_secs(15);
/// Heartbeats whose answer is waited for, at most; at one in five seconds, five minutes.
const BEATS_KEPT: usize = 64;
/// A hub that has acknowledged nothing for this many heartbeats is dialled anew.
const SILENT_BEATS: u32 = 6;
/// Between two looks at whether leaving is done and whether the certificate is due.
const TICK: Duration = Duration::from_millis(500);

pub(super) async fn run(link: &Link, greeted: Arc<AtomicBool>, stop: CancellationToken) -> Result<Ended, LinkError> {
    let Some(mut identity) = link.ledger().identity()? else { return Ok(Ended::Left) };
    if identity.expires_at <= Timestamp::now() {
        identity = renew(&link.hub, link.ledger(), &identity).await.map_err(hub)?;
    }
    let channel = link.hub.connect(Some(&identity)).await?;
    let mut client = client(channel);
    let (send, outgoing) = mpsc::channel(OUTBOX);
    let state = link.ledger().state();
    let hello = Hello {
        cluster_uid: link.cluster_uid.clone(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        hub_incarnation: state.hub_incarnation,
        digests: convert::digests(&state),
        preflight: Some(convert::preflight(look_over(link).await)),
        on_hold: state.on_hold,
    };
    drop(state);
    post(&send, Message::Hello(hello)).await?;
    let connecting = client.connect(ReceiverStream::new(outgoing));
    let mut incoming = timeout(WELCOME_WITHIN, connecting).await.map_err(|_| silent())??.into_inner();
    let first = timeout(WELCOME_WITHIN, incoming.message()).await.map_err(|_| silent())??;
    let Some(HubMessage { message: Some(FromHub::Welcome(welcome)) }) = first else {
        return Err(malformed("message", "something else than Welcome first"));
    };
    let mut session = Session::begin(link, client, send, welcome, identity, &greeted).await?;
    session.hold(&mut incoming, stop).await
}

fn client(channel: Channel) -> AgentLinkServiceClient<Channel> {
    AgentLinkServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE)
}

fn hub(error: EnrolError) -> LinkError {
    match error {
        EnrolError::Ledger(error) => LinkError::Ledger(error),
        other => LinkError::Hub(other.to_string()),
    }
}

fn silent() -> LinkError {
    LinkError::Hub("no answer to Hello".to_owned())
}

async fn post(send: &mpsc::Sender<AgentMessage>, message: Message) -> Result<(), LinkError> {
    let closed = |_| LinkError::Hub("the connection has ended".to_owned());
    send.send(AgentMessage { message: Some(message) }).await.map_err(closed)
}

/// A cluster whose API server is away still says Hello: the hub must know that the agent is there.
async fn look_over(link: &Link) -> Preflight {
    let hub = *link.hub_clock.lock().unwrap_or_else(PoisonError::into_inner);
    match preflight(&link.reconciler.cluster, ClockOffsets { hub }).await {
        Ok(found) => found,
        Err(error) => Preflight { problems: vec![error.to_string()], ..Preflight::default() },
    }
}

struct Session<'a> {
    link: &'a Link,
    client: AgentLinkServiceClient<Channel>,
    send: mpsc::Sender<AgentMessage>,
    identity: Identity,
    lease: Duration,
    interval: Duration,
    beats: u64,
    // When each heartbeat that is not answered yet was sent, on the boot clock.
    sent: BTreeMap<u64, Duration>,
    outbox: Outbox,
    answers: Answers,
    bundles: Bundles,
    // `None`: the hub is older and does not take them.
    telling: Option<Telling>,
    said_left: bool,
    utilisation: Option<f64>,
}

impl<'a> Session<'a> {
    async fn begin(
        link: &'a Link,
        client: AgentLinkServiceClient<Channel>,
        send: mpsc::Sender<AgentMessage>,
        welcome: Welcome,
        identity: Identity,
        greeted: &AtomicBool,
    ) -> Result<Self, LinkError> {
        let Welcome { cluster, incarnation, lease, heartbeat_interval, clock, takes_verdict_changes } = welcome;
        if cluster != identity.cluster {
            return Err(malformed("welcome.cluster", &format!("{cluster:?}, and this is {}", identity.cluster)));
        }
        let positive = |duration: Option<muster_proto::Duration>, field| {
            let duration = duration.as_ref().and_then(duration_from_proto).filter(|duration| !duration.is_zero());
            duration.ok_or_else(|| malformed(field, "no positive duration"))
        };
        let (lease, interval) = (positive(lease, "welcome.lease")?, positive(heartbeat_interval, "welcome.heartbeat_interval")?);
        if let Ok(clock) = convert::timestamp(clock, "welcome.clock") {
            link.note_hub_clock(clock);
        }
        let remembered = link.ledger().state().hub_incarnation;
        if incarnation > remembered {
            link.ledger().update(move |state| state.hub_incarnation = incarnation).await?;
            if remembered > 0 {
                tracing::warn!(incarnation, remembered, "the hub is another one than before and is obeyed");
                link.ledger().observe_all_again().await?;
            }
        }
        greeted.store(true, Ordering::Relaxed);
        link.health.report(HEALTH_PART, None);
        tracing::info!(cluster.name = %cluster, incarnation, "linked to the hub");
        Ok(Self {
            link,
            client,
            send,
            identity,
            lease,
            interval,
            beats: 0,
            sent: BTreeMap::new(),
            outbox: Outbox::default(),
            answers: Answers::default(),
            bundles: Bundles::default(),
            telling: takes_verdict_changes.then(Telling::default),
            said_left: false,
            utilisation: None,
        })
    }

    async fn hold(&mut self, incoming: &mut tonic::Streaming<HubMessage>, stop: CancellationToken) -> Result<Ended, LinkError> {
        let mut inventory = self.link.inventory.clone();
        inventory.mark_changed();
        let mut observed = self.link.ledger().observed();
        let mut judged = self.link.reconciler.said.changes();
        let mut next_beat = Instant::now();
        let mut heard = Instant::now();
        let mut tick = tokio::time::interval(TICK);
        let (mut measured, _measuring) = measure::start(self.link.clone());
        self.bundles.want_missing(&self.link.reconciler);
        loop {
            self.send_observations().await?;
            self.send_verdicts().await?;
            self.bundles.fetch(&self.client);
            tokio::select! {
                () = stop.cancelled() => return Ok(Ended::Shutdown),
                message = incoming.message() => match message {
                    Ok(Some(HubMessage { message: Some(message) })) => {
                        heard = Instant::now();
                        self.take(message).await?;
                    }
                    Ok(Some(HubMessage { message: None })) => {}
                    Ok(None) => return self.ended_by_hub("the hub closed the stream".to_owned()).await,
                    Err(status) => return self.ended_by_hub(format!("{:?}: {}", status.code(), status.message())).await,
                },
                () = tokio::time::sleep_until(next_beat) => {
                    self.beat().await?;
                    next_beat = Instant::now() + self.interval.mul_f64(rand::rng().random_range(0.8..1.2));
                }
                Ok(()) = observed.changed() => {}
                Ok(()) = judged.changed() => {}
                Ok(()) = inventory.changed() => {
                    let taken = inventory.borrow_and_update().clone();
                    if let Some(taken) = taken {
                        let message = convert::inventory(&taken, self.utilisation, Timestamp::now());
                        post(&self.send, Message::Inventory(message)).await?;
                    }
                }
                Some(value) = measured.recv() => {
                    // Worth a message only where it moved by more than noise.
                    let moved = match (self.utilisation, value) {
                        (Some(before), Some(now)) => f64::abs(before - now) > 0.05,
                        (before, now) => before.is_some() != now.is_some(),
                    };
                    if moved {
                        self.utilisation = value;
                        inventory.mark_changed();
                    }
                }
                Some(fetched) = self.bundles.next() => fetch::keep(&self.link.reconciler, fetched).await?,
                () = self.link.reconciler.missing.wanted() => {
                    self.bundles.want(self.link.reconciler.missing.take());
                }
                _ = tick.tick() => {
                    if heard.elapsed() > self.interval * SILENT_BEATS {
                        return Err(LinkError::Hub("the hub has fallen silent".to_owned()));
                    }
                    if renewal_due(&self.identity) <= Timestamp::now() {
                        match renew(&self.link.hub, self.link.ledger(), &self.identity).await {
                            Ok(_) => return Ok(Ended::Renewed),
                            // There is a third of the life left to try again in.
                            Err(error) => tracing::warn!(error = %error, "the certificate could not be renewed yet"),
                        }
                    }
                    self.leave_if_done().await?;
                }
            }
        }
    }

    async fn take(&mut self, message: FromHub) -> Result<(), LinkError> {
        match message {
            FromHub::Desired(desired) => self.desired(desired).await,
            FromHub::HeartbeatAck(ack) => self.acknowledged(ack.sequence).await,
            FromHub::ObservationAck(ack) => self.outbox.acknowledged(self.link.ledger(), ack.sequence).await,
            FromHub::VerdictAck(ack) => {
                let next = self.telling.as_mut().and_then(|telling| telling.acknowledged(ack.sequence, ack.whole_wanted));
                match next {
                    Some(part) => post(&self.send, Message::VerdictChange(part)).await,
                    None => Ok(()),
                }
            }
            FromHub::Request(request) => {
                self.answers.take(self.link, request, &self.send);
                Ok(())
            }
            FromHub::Leave(leave) => {
                tracing::warn!(remove_workloads = leave.remove_workloads, "the hub says to leave the fleet");
                let leaving = Leaving { remove_workloads: leave.remove_workloads };
                begin_leaving(self.link, leaving).await
            }
            FromHub::Welcome(_) => Err(malformed("message", "Welcome twice")),
        }
    }

    async fn desired(&mut self, desired: Desired) -> Result<(), LinkError> {
        let items = desired.items.into_iter().map(convert::desired).collect::<Result<Vec<_>, _>>()?;
        if self.link.ledger().state().leaving.is_some() {
            return Ok(());
        }
        fetch::keep_sent(&self.link.reconciler, desired.bundles).await?;
        let taken = self.link.ledger().update(move |state| state.take(items)).await?;
        let mut conflict = None;
        for taken in taken {
            match taken.arrival {
                // Without its bundle there is nothing to look at yet; it is marked when the bundle is here.
                Arrival::Newer if !fetch::lacks_bundle(&self.link.reconciler, &taken.key) => {
                    self.link.reconciler.dirty.mark(taken.key)
                }
                Arrival::Newer => {}
                Arrival::Same => {}
                Arrival::Older => {
                    tracing::warn!(item = %taken.key, generation = %taken.generation, "an old generation was refused")
                }
                Arrival::Conflict => conflict = Some(taken),
            }
        }
        self.bundles.want_missing(&self.link.reconciler);
        match conflict {
            None => Ok(()),
            // The digests of the next Hello tell the hub, which then raises its incarnation.
            Some(taken) => Err(LinkError::Malformed(format!(
                "{} {} with other content than is held under that generation",
                taken.key, taken.generation
            ))),
        }
    }

    async fn send_observations(&mut self) -> Result<(), LinkError> {
        while let Some(batch) = self.outbox.next(self.link.ledger()) {
            post(&self.send, Message::Observations(batch)).await?;
        }
        Ok(())
    }

    async fn send_verdicts(&mut self) -> Result<(), LinkError> {
        match self.telling.as_mut().and_then(|telling| telling.next(&self.link.reconciler.said.all())) {
            Some(part) => post(&self.send, Message::VerdictChange(part)).await,
            None => Ok(()),
        }
    }

    async fn beat(&mut self) -> Result<(), LinkError> {
        self.beats += 1;
        self.sent.insert(self.beats, self.link.reconciler.lease.now());
        if self.sent.len() > BEATS_KEPT {
            self.sent.pop_first();
        }
        let beat = Heartbeat { sequence: self.beats, clock: Some(to_proto(Timestamp::now())) };
        post(&self.send, Message::Heartbeat(beat)).await
    }

    /// The hub has committed a heartbeat: the session lasts from when it was sent.
    async fn acknowledged(&mut self, sequence: u64) -> Result<(), LinkError> {
        let Some(sent) = self.sent.remove(&sequence) else { return Ok(()) };
        self.sent.retain(|earlier, _| *earlier > sequence);
        let deadline = self.link.reconciler.lease.renew(sent, self.lease);
        let state = self.link.ledger().state();
        let movable: Vec<_> = state
            .items()
            .filter(|(_, record)| {
                record.bundle.is_some() && record.ended.is_none() && record.options.run.as_ref().is_some_and(|run| run.movable)
            })
            .map(|(key, _)| key)
            .collect();
        let remembered = Some(deadline).filter(|_| !movable.is_empty());
        if remembered.is_some() || state.lease.is_some() {
            self.link.ledger().update(move |state| state.lease = remembered).await?;
        }
        for key in movable {
            self.link.reconciler.dirty.mark(key);
        }
        Ok(())
    }

    /// Tells the hub once everything that leaving asked for is done and said.
    async fn leave_if_done(&mut self) -> Result<(), LinkError> {
        let state = self.link.ledger().state();
        if state.leaving.is_none()
            || self.said_left
            || !state.items().all(|(_, record)| record.deleted)
            || !self.outbox.is_empty()
        {
            return Ok(());
        }
        self.said_left = true;
        post(&self.send, Message::LeaveDone(LeaveDone {})).await
    }

    async fn ended_by_hub(&mut self, why: String) -> Result<Ended, LinkError> {
        if !self.said_left {
            return Err(LinkError::Hub(why));
        }
        self.link.ledger().update(crate::ledger::State::forget_everything).await?;
        self.link.ledger().forget_identity()?;
        tracing::info!("the cluster has left the fleet");
        Ok(Ended::Left)
    }
}

/// Begins to leave: with the workloads, what was applied is removed first; without, it is let go as it stands.
pub(super) async fn begin_leaving(link: &Link, leaving: Leaving) -> Result<(), LinkError> {
    link.ledger()
        .update(move |state| {
            if state.leaving.is_some() {
                return;
            }
            state.leaving = Some(leaving);
            if leaving.remove_workloads { state.remove_everything() } else { state.forget_everything() }
        })
        .await?;
    link.reconciler.mark_all();
    Ok(())
}

impl Link {
    /// Leaves on the word of somebody at the cluster; the hub is told when it is done.
    pub async fn leave(&self, leaving: Leaving) -> anyhow::Result<()> {
        Ok(begin_leaving(self, leaving).await?)
    }
}
