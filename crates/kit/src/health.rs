//! Whether a service and the parts it needs are well: gRPC health, `/readyz`, and a line in the log at each change.

use serde::Serialize;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

/// The health of a service's parts.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Mutex<BTreeMap<&'static str, Option<String>>>>);

/// One part's health, for `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartHealth {
    /// The part, as in `postgres`.
    pub part: &'static str,
    /// Why it is not well; absent if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl Health {
    /// Says how a part is; a change is logged.
    pub fn report(&self, part: &'static str, problem: Option<String>) {
        let before = {
            let mut parts = self.0.lock().expect("no holder of this lock panics");
            parts.insert(part, problem.clone())
        };
        match (before.flatten(), problem) {
            (None, Some(problem)) => tracing::warn!(part, problem, "not well"),
            (Some(_), None) => tracing::info!(part, "well again"),
            (Some(_), Some(_)) | (None, None) => {}
        }
    }

    /// Every part that has reported.
    pub fn parts(&self) -> Vec<PartHealth> {
        let parts = self.0.lock().expect("no holder of this lock panics");
        parts.iter().map(|(part, problem)| PartHealth { part, problem: problem.clone() }).collect()
    }

    /// Whether the service can do its work: its database is there. Other parts degrade it and are only shown.
    pub fn ready(&self) -> bool {
        let parts = self.0.lock().expect("no holder of this lock panics");
        matches!(parts.get("postgres"), Some(None))
    }
}
