//! The wire: five lines an RPC; what they mean is in `app`.

pub mod convert;
mod jobs;
mod queues;
mod what_if;

use muster_kit::watch::Tail;
use muster_kit::{Error, Result};
use muster_proto::scheduler::v1::job_service_server::JobServiceServer;
use muster_proto::scheduler::v1::queue_service_server::QueueServiceServer;
use tonic::service::Routes;

use crate::app::App;

/// A request of at most this size is read: a manifest of 1 MiB and what comes around it.
const MAX_REQUEST_BYTES: usize = 2 * 1024 * 1024;
/// A page of 1,000 jobs with manifests of a usual size.
const MAX_RESPONSE_BYTES: usize = 32 * 1024 * 1024;

/// The services, for the chassis' reflection and health.
pub const SERVICES: &[&str] = &["muster.scheduler.v1.JobService", "muster.scheduler.v1.QueueService"];

/// Serves everything over the app.
#[must_use]
pub fn routes(app: App, tail: Tail) -> Routes {
    let jobs = JobServiceServer::new(jobs::Jobs { app: app.clone(), tail })
        .max_decoding_message_size(MAX_REQUEST_BYTES)
        .max_encoding_message_size(MAX_RESPONSE_BYTES);
    let queues = QueueServiceServer::new(queues::Queues { app })
        .max_decoding_message_size(MAX_REQUEST_BYTES)
        .max_encoding_message_size(MAX_RESPONSE_BYTES);
    Routes::new(jobs).add_service(queues)
}

/// The identifier in a field that names one resource of a collection; empty stays empty.
fn identifier<'a>(field: &str, collection: &str, name: &'a str) -> Result<&'a str> {
    if name.is_empty() {
        return Ok("");
    }
    name.strip_prefix(collection)
        .and_then(|rest| rest.strip_prefix('/'))
        .filter(|id| !id.is_empty() && !id.contains('/'))
        .ok_or_else(|| Error::invalid(field, format!("must be of the form {collection}/{{id}}")))
}
