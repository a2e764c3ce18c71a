//! Two versions side by side: from what git renders to the objects of a target's bundle.
//!
//! A managed workload runs as *copies* named by their revision; a bundle holds the candidate's copy, during a release also
//! the stable one, and routes whose weights total 100. Nothing here keeps state: the same arguments give the same bundle.

mod compose;
mod copy;
mod inspect;
mod object;
mod revision;
mod route;
mod rule;

pub use compose::{Composed, CopyShare, Stable, Wanted, compose, headline, steps};
pub use inspect::{ManagedWorkload, inspect};

/// Why a target's traffic cannot be managed; the release does not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrafficError {
    /// Two versions side by side need a Deployment.
    #[error("{kind} {name} cannot be a traffic workload: two versions side by side need a Deployment")]
    NotADeployment {
        /// What it is.
        kind: String,
        /// Its name.
        name: String,
    },
    /// `rollout.traffic` names a workload that git does not render.
    #[error("rollout.traffic.workload: {0} is not among the rendered objects")]
    NoSuchWorkload(String),
    /// A route's host has no Service, or the Service selects no workload.
    #[error("VirtualService {route}: host {host} leads to no workload of the bundle")]
    NoWorkload {
        /// The VirtualService.
        route: String,
        /// The destination's host.
        host: String,
    },
    /// More than one workload stands behind the host, and git's own labels do not tell them apart.
    #[error("host {host} leads to several workloads ({}); name one in rollout.traffic.workload", names.join(", "))]
    Ambiguous {
        /// The destination's host.
        host: String,
        /// The workloads.
        names: Vec<String>,
    },
    /// One rule of a route splits between the managed host and another one, so that its weights are not ours to total.
    #[error("VirtualService {route}: {path} splits traffic between {host} and another host")]
    MixedRoute {
        /// The VirtualService.
        route: String,
        /// Which rule, such as `spec.http[0]`.
        path: String,
        /// The managed host.
        host: String,
    },
    /// The copy's name would not fit.
    #[error("{0}: the name of a copy would be longer than 63 characters")]
    NameTooLong(String),
    /// A field that must be understood has another shape.
    #[error("{object}: {field} is missing or has another type than expected")]
    Malformed {
        /// Kind and name.
        object: String,
        /// The field's path.
        field: &'static str,
    },
}

#[cfg(test)]
mod tests;
