//! Calling another service: one lazily connected channel with our own certificate, the trace, and a deadline.

use crate::{
    Error, Result, Role,
    caller::TokenVerifier,
    clock::SharedClock,
    config::{PeersConfig, ServerConfig},
    telemetry,
};
use anyhow::Context;
use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use muster_proto::registry::v1::{IntrospectAccessTokenRequest, access_token_service_client::AccessTokenServiceClient};
use sha2::{Digest, Sha256};
use std::{collections::HashMap, sync::Mutex, time::Duration};
use tonic::{
    Request, Status,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

/// A channel to a peer that hands the trace on.
pub type PeerChannel = InterceptedService<Channel, HandOnTrace>;

/// A message from a peer, at most: a page of 1,000 clusters with their inventories.
pub const MAX_MESSAGE_BYTES: usize = 32 * 1024 * 1024;

/// Puts the present span's `traceparent` into a request.
#[derive(Debug, Clone, Copy, Default)]
pub struct HandOnTrace;

impl Interceptor for HandOnTrace {
    fn call(&mut self, mut request: Request<()>) -> std::result::Result<Request<()>, Status> {
        if let Ok(value) = telemetry::current_traceparent().parse()
            && !telemetry::current_traceparent().is_empty()
        {
            request.metadata_mut().insert(telemetry::TRACEPARENT, value);
        }
        Ok(request)
    }
}

/// How the peers are reached.
#[derive(Debug, Clone)]
pub struct Peers {
    addresses: PeersConfig,
    tls: ClientTlsConfig,
}

impl Peers {
    /// Reads our certificate; nothing is dialled yet.
    pub fn new(addresses: &PeersConfig, server: &ServerConfig) -> anyhow::Result<Self> {
        let read = |file: &std::path::Path| std::fs::read(file).with_context(|| format!("reading {}", file.display()));
        let tls = ClientTlsConfig::new()
            .timeout(CONNECT_WITHIN)
            .ca_certificate(Certificate::from_pem(read(&server.ca_file)?))
            .identity(Identity::from_pem(read(&server.certificate_file)?, read(&server.key_file)?));
        Ok(Self { addresses: addresses.clone(), tls })
    }

    /// The registry.
    pub fn registry(&self) -> anyhow::Result<PeerChannel> {
        self.channel("peers.registry", self.addresses.registry.as_deref())
    }

    /// The scheduler.
    pub fn scheduler(&self) -> anyhow::Result<PeerChannel> {
        self.channel("peers.scheduler", self.addresses.scheduler.as_deref())
    }

    /// The rollout service.
    pub fn rollout(&self) -> anyhow::Result<PeerChannel> {
        self.channel("peers.rollout", self.addresses.rollout.as_deref())
    }

    /// The policy service.
    pub fn policy(&self) -> anyhow::Result<PeerChannel> {
        self.channel("peers.policy", self.addresses.policy.as_deref())
    }

    fn channel(&self, key: &'static str, address: Option<&str>) -> anyhow::Result<PeerChannel> {
        let address = address.with_context(|| format!("{key}: is missing"))?.to_owned();
        let endpoint = Endpoint::from_shared(address)
            .with_context(|| format!("{key}: not an address such as https://127.0.0.1:7401"))?
            .tls_config(self.tls.clone())?
            .connect_timeout(CONNECT_WITHIN)
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(Duration::from_secs(5))
            .keep_alive_while_idle(true);
        Ok(InterceptedService::new(endpoint.connect_lazy(), HandOnTrace))
    }
}

/// How long a peer may take to answer a connection, and its handshake.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);

/// A request with a deadline; every call to a peer has one.
pub fn request<T>(message: T, deadline: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(deadline);
    request
}

/// What a peer's refusal means to our own caller: the peer away is Unavailable, anything else is our fault.
pub fn failed(peer: &'static str, status: Status) -> Error {
    match status.code() {
        tonic::Code::Unavailable | tonic::Code::DeadlineExceeded | tonic::Code::Cancelled => {
            tracing::warn!(peer, error = %status, "a peer is away");
            Error::unavailable("PEER_AWAY", format!("the {peer} service is away; try again"))
        }
        _ => Error::internal(anyhow::anyhow!("{peer} answered {status}")),
    }
}

/// Asks the registry whose token it is, and remembers for half a minute.
pub struct RegistryVerifier {
    client: AccessTokenServiceClient<PeerChannel>,
    clock: SharedClock,
    known: Mutex<HashMap<[u8; 32], Known>>,
}

struct Known {
    subject: String,
    role: Role,
    until: Timestamp,
}

/// How long a token is remembered; a deleted one is forgotten no later (the API says so).
const REMEMBERED: SignedDuration = SignedDuration::from_secs(30);
/// Tokens remembered at most; past that the memory is emptied, which costs one question each.
const MAX_REMEMBERED: usize = 10_000;

impl RegistryVerifier {
    /// A verifier that asks over `channel`.
    pub fn new(channel: PeerChannel, clock: SharedClock) -> Self {
        Self { client: AccessTokenServiceClient::new(channel), clock, known: Mutex::new(HashMap::new()) }
    }
}

#[async_trait]
impl TokenVerifier for RegistryVerifier {
    async fn verify(&self, secret: &str) -> Result<(String, Role)> {
        let key: [u8; 32] = Sha256::digest(secret).into();
        let now = self.clock.now();
        if let Some(known) = self.known.lock().expect("no holder of this lock panics").get(&key)
            && known.until > now
        {
            return Ok((known.subject.clone(), known.role));
        }
        let question = request(IntrospectAccessTokenRequest { secret: secret.to_owned() }, Duration::from_secs(3));
        let answer = match self.client.clone().introspect_access_token(question).await {
            Ok(answer) => answer.into_inner(),
            Err(status) if status.code() == tonic::Code::Unauthenticated => {
                return Err(Error::unauthenticated("the bearer token is unknown or expired"));
            }
            Err(status) => return Err(failed("fleet-registry", status)),
        };
        let role = role_from_proto(answer.role()).ok_or_else(|| Error::unauthenticated("the bearer token has no role"))?;
        let mut known = self.known.lock().expect("no holder of this lock panics");
        if known.len() >= MAX_REMEMBERED {
            known.clear();
        }
        known.insert(key, Known { subject: answer.subject.clone(), role, until: now + REMEMBERED });
        Ok((answer.subject, role))
    }
}

/// Inwards: `None` for the unspecified role.
pub fn role_from_proto(role: muster_proto::registry::v1::Role) -> Option<Role> {
    use muster_proto::registry::v1::Role as Wire;
    match role {
        Wire::Unspecified => None,
        Wire::Viewer => Some(Role::Viewer),
        Wire::Operator => Some(Role::Operator),
        Wire::Admin => Some(Role::Admin),
    }
}
