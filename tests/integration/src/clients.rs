//! The services' RPCs, as a person or pipeline with a bearer token calls them.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use muster_proto::policy::v1 as policy;
use muster_proto::registry::v1 as registry;
use muster_proto::rollout::v1 as rollout;
use muster_proto::scheduler::v1 as scheduler;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status};

use crate::platform::{Pki, Service};

/// A page of clusters with inventories is larger than tonic's 4 MiB.
pub(crate) const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// Every call's deadline.
const DEADLINE: Duration = Duration::from_secs(20);

/// A channel that says who calls.
pub type Link = InterceptedService<Channel, Caller>;

/// Adds the bearer token.
#[derive(Clone, Debug)]
pub struct Caller {
    authorization: Option<MetadataValue<Ascii>>,
}

impl Interceptor for Caller {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(authorization) = &self.authorization {
            request.metadata_mut().insert("authorization", authorization.clone());
        }
        request.set_timeout(DEADLINE);
        Ok(request)
    }
}

/// The addresses of the four services, as URLs.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// fleet-registry.
    pub registry: String,
    /// scheduler.
    pub scheduler: String,
    /// rollout.
    pub rollout: String,
    /// policy.
    pub policy: String,
}

/// Clients of all services, made anew for each call: they are cheap, the channels are shared.
#[derive(Debug, Clone)]
pub struct Clients {
    registry: Channel,
    scheduler: Channel,
    rollout: Channel,
    policy: Channel,
    caller: Caller,
}

macro_rules! client {
    ($name:ident, $channel:ident, $client:path) => {
        #[doc = concat!("A client of `", stringify!($client), "`.")]
        pub fn $name(&self) -> $client {
            <$client>::new(InterceptedService::new(self.$channel.clone(), self.caller.clone()))
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
        }
    };
}

impl Clients {
    /// Clients that trust the authority in `ca_file` and carry this token (none: nobody in particular). Nothing is
    /// connected before the first call.
    ///
    /// # Errors
    /// The file can't be read, or an address is no URL.
    pub fn new(addresses: &Addresses, ca_file: &Path, token: Option<&str>) -> Result<Self> {
        Self::connect(addresses, ca_file, token, None)
    }

    fn connect(addresses: &Addresses, ca_file: &Path, token: Option<&str>, identity: Option<Identity>) -> Result<Self> {
        let ca = std::fs::read(ca_file).with_context(|| format!("read {}", ca_file.display()))?;
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca)).domain_name("localhost");
        if let Some(identity) = identity {
            tls = tls.identity(identity);
        }
        let channel = |address: &str| -> Result<Channel> {
            Ok(Endpoint::from_shared(address.to_owned())?
                .tls_config(tls.clone())?
                .connect_timeout(Duration::from_secs(5))
                .connect_lazy())
        };
        let authorization = token.map(|token| format!("Bearer {token}").parse()).transpose().context("the token")?;
        Ok(Self {
            registry: channel(&addresses.registry)?,
            scheduler: channel(&addresses.scheduler)?,
            rollout: channel(&addresses.rollout)?,
            policy: channel(&addresses.policy)?,
            caller: Caller { authorization },
        })
    }

    /// Clients that call as a service does, with its certificate.
    ///
    /// # Errors
    /// A file can't be read, or an address is no URL.
    pub fn as_service(addresses: &Addresses, pki: &Pki, service: Service) -> Result<Self> {
        let read = |file: &Path| std::fs::read(file).with_context(|| format!("read {}", file.display()));
        let identity = Identity::from_pem(read(&pki.certificate(service))?, read(&pki.key(service))?);
        Self::connect(addresses, &pki.ca(), None, Some(identity))
    }

    /// The bare link to a service, for calls that no generated client makes.
    pub fn link(&self, service: Service) -> Link {
        let channel = match service {
            Service::Registry => &self.registry,
            Service::Scheduler => &self.scheduler,
            Service::Rollout => &self.rollout,
            Service::Policy => &self.policy,
        };
        InterceptedService::new(channel.clone(), self.caller.clone())
    }

    client!(desired, registry, registry::desired_service_client::DesiredServiceClient<Link>);
    client!(clusters, registry, registry::cluster_service_client::ClusterServiceClient<Link>);
    client!(fleets, registry, registry::fleet_service_client::FleetServiceClient<Link>);
    client!(price_books, registry, registry::price_book_service_client::PriceBookServiceClient<Link>);
    client!(enrolment_tokens, registry, registry::enrolment_token_service_client::EnrolmentTokenServiceClient<Link>);
    client!(access_tokens, registry, registry::access_token_service_client::AccessTokenServiceClient<Link>);
    client!(queues, scheduler, scheduler::queue_service_client::QueueServiceClient<Link>);
    client!(jobs, scheduler, scheduler::job_service_client::JobServiceClient<Link>);
    client!(applications, rollout, rollout::application_service_client::ApplicationServiceClient<Link>);
    client!(releases, rollout, rollout::release_service_client::ReleaseServiceClient<Link>);
    client!(models, rollout, rollout::model_service_client::ModelServiceClient<Link>);
    client!(repositories, rollout, rollout::git_repository_service_client::GitRepositoryServiceClient<Link>);
    client!(policies, policy, policy::policy_service_client::PolicyServiceClient<Link>);
    client!(fleet_policies, policy, policy::fleet_policy_service_client::FleetPolicyServiceClient<Link>);
    client!(verdicts, policy, policy::verdict_service_client::VerdictServiceClient<Link>);
}
