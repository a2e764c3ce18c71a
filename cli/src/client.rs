//! The way to the services: channels with the internal CA, the bearer token, deadlines, and repetition.
//!
//! A call that finds its service away is repeated with back-off until `--timeout`; that is safe because every mutation
//! carries a `request_id`, which the services answer once. A token is never sent in clear beyond this machine.

use crate::{
    context::Target,
    error::{Exit, Failure, Result},
    trace::{CallSpan, Trace},
};
use sha2::{Digest, Sha256};
use std::{
    fmt,
    future::Future,
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::time::Instant;
use tonic::{
    Code, Request, Response, Status, Streaming,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};
use tonic_types::StatusExt;
use uuid::Uuid;

/// Answers larger than this are refused: a page of a thousand clusters with their inventories fits.
pub const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;
/// First pause before a repetition; doubled up to [`LAST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LAST_PAUSE: Duration = Duration::from_secs(2);
/// Longest wait for a connection.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// How often an idle stream asks whether the other side is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// A service of Muster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// `fleet-registry`.
    Registry,
    /// `scheduler`.
    Scheduler,
    /// `rollout`.
    Rollout,
    /// `policy`.
    Policy,
}

impl Peer {
    /// All of them, in the order of their ports.
    pub const ALL: [Self; 4] = [Self::Registry, Self::Scheduler, Self::Rollout, Self::Policy];

    /// Its name in sentences and traces.
    pub fn name(self) -> &'static str {
        match self {
            Self::Registry => "fleet-registry",
            Self::Scheduler => "scheduler",
            Self::Rollout => "rollout service",
            Self::Policy => "policy service",
        }
    }

    /// Its name in traces.
    fn service_name(self) -> &'static str {
        match self {
            Self::Registry => "fleet-registry",
            Self::Scheduler => "scheduler",
            Self::Rollout => "rollout",
            Self::Policy => "policy",
        }
    }

    /// The environment variable that holds its address.
    pub fn variable(self) -> &'static str {
        match self {
            Self::Registry => "MUSTER_REGISTRY",
            Self::Scheduler => "MUSTER_SCHEDULER",
            Self::Rollout => "MUSTER_ROLLOUT",
            Self::Policy => "MUSTER_POLICY",
        }
    }

    /// Where it listens unless told otherwise.
    pub fn default_address(self) -> &'static str {
        match self {
            Self::Registry => "https://127.0.0.1:7401",
            Self::Scheduler => "https://127.0.0.1:7402",
            Self::Rollout => "https://127.0.0.1:7403",
            Self::Policy => "https://127.0.0.1:7404",
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the generated clients are made from.
pub type Link = InterceptedService<Channel, Identity>;

/// Adds who asks, in which trace, and until when.
#[derive(Clone)]
pub struct Identity {
    authorization: Option<MetadataValue<Ascii>>,
    traceparent: MetadataValue<Ascii>,
    deadline: Option<Duration>,
}

impl Interceptor for Identity {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(authorization) = &self.authorization {
            request.metadata_mut().insert("authorization", authorization.clone());
        }
        request.metadata_mut().insert("traceparent", self.traceparent.clone());
        if let Some(deadline) = self.deadline {
            request.set_timeout(deadline);
        }
        Ok(request)
    }
}

/// How calls are made.
#[derive(Debug, Clone)]
pub struct Manner {
    /// Deadline of a call, repetitions included.
    pub timeout: Duration,
    /// Calls at most where the service is away.
    pub attempts: u32,
    /// The caller's own request id.
    pub request_id: Option<Uuid>,
}

/// A context in use.
pub struct Session {
    /// Addresses, trust, identity, namespace.
    pub target: Target,
    trace: Arc<Trace>,
    manner: Manner,
    channels: [OnceLock<Channel>; Peer::ALL.len()],
}

impl Session {
    /// Nothing is connected before the first call.
    pub fn new(target: Target, manner: Manner, trace: Arc<Trace>) -> Self {
        Self { target, trace, manner, channels: Default::default() }
    }

    /// The request id of a command's only mutation.
    pub fn request_id(&self) -> String {
        self.manner.request_id.unwrap_or_else(Uuid::new_v4).to_string()
    }

    /// The request id of one mutation of several: from the caller's own if there is one, so that the same command with
    /// the same `--request-id` repeats itself exactly.
    pub fn request_id_for(&self, subject: &str) -> String {
        match self.manner.request_id {
            Some(base) => derived(base, subject).to_string(),
            None => Uuid::new_v4().to_string(),
        }
    }

    /// Makes a call, repeating it while the service is away, or where others changed the same at the same moment.
    pub async fn call<T, F, A>(&self, peer: Peer, rpc: &'static str, call: F) -> Result<T>
    where
        F: Fn(Link) -> A,
        A: Future<Output = Result<Response<T>, Status>>,
    {
        let deadline = Instant::now() + self.manner.timeout;
        let mut pause = FIRST_PAUSE;
        for attempt in 1.. {
            let left = deadline.saturating_duration_since(Instant::now());
            let span = self.trace.call(peer.service_name(), rpc);
            let link = self.link(peer, &span, Some(left))?;
            let Ok(answer) = tokio::time::timeout(left, call(link)).await else {
                span.end(Err(&Status::deadline_exceeded("")));
                return Err(Failure::no_answer(peer, self.manner.timeout));
            };
            span.end(answer.as_ref().map(|_| ()));
            let status = match answer {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) => status,
            };
            let Some(trouble) = passing(&status).filter(|_| attempt < self.manner.attempts && Instant::now() + pause < deadline)
            else {
                return Err(self.failure(peer, &status));
            };
            eprintln!("note: the {peer} {trouble}; trying again ({} of {})", attempt + 1, self.manner.attempts);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
        unreachable!("attempts are counted from one and end the loop")
    }

    /// Opens a stream. The deadline holds for the opening only; the span lasts as long as the answer is kept.
    pub async fn open<T, F, A>(&self, peer: Peer, rpc: &'static str, call: F) -> Result<Opened<T>>
    where
        F: FnOnce(Link) -> A,
        A: Future<Output = Result<Response<Streaming<T>>, Status>>,
    {
        let span = self.trace.call(peer.service_name(), rpc);
        let link = self.link(peer, &span, None)?;
        let Ok(answer) = tokio::time::timeout(self.manner.timeout, call(link)).await else {
            return Err(Failure::no_answer(peer, self.manner.timeout));
        };
        let stream = answer.map_err(|status| self.failure(peer, &status))?.into_inner();
        Ok(Opened { stream, _span: span })
    }

    /// What a service's status means to people.
    pub fn failure(&self, peer: Peer, status: &Status) -> Failure {
        if status.code() == Code::Cancelled && status.message().contains("Timeout expired") {
            return Failure::no_answer(peer, self.manner.timeout);
        }
        Failure::from_status(peer, self.target.address(peer), status)
    }

    fn link(&self, peer: Peer, span: &CallSpan, deadline: Option<Duration>) -> Result<Link> {
        let channel = match self.channels[peer as usize].get() {
            Some(channel) => channel.clone(),
            None => {
                let channel = self.connect(peer)?;
                self.channels[peer as usize].get_or_init(|| channel).clone()
            }
        };
        let authorization = match &self.target.token {
            Some(token) => {
                let mut value = MetadataValue::try_from(format!("Bearer {token}"))
                    .map_err(|_| Failure::usage("token: must be printable ASCII"))?;
                value.set_sensitive(true);
                Some(value)
            }
            None => None,
        };
        let traceparent = MetadataValue::try_from(span.traceparent()).expect("hexadecimal digits and dashes");
        Ok(InterceptedService::new(channel, Identity { authorization, traceparent, deadline }))
    }

    fn connect(&self, peer: Peer) -> Result<Channel> {
        let address = self.target.address(peer);
        let fault = |text: String| Failure::usage(format!("address of the {peer}: {address:?} {text}"));
        let mut endpoint = Endpoint::from_shared(address.to_owned()).map_err(|error| fault(format!("is no URL: {error}")))?;
        match endpoint.uri().scheme_str() {
            Some("https") => {
                let Some(ca_pem) = &self.target.ca_pem else {
                    let failure = Failure::usage("ca_file: the context does not say which authority to trust");
                    return Err(failure.hint("muster config set-context NAME --ca-file ca.pem, or MUSTER_CA_FILE"));
                };
                let tls = ClientTlsConfig::new()
                    .ca_certificate(Certificate::from_pem(ca_pem))
                    .timeout(CONNECT_PATIENCE.min(self.manner.timeout));
                endpoint = endpoint.tls_config(tls).map_err(|error| fault(format!("cannot be trusted: {error}")))?;
            }
            Some("http") if is_loopback(endpoint.uri().host()) => {}
            Some("http") => return Err(fault("must begin with https:// (plain http is for this machine only)".to_owned())),
            _ => return Err(fault("must begin with https://".to_owned())),
        }
        Ok(endpoint
            .user_agent(concat!("muster/", env!("CARGO_PKG_VERSION")))
            .map_err(|error| fault(error.to_string()))?
            .connect_timeout(CONNECT_PATIENCE.min(self.manner.timeout))
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_while_idle(true)
            .connect_lazy())
    }
}

/// A stream with its span.
pub struct Opened<T> {
    /// The messages.
    pub stream: Streaming<T>,
    _span: CallSpan,
}

fn is_loopback(host: Option<&str>) -> bool {
    host.is_some_and(|host| {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    })
}

/// A UUID (version 8) from a base and a subject: the same two give the same one.
fn derived(base: Uuid, subject: &str) -> Uuid {
    let digest = Sha256::new().chain_update(base.as_bytes()).chain_update(subject).finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// A call that must be told apart from failures: `None` where the thing is not there.
pub fn absent_is_none<T>(answer: Result<T>) -> Result<Option<T>> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(failure) if failure.exit == Exit::NotFound => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// What is wrong, in words, where the same call may succeed a moment later: nothing of it happened.
fn passing(status: &Status) -> Option<&'static str> {
    match status.code() {
        Code::Unavailable => Some("is unavailable"),
        // Not a stale etag: that one stays stale.
        Code::Aborted if status.get_error_details().error_info().is_some_and(|info| info.reason == "CONTENTION") => {
            Some("had several changes at once")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::ErrorDetails;

    #[test]
    fn a_derived_request_id_depends_on_base_and_subject_alone() {
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        assert_eq!(derived(one, "queues/a"), derived(one, "queues/a"));
        assert_ne!(derived(one, "queues/a"), derived(one, "queues/b"));
        assert_ne!(derived(one, "queues/a"), derived(two, "queues/a"));
    }

    #[test]
    fn only_this_machine_is_spoken_to_in_clear() {
        for (host, expected) in
            [("127.0.0.1", true), ("[::1]", true), ("localhost", true), ("10.0.0.1", false), ("localhost.example.com", false)]
        {
            assert_eq!(is_loopback(Some(host)), expected, "{host}");
        }
    }

    #[test]
    fn a_call_is_repeated_for_what_passes_and_for_nothing_else() {
        let aborted = |reason: &str| {
            let details = ErrorDetails::with_error_info(reason, "muster.dev", std::collections::HashMap::new());
            Status::with_error_details(Code::Aborted, "came between", details)
        };
        assert_eq!(passing(&Status::unavailable("restarts")), Some("is unavailable"));
        assert_eq!(passing(&aborted("CONTENTION")), Some("had several changes at once"));
        assert_eq!(passing(&aborted("STALE_ETAG")), None);
        assert_eq!(passing(&Status::internal("")), None);
    }
}
