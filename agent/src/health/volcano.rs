//! Health of Volcano's Job and Queue, by the phase in their status.

use crate::domain::{object::text, observation::Health};
use serde_json::Value;

pub(super) fn job(live: &Value) -> Health {
    let message = text(live, "/status/state/message");
    match text(live, "/status/state/phase") {
        "Completed" => Health::healthy(),
        phase @ ("Failed" | "Aborted" | "Terminated") => {
            let reason = text(live, "/status/state/reason");
            Health::degraded(if reason.is_empty() { phase } else { reason }, message)
        }
        "" => Health::progressing("Pending", "its controller has not seen it yet"),
        phase => Health::progressing(phase, message),
    }
}

pub(super) fn queue(live: &Value) -> Health {
    match text(live, "/status/state") {
        "Open" => Health::healthy(),
        "" => Health::progressing("Pending", "its controller has not seen it yet"),
        state @ ("Closed" | "Closing") => Health::suspended(format!("the queue is {}", state.to_lowercase())),
        state => Health::degraded(state, "the queue's state is not known"),
    }
}
