//! Inwards: the question of a `WhatIf`.

use muster_core::name::ClusterName;
use muster_kit::error::{parse_manifest, parse_name};
use muster_kit::{Error, Result};
use muster_proto::scheduler::v1::{WhatIfNodes, WhatIfPrice, WhatIfRequest, what_if_change};

use crate::app::App;
use crate::app::forecast::FARTHEST_MS;
use crate::app::what_if::{Answer, Change, MOST_CHANGES, MOST_NODES};

/// What a horizon of 0 means: a day.
const USUAL_HORIZON_MS: i64 = 24 * 60 * 60 * 1_000;
/// A queue's manifest, at most.
const MAX_MANIFEST_BYTES: usize = 256 * 1024;

/// Asks.
pub(super) async fn what_if(app: &App, request: WhatIfRequest) -> Result<Answer> {
    let WhatIfRequest { changes, horizon_seconds, max_jobs } = request;
    if changes.is_empty() || changes.len() > MOST_CHANGES {
        return Err(Error::invalid("changes", format!("must be 1 to {MOST_CHANGES}")));
    }
    let horizon_ms = match horizon_seconds {
        0 => USUAL_HORIZON_MS,
        seconds if (1..=FARTHEST_MS / 1_000).contains(&seconds) => seconds * 1_000,
        _ => return Err(Error::invalid("horizon_seconds", format!("must be 0 to {}", FARTHEST_MS / 1_000))),
    };
    let most_jobs = match max_jobs {
        0 => 50,
        1.. => max_jobs.min(1_000).unsigned_abs() as usize,
        _ => return Err(Error::invalid("max_jobs", "must not be negative")),
    };
    let changes = changes.into_iter().enumerate();
    let changes = changes.map(|(at, change)| one(&format!("changes[{at}]"), change.change)).collect::<Result<_>>()?;
    app.what_if(changes, horizon_ms, most_jobs).await
}

fn one(path: &str, change: Option<what_if_change::Change>) -> Result<Change> {
    let cluster = |field: &str, name: &str| {
        parse_name::<ClusterName>(&format!("{path}.{field}.cluster"), name).map(|name| name.cluster().to_owned())
    };
    match change.ok_or_else(|| Error::invalid(path, "is empty"))? {
        what_if_change::Change::Nodes(WhatIfNodes { cluster: name, flavor, count }) => {
            if count == 0 || count.unsigned_abs() > MOST_NODES.unsigned_abs() {
                let why = format!("must be 1 to {MOST_NODES} either way");
                return Err(Error::invalid(format!("{path}.nodes.count"), why));
            }
            Ok(Change::Nodes { cluster: cluster("nodes", &name)?, flavor, count })
        }
        what_if_change::Change::Price(WhatIfPrice { cluster: name, flavor, micros_per_gpu_hour }) => {
            if micros_per_gpu_hour < 0 {
                return Err(Error::invalid(format!("{path}.price.micros_per_gpu_hour"), "must not be negative"));
            }
            if flavor.is_empty() {
                return Err(Error::invalid(format!("{path}.price.flavor"), "is missing"));
            }
            Ok(Change::Price { cluster: cluster("price", &name)?, flavor, micros_per_gpu_hour })
        }
        what_if_change::Change::QueueManifest(text) => {
            Ok(Change::Queue(parse_manifest(&format!("{path}.queue_manifest"), &text, MAX_MANIFEST_BYTES)?))
        }
    }
}
