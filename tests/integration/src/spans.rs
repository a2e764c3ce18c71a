//! Receives the spans of every process, where nobody else collects them.

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// Kept at most; a demo makes some tens of thousands. Later ones are counted and dropped.
const MAX_SPANS: usize = 500_000;

/// A span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// 32 hexadecimal digits.
    pub trace: String,
    /// 16 hexadecimal digits.
    pub id: String,
    /// Empty at the root.
    pub parent: String,
    /// Which process made it: `service.name`.
    pub service: String,
    /// What it was doing.
    pub name: String,
    /// Nanoseconds since 1970.
    pub start: u64,
    /// Nanoseconds since 1970.
    pub end: u64,
}

#[derive(Debug, Default)]
struct Store {
    spans: Vec<Span>,
    dropped: u64,
}

/// An OTLP receiver on a free loopback port.
pub struct Spans {
    address: SocketAddr,
    store: Arc<Mutex<Store>>,
    server: JoinHandle<()>,
}

impl Spans {
    /// Starts receiving.
    ///
    /// # Errors
    /// The port can't be opened.
    pub async fn receive() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("listen for spans")?;
        let address = listener.local_addr()?;
        let store = Arc::new(Mutex::new(Store::default()));
        let service = TraceServiceServer::new(Receiver { store: Arc::clone(&store) });
        let server = tokio::spawn(async move {
            let served = tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await;
            if let Err(error) = served {
                eprintln!("spans are not received any more: {error}");
            }
        });
        Ok(Self { address, store, server })
    }

    /// What the processes are told, as in `http://127.0.0.1:4317`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The spans of a trace, in order of their start.
    pub fn trace(&self, trace: &str) -> Vec<Span> {
        let store = self.store.lock().expect("no holder of this lock panics");
        let mut spans: Vec<Span> = store.spans.iter().filter(|span| span.trace == trace).cloned().collect();
        spans.sort_by_key(|span| span.start);
        spans
    }

    /// Spans that came after the store was full.
    pub fn dropped(&self) -> u64 {
        self.store.lock().expect("no holder of this lock panics").dropped
    }
}

impl Drop for Spans {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Spans whose parent is not among them, the root apart.
pub fn orphans(spans: &[Span]) -> Vec<&Span> {
    let known: std::collections::HashSet<&str> = spans.iter().map(|span| span.id.as_str()).collect();
    spans.iter().filter(|span| !span.parent.is_empty() && !known.contains(span.parent.as_str())).collect()
}

/// The spans of one trace as an indented tree, children by start.
pub fn tree(spans: &[Span]) -> String {
    let mut children: HashMap<&str, Vec<&Span>> = HashMap::new();
    for span in spans {
        children.entry(&span.parent).or_default().push(span);
    }
    let start = spans.iter().map(|span| span.start).min().unwrap_or(0);
    let mut lines = String::new();
    // Depth first, without recursion: a trace's depth is not ours to bound.
    let mut stack: Vec<(&Span, usize)> = roots(spans).into_iter().rev().map(|r| (r, 0)).collect();
    while let Some((span, depth)) = stack.pop() {
        let millis = |nanos: u64| nanos as f64 / 1e6;
        lines.push_str(&format!(
            "  {:>9.1} ms  {:indent$}{} {} ({:.1} ms)\n",
            millis(span.start - start),
            "",
            span.service,
            span.name,
            millis(span.end.saturating_sub(span.start)),
            indent = depth * 2,
        ));
        if let Some(below) = children.get(span.id.as_str()) {
            stack.extend(below.iter().rev().map(|child| (*child, depth + 1)));
        }
    }
    lines
}

fn roots(spans: &[Span]) -> Vec<&Span> {
    let mut roots: Vec<&Span> = spans.iter().filter(|span| span.parent.is_empty()).collect();
    roots.extend(orphans(spans));
    roots
}

struct Receiver {
    store: Arc<Mutex<Store>>,
}

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(&self, request: Request<ExportTraceServiceRequest>) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut store = self.store.lock().expect("no holder of this lock panics");
        for resource in request.into_inner().resource_spans {
            let attributes: BTreeMap<String, String> = resource
                .resource
                .map(|resource| resource.attributes)
                .unwrap_or_default()
                .into_iter()
                .filter_map(|attribute| match attribute.value?.value? {
                    Value::StringValue(text) => Some((attribute.key, text)),
                    _ => None,
                })
                .collect();
            let service = attributes.get("service.name").cloned().unwrap_or_else(|| "unknown".to_owned());
            for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                if store.spans.len() >= MAX_SPANS {
                    store.dropped += 1;
                    continue;
                }
                store.spans.push(Span {
                    trace: hexadecimal(&span.trace_id),
                    id: hexadecimal(&span.span_id),
                    parent: hexadecimal(&span.parent_span_id),
                    service: service.clone(),
                    name: span.name,
                    start: span.start_time_unix_nano,
                    end: span.end_time_unix_nano,
                });
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
