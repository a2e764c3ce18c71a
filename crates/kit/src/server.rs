//! The gRPC server: TLS, who calls, a span and a count per RPC, health and reflection, and a drain at the end.

use crate::{
    Error,
    caller::{self, Caller, TokenVerifier},
    config::ServerConfig,
    health::Health,
    metrics, refusal, telemetry,
};
use anyhow::Context as _;
use futures::future::BoxFuture;
use std::{
    collections::HashSet,
    sync::{Arc, LazyLock},
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Status,
    body::Body,
    service::Routes,
    transport::{
        Certificate, Identity, Server, ServerTlsConfig,
        server::{TcpConnectInfo, TcpIncoming, TlsConnectInfo},
    },
};
use tower::{Layer, Service};
use tracing::Instrument;

/// Decides who calls before anything else sees the request.
#[derive(Clone)]
struct Guard {
    verifier: Arc<dyn TokenVerifier>,
}

#[derive(Clone)]
struct Guarded<S> {
    inner: S,
    verifier: Arc<dyn TokenVerifier>,
}

impl<S> Layer<S> for Guard {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { inner, verifier: Arc::clone(&self.verifier) }
    }
}

impl<S> Service<http::Request<Body>> for Guarded<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        // The clone that was polled ready answers this request; a fresh one waits for the next.
        let fresh = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, fresh);
        let verifier = Arc::clone(&self.verifier);
        let method = known_method(request.uri().path());
        let span = tracing::info_span!("rpc", otel.name = method, otel.kind = "server", rpc.method = method);
        if let Some(traceparent) = request.headers().get(telemetry::TRACEPARENT).and_then(|value| value.to_str().ok()) {
            telemetry::continue_trace(&span, traceparent);
        }
        let credentials = Credentials::of(&request);
        Box::pin(
            async move {
                let started = Instant::now();
                let identified = identify(&credentials, verifier.as_ref()).await;
                let response = match identified {
                    Ok(caller) => {
                        request.extensions_mut().insert(caller);
                        refusal::explain(inner.call(request).await?)
                    }
                    Err(error) => Status::from(error).into_http(),
                };
                let code = response.headers().get("grpc-status").and_then(|value| value.to_str().ok()).unwrap_or("0");
                metrics::RPCS.with_label_values(&[method, code_name(code)]).inc();
                metrics::RPC_SECONDS.with_label_values(&[method]).observe(started.elapsed().as_secs_f64());
                Ok(response)
            }
            .instrument(span),
        )
    }
}

/// What anybody may call: health and reflection, and enrolment, whose token is in the request.
fn is_open(path: &str) -> bool {
    path.starts_with("/grpc.") || path.starts_with("/muster.agent.v1.EnrolmentService/")
}

/// What a request says of its caller.
struct Credentials {
    certificate: Option<Vec<u8>>,
    authorization: Option<http::HeaderValue>,
    open: bool,
}

impl Credentials {
    fn of(request: &http::Request<Body>) -> Self {
        let tls = request.extensions().get::<TlsConnectInfo<TcpConnectInfo>>();
        let certificates = tls.and_then(TlsConnectInfo::peer_certs);
        Self {
            certificate: certificates.and_then(|chain| chain.first().map(|certificate| certificate.to_vec())),
            authorization: request.headers().get(http::header::AUTHORIZATION).cloned(),
            open: is_open(request.uri().path()),
        }
    }
}

async fn identify(credentials: &Credentials, verifier: &dyn TokenVerifier) -> Result<Caller, Error> {
    if let Some(certificate) = &credentials.certificate {
        return caller::from_certificate(certificate)
            .ok_or_else(|| Error::unauthenticated("the client certificate names no identity of ours"));
    }
    let Some(header) = &credentials.authorization else {
        if credentials.open {
            return Ok(Caller::Anonymous);
        }
        return Err(Error::unauthenticated("a bearer token or a client certificate is needed"));
    };
    let secret = header.to_str().ok().and_then(|header| header.strip_prefix("Bearer "));
    let secret = secret.ok_or_else(|| Error::unauthenticated("authorization: must be `Bearer <token>`"))?;
    let (subject, role) = verifier.verify(secret).await?;
    Ok(Caller::Person { subject, role })
}

/// Every method we declare, so that a metric label never comes from a caller.
static METHODS: LazyLock<HashSet<String>> = LazyLock::new(|| {
    let set = <prost_types::FileDescriptorSet as prost::Message>::decode(muster_proto::DESCRIPTORS)
        .expect("the build wrote the descriptors");
    let mut methods = HashSet::new();
    for file in set.file {
        for service in &file.service {
            for method in &service.method {
                methods.insert(format!("/{}.{}/{}", file.package(), service.name(), method.name()));
            }
        }
    }
    methods
});

fn known_method(path: &str) -> &'static str {
    METHODS.get(path).map_or("other", String::as_str)
}

fn code_name(code: &str) -> &'static str {
    match code.parse::<i32>().map_or(Code::Unknown, Code::from) {
        Code::Ok => "ok",
        Code::Cancelled => "cancelled",
        Code::Unknown => "unknown",
        Code::InvalidArgument => "invalid_argument",
        Code::DeadlineExceeded => "deadline_exceeded",
        Code::NotFound => "not_found",
        Code::AlreadyExists => "already_exists",
        Code::PermissionDenied => "permission_denied",
        Code::ResourceExhausted => "resource_exhausted",
        Code::FailedPrecondition => "failed_precondition",
        Code::Aborted => "aborted",
        Code::OutOfRange => "out_of_range",
        Code::Unimplemented => "unimplemented",
        Code::Internal => "internal",
        Code::Unavailable => "unavailable",
        Code::DataLoss => "data_loss",
        Code::Unauthenticated => "unauthenticated",
    }
}

/// Serves until `shutdown`, then drains.
pub async fn serve(
    config: &ServerConfig,
    routes: Routes,
    services: &[&'static str],
    verifier: Arc<dyn TokenVerifier>,
    health: Health,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let read = |file: &std::path::Path| std::fs::read(file).with_context(|| format!("reading {}", file.display()));
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(read(&config.certificate_file)?, read(&config.key_file)?))
        .client_ca_root(Certificate::from_pem(read(&config.ca_file)?))
        // Bearers have no certificate; who has one must have it from us.
        .client_auth_optional(true);

    let (reporter, health_service) = tonic_health::server::health_reporter();
    let mut reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(muster_proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
    for service in services.iter().chain(&["grpc.health.v1.Health"]) {
        reflection = reflection.with_service_name(*service);
    }
    let routes = routes.add_service(health_service).add_service(reflection.build_v1()?);

    let http = TcpListener::bind(config.http_address).await.with_context(|| format!("listening on {}", config.http_address))?;
    let grpc = TcpListener::bind(config.address).await.with_context(|| format!("listening on {}", config.address))?;
    tracing::info!(grpc = %grpc.local_addr()?, http = %http.local_addr()?, "serving");
    // Nagle's algorithm and the peer's delayed acknowledgements would hold every second small message back for 40 ms.
    let incoming = TcpIncoming::from(grpc).with_nodelay(Some(true));

    let http = axum::serve(http, metrics::router(health.clone())).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    let grpc = Server::builder()
        .tls_config(tls)?
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
        .http2_keepalive_timeout(Some(Duration::from_secs(5)))
        .max_concurrent_streams(1_024)
        .layer(Guard { verifier })
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming, shutdown.clone().cancelled_owned());
    let watch = watch_health(reporter, services, health, shutdown);
    let (http, grpc, ()) = tokio::join!(async { http.await }, grpc, watch);
    http.context("the HTTP server")?;
    grpc.context("the gRPC server")
}

/// Keeps gRPC health in step with the service's own.
async fn watch_health(
    reporter: tonic_health::server::HealthReporter,
    services: &[&'static str],
    health: Health,
    shutdown: CancellationToken,
) {
    loop {
        let ready = health.ready() && !shutdown.is_cancelled();
        let status = if ready { tonic_health::ServingStatus::Serving } else { tonic_health::ServingStatus::NotServing };
        reporter.set_service_status("", status).await;
        for service in services {
            reporter.set_service_status(*service, status).await;
        }
        if shutdown.is_cancelled() {
            return;
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(Duration::from_millis(500)) => {}
        }
    }
}
