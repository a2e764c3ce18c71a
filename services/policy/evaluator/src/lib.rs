//! What Kyverno would say of a manifest, said before it leaves: a pure evaluator of `ClusterPolicy` and `Policy`.
//!
//! A document is read once ([`Policy::parse`]), judged against single objects ([`Policy::evaluate`]) or, with
//! everything a workload makes in the cluster, against whole manifests ([`decide`]). No I/O, no clock, no network:
//! the agent, the CLI and the policy service give the same verdict. A rule this crate cannot judge is
//! [`Outcome::NotEvaluated`] with the reason, never a guess.

mod anchor;
mod autogen;
pub mod conformance;
mod decision;
mod defaults;
mod evaluate;
mod expand;
mod field;
mod injection;
mod matching;
mod path;
mod pattern;
mod policy;
mod scalar;
mod wildcard;

pub use decision::{Bound, Decision, ResourceResult, Surroundings, Violation, decide};
pub use defaults::with_api_defaults;
pub use evaluate::{Outcome, Request, RuleResult};
pub use expand::{Made, made_by};
pub use field::PolicyError;
pub use injection::Warning;
pub use matching::{Operation, UserInfo};
pub use path::{Path, Step};
pub use policy::{BodyKind, FailureAction, Policy};
