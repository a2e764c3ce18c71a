//! Logs and traces. A trace goes from the first RPC through Postgres, Kafka and the agent link as a W3C `traceparent`.
//!
//! Spans are always made, so that a `traceparent` exists to be stored; they are sent where an OTLP endpoint is set.

use crate::config::{LogFormat, TelemetryConfig};
use anyhow::Context as _;
use opentelemetry::{
    Context, KeyValue,
    propagation::{Extractor, Injector, TextMapPropagator},
    trace::{TraceContextExt, TracerProvider},
};
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use std::collections::HashMap;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

/// The W3C header, which is also the name of our columns and message fields.
pub const TRACEPARENT: &str = "traceparent";

/// Keeps the exporter alive; dropping it sends what is left.
#[must_use]
pub struct Telemetry {
    provider: SdkTracerProvider,
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Err(error) = self.provider.shutdown_with_timeout(std::time::Duration::from_secs(2)) {
            tracing::debug!(error = %error, "the last spans could not be sent");
        }
    }
}

/// Starts logging and tracing for the process. Must be called within the runtime.
pub fn start(service: &str, config: &TelemetryConfig) -> anyhow::Result<Telemetry> {
    let resource = Resource::builder().with_service_name(service.to_owned()).build();
    let mut provider = SdkTracerProvider::builder().with_resource(resource);
    if let Some(endpoint) = &config.otlp_endpoint {
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .build()
            .context("telemetry.otlp_endpoint")?;
        provider = provider.with_batch_exporter(exporter);
    }
    let provider = provider.build();
    let spans = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("muster"))
        // A level filter of its own: lowering the log level must not cut traces in two.
        .with_filter(EnvFilter::new("info,h2=off,hyper=off,tonic=off,tower=off,sqlx=off"));
    let lines = match config.log_format {
        LogFormat::Text => tracing_subscriber::fmt::layer().with_target(false).with_writer(std::io::stderr).boxed(),
        LogFormat::Json => {
            tracing_subscriber::fmt::layer().json().flatten_event(true).with_span_list(false).with_writer(std::io::stderr).boxed()
        }
    };
    let filter = EnvFilter::try_new(&config.log_filter).context("telemetry.log_filter")?;
    tracing_subscriber::registry().with(spans).with(lines.with_filter(filter)).init();
    Ok(Telemetry { provider })
}

struct Carrier<'a>(&'a mut HashMap<String, String>);

impl Injector for Carrier<'_> {
    fn set(&mut self, key: &str, value: String) {
        self.0.insert(key.to_owned(), value);
    }
}

impl Extractor for Carrier<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }
}

/// The present span as a `traceparent`; empty outside of any.
pub fn current_traceparent() -> String {
    traceparent_of(&Span::current())
}

/// A span as a `traceparent`; empty where it is not traced.
pub fn traceparent_of(span: &Span) -> String {
    let mut fields = HashMap::new();
    TraceContextPropagator::new().inject_context(&span.context(), &mut Carrier(&mut fields));
    fields.remove(TRACEPARENT).unwrap_or_default()
}

/// Makes a span the child of what a `traceparent` names. Malformed or empty: the span stays a root.
pub fn continue_trace(span: &Span, traceparent: &str) {
    if traceparent.is_empty() {
        return;
    }
    let mut fields = HashMap::from([(TRACEPARENT.to_owned(), traceparent.to_owned())]);
    let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &Carrier(&mut fields));
    if parent.span().span_context().is_valid() && span.set_parent(parent).is_err() {
        tracing::debug!("a span had begun before its parent was known");
    }
}

/// A key and value for a span event.
pub fn attribute(key: &'static str, value: impl Into<opentelemetry::Value>) -> KeyValue {
    KeyValue::new(key, value)
}
