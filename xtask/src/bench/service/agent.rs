//! Simulated agents: they enrol, dial and speak the link as real ones do, over TLS, and have no cluster behind them. A run that
//! arrives runs at once, and succeeds after its time.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use muster_proto::agent::v1::agent_message::Message as FromAgent;
use muster_proto::agent::v1::hub_message::Message as FromHub;
use muster_proto::agent::v1::observation::Phase;
use muster_proto::agent::v1::{
    AgentMessage, ApiGroup, DesiredItem, EnrolRequest, Heartbeat, Hello, Inventory, Observation, ObservationBatch, Preflight,
    RunStatus, agent_link_service_client::AgentLinkServiceClient, enrolment_service_client::EnrolmentServiceClient, run_status,
};
use rcgen::{CertificateParams, KeyPair};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

/// Observations of one message; the hub takes as many.
const BATCH: usize = 200;
/// Messages and observations on their way.
const WAITING: usize = 10_000;
/// Of one message: the desired state of a reconnect comes in slices.
const MAX_MESSAGE: usize = 64 << 20;

/// How long a run of a job takes, by the job's name; `None`: longer than the bench.
pub type RunsFor = dyn Fn(&str) -> Option<Duration> + Send + Sync;

/// What agents have seen, by the job's name.
#[derive(Default)]
pub struct Seen(Mutex<HashMap<String, Life>>);

/// When a job's first run was leased at its agent, and when it ended there.
#[derive(Clone, Copy)]
pub struct Life {
    /// The agent had it.
    pub leased: Instant,
    /// It had succeeded.
    pub ended: Option<Instant>,
}

impl Seen {
    /// How many jobs have come to an agent, and how many of them have ended.
    pub fn counts(&self) -> (usize, usize) {
        let seen = self.0.lock().expect("no holder of this lock panics");
        (seen.len(), seen.values().filter(|life| life.ended.is_some()).count())
    }

    /// Everything that was seen.
    pub fn all(&self) -> HashMap<String, Life> {
        self.0.lock().expect("no holder of this lock panics").clone()
    }

    fn leased(&self, job: &str) {
        let now = Instant::now();
        self.0.lock().expect("no holder of this lock panics").entry(job.to_owned()).or_insert(Life { leased: now, ended: None });
    }

    fn ended(&self, job: &str) {
        if let Some(life) = self.0.lock().expect("no holder of this lock panics").get_mut(job) {
            life.ended = Some(Instant::now());
        }
    }
}

/// An agent.
pub struct Agent {
    /// The hub's URL.
    pub hub: String,
    /// PEM of the authority.
    pub ca_pem: String,
    /// Its cluster's name.
    pub cluster: String,
    /// Its nodes.
    pub inventory: Inventory,
    /// What it has seen is noted here.
    pub seen: Arc<Seen>,
    /// How long its runs take.
    pub runs_for: Arc<RunsFor>,
}

impl Agent {
    /// Enrols with a one-time token, dials, and goes on in a task of `agents`; returns once the hub has welcomed it.
    ///
    /// # Errors
    /// The hub refuses it.
    pub async fn join(self, token: String, agents: &mut JoinSet<()>) -> Result<()> {
        let identity = self.enrol(token).await?;
        let mut client = AgentLinkServiceClient::new(self.connect(Some(identity)).await?)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE);
        let (send, outgoing) = mpsc::channel(WAITING);
        let groups = [("batch", "v1"), ("", "v1")];
        let api_groups =
            groups.map(|(name, version)| ApiGroup { name: name.to_owned(), versions: vec![version.to_owned()] }).to_vec();
        let hello = Hello {
            cluster_uid: self.uid(),
            agent_version: "bench".to_owned(),
            preflight: Some(Preflight { api_groups, ..Default::default() }),
            ..Default::default()
        };
        post(&send, FromAgent::Hello(hello)).await?;
        let mut incoming = client.connect(ReceiverStream::new(outgoing)).await?.into_inner();
        let interval = match incoming.message().await?.and_then(|message| message.message) {
            Some(FromHub::Welcome(welcome)) => welcome.heartbeat_interval.map_or(5, |interval| interval.seconds.max(1)),
            other => bail!("{} was not welcomed: {other:?}", self.cluster),
        };
        post(&send, FromAgent::Inventory(self.inventory.clone())).await?;
        let beats = Duration::from_secs(interval.unsigned_abs());
        agents.spawn(async move {
            if let Err(error) = self.follow(incoming, &send, beats).await {
                eprintln!("the agent of {} has ended: {error:#}", self.cluster);
            }
        });
        Ok(())
    }

    fn uid(&self) -> String {
        format!("uid-{}", self.cluster)
    }

    async fn enrol(&self, token: String) -> Result<Identity> {
        let key = KeyPair::generate()?;
        let csr_pem = CertificateParams::default().serialize_request(&key)?.pem()?;
        let request = EnrolRequest { token, cluster_uid: self.uid(), csr_pem, agent_version: "bench".to_owned() };
        let answer = EnrolmentServiceClient::new(self.connect(None).await?).enrol(request).await?.into_inner();
        Ok(Identity::from_pem(answer.certificate_pem, key.serialize_pem()))
    }

    async fn connect(&self, identity: Option<Identity>) -> Result<Channel> {
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&self.ca_pem)).domain_name("localhost");
        if let Some(identity) = identity {
            tls = tls.identity(identity);
        }
        Ok(Endpoint::from_shared(self.hub.clone())?.tls_config(tls)?.connect().await?)
    }

    async fn follow(
        &self,
        mut incoming: tonic::Streaming<muster_proto::agent::v1::HubMessage>,
        send: &mpsc::Sender<AgentMessage>,
        beats: Duration,
    ) -> Result<()> {
        let (observe, mut observed) = mpsc::channel::<Observation>(WAITING);
        let mut beat = tokio::time::interval(beats);
        let (mut beaten, mut sent, mut acknowledged) = (0, 0, 0);
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                message = incoming.message() => match message?.context("the hub closed the stream")?.message {
                    Some(FromHub::Desired(desired)) => desired.items.into_iter().for_each(|item| self.take(item, &observe)),
                    Some(FromHub::ObservationAck(ack)) => acknowledged = ack.sequence,
                    _ => {}
                },
                // As a real agent: one batch at a time, each with what has come meanwhile.
                count = observed.recv_many(&mut batch, BATCH), if acknowledged == sent => {
                    if count > 0 {
                        sent += 1;
                        let observations = std::mem::take(&mut batch);
                        post(send, FromAgent::Observations(ObservationBatch { sequence: sent, observations })).await?;
                    }
                }
                _ = beat.tick() => {
                    beaten += 1;
                    post(send, FromAgent::Heartbeat(Heartbeat { sequence: beaten, clock: Some(now()) })).await?;
                }
            }
        }
    }

    /// An item that the cluster should hold, or no more.
    fn take(&self, item: DesiredItem, observe: &mpsc::Sender<Observation>) {
        let job = item.name.strip_prefix("jobs/").and_then(|rest| rest.split('/').nth(1)).map(ToOwned::to_owned);
        let (observe, seen) = (observe.clone(), Arc::clone(&self.seen));
        let runs_for = job.as_deref().and_then(|job| (self.runs_for)(job));
        if let Some(job) = job.as_deref().filter(|_| !item.tombstone) {
            seen.leased(job);
        }
        tokio::spawn(async move {
            if item.tombstone || item.run.is_none() {
                let phase = if item.tombstone { Phase::Deleted } else { Phase::Healthy };
                // A closed channel: the bench is over.
                let _ = observe.send(observation(&item, phase, None)).await;
                return;
            }
            let start = now();
            let _ = observe.send(observation(&item, Phase::Healthy, Some((run_status::Phase::Running, start)))).await;
            if let (Some(runs_for), Some(job)) = (runs_for, job) {
                tokio::time::sleep(runs_for).await;
                seen.ended(&job);
                let _ = observe.send(observation(&item, Phase::Healthy, Some((run_status::Phase::Succeeded, start)))).await;
            }
        });
    }
}

fn observation(item: &DesiredItem, phase: Phase, run: Option<(run_status::Phase, muster_proto::Timestamp)>) -> Observation {
    let run = run.map(|(phase, start)| RunStatus {
        run: item.run.as_ref().map(|run| run.run.clone()).unwrap_or_default(),
        phase: phase.into(),
        start_time: Some(start),
        finish_time: (phase == run_status::Phase::Succeeded).then(now),
        ..Default::default()
    });
    Observation {
        owner: item.owner.clone(),
        name: item.name.clone(),
        generation: item.generation,
        phase: phase.into(),
        observe_time: Some(now()),
        run,
        traceparent: item.traceparent.clone(),
        ..Default::default()
    }
}

fn now() -> muster_proto::Timestamp {
    let now = Timestamp::now();
    muster_proto::Timestamp { seconds: now.as_second(), nanos: now.subsec_nanosecond() }
}

async fn post(send: &mpsc::Sender<AgentMessage>, message: FromAgent) -> Result<()> {
    send.send(AgentMessage { message: Some(message) }).await.ok().context("the connection has ended")
}

/// PEM of a file.
///
/// # Errors
/// It can't be read.
pub fn pem(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))
}
