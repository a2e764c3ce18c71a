//! One trace an invocation, one span a call: every request carries a W3C `traceparent`.
//!
//! The spans are exported over OTLP if and only if `OTEL_EXPORTER_OTLP_ENDPOINT` is set. A `TRACEPARENT` in the
//! environment is continued, so that a script's trace holds what it called.

use opentelemetry::{
    Context, KeyValue,
    trace::{
        Span as _, SpanContext, SpanId, SpanKind, Status as SpanStatus, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer,
        TracerProvider,
    },
};
use opentelemetry_sdk::{
    Resource,
    trace::{SdkTracer, SdkTracerProvider, Span},
};
use std::time::Duration;
use tonic::Status;

/// A collector that does not take the spans within this is left behind: a command must end.
const EXPORT_PATIENCE: Duration = Duration::from_secs(2);

/// The trace of this invocation.
pub struct Trace {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    root: Context,
}

impl Trace {
    /// Begins the trace with a span for the command. Within a runtime.
    pub fn start(command: &'static str) -> Self {
        let mut builder = SdkTracerProvider::builder().with_resource(Resource::builder().with_service_name("muster").build());
        if std::env::var_os("OTEL_EXPORTER_OTLP_ENDPOINT").is_some_and(|endpoint| !endpoint.is_empty()) {
            match opentelemetry_otlp::SpanExporter::builder().with_tonic().build() {
                Ok(exporter) => builder = builder.with_batch_exporter(exporter),
                Err(error) => eprintln!("note: spans are not exported: OTEL_EXPORTER_OTLP_ENDPOINT: {error}"),
            }
        }
        let provider = builder.build();
        let tracer = provider.tracer("muster");
        let parent = match std::env::var("TRACEPARENT").ok().and_then(|text| parse_traceparent(&text)) {
            Some(parent) => Context::new().with_remote_span_context(parent),
            None => Context::new(),
        };
        let span =
            tracer.span_builder(format!("muster {command}")).with_kind(SpanKind::Internal).start_with_context(&tracer, &parent);
        let root = parent.with_span(span);
        Self { provider, tracer, root }
    }

    /// Begins the span of one call, named as in the proto file; a generated method's name is taken too.
    pub fn call(&self, service: &'static str, rpc: &'static str) -> CallSpan {
        let rpc = method_name(rpc);
        let builder = self.tracer.span_builder(rpc.clone()).with_kind(SpanKind::Client);
        let mut span = builder.start_with_context(&self.tracer, &self.root);
        span.set_attribute(KeyValue::new("rpc.system", "grpc"));
        span.set_attribute(KeyValue::new("rpc.method", rpc));
        span.set_attribute(KeyValue::new("peer.service", service));
        CallSpan(span)
    }

    /// Ends the trace and hands what is left to the collector.
    pub fn finish(&self, failure: Option<String>) {
        if let Some(message) = failure {
            self.root.span().set_status(SpanStatus::error(message));
        }
        self.root.span().end();
        if let Err(error) = self.provider.shutdown_with_timeout(EXPORT_PATIENCE) {
            eprintln!("note: the trace is incomplete: {error}");
        }
    }
}

/// The span of one call; it ends when dropped.
pub struct CallSpan(Span);

impl CallSpan {
    /// The header that makes the service's span a child of this one.
    pub fn traceparent(&self) -> String {
        let context = self.0.span_context();
        format!("00-{}-{}-{:02x}", context.trace_id(), context.span_id(), context.trace_flags().to_u8())
    }

    /// Ends it with what the call answered.
    pub fn end(mut self, answer: Result<(), &Status>) {
        if let Err(status) = answer {
            self.0.set_status(SpanStatus::error(format!("{:?}", status.code())));
        }
        self.0.end();
    }
}

/// `get_job` as `GetJob`.
fn method_name(rpc: &str) -> String {
    rpc.split('_')
        .filter_map(|word| word.split_at_checked(1))
        .flat_map(|(first, rest)| [first.to_uppercase(), rest.to_owned()])
        .collect()
}

/// Reads `00-{trace}-{span}-{flags}`; anything else is no parent.
fn parse_traceparent(text: &str) -> Option<SpanContext> {
    let [version, trace, span, flags] = text.split('-').collect::<Vec<_>>()[..] else { return None };
    if version != "00" || trace.len() != 32 || span.len() != 16 {
        return None;
    }
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?);
    let context =
        SpanContext::new(TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?, flags, true, TraceState::default());
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_one_command_share_its_trace_and_have_spans_of_their_own() {
        let trace = Trace::start("get");
        let (one, two) = (trace.call("scheduler", "GetJob").traceparent(), trace.call("scheduler", "GetJob").traceparent());
        assert_eq!(one.len(), 55);
        assert_eq!(one[..36], two[..36]);
        assert_ne!(one, two);
        assert!(one.ends_with("-01"), "{one}");
    }

    #[test]
    fn a_call_has_one_name_however_it_was_written() {
        assert_eq!([method_name("get_job"), method_name("GetJob")], ["GetJob", "GetJob"]);
    }

    #[test]
    fn only_a_legal_traceparent_is_continued() {
        let legal = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert!(parse_traceparent(legal).is_some());
        for text in ["", "00-0-0-01", "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", &legal.replace('4', "g")] {
            assert!(parse_traceparent(text).is_none(), "{text:?}");
        }
    }
}
