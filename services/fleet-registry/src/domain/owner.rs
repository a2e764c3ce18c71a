//! Owners: which service may write which part of a cluster's desired state.

/// The owners there are.
pub const OWNERS: [&str; 4] = ["scheduler", "rollout", "policy", "fleet"];

/// The owner as which a service writes.
pub fn of_service(service: &str) -> Option<&'static str> {
    match service {
        "scheduler" => Some("scheduler"),
        "rollout" => Some("rollout"),
        "policy" => Some("policy"),
        "fleet-registry" => Some("fleet"),
        _ => None,
    }
}
