//! What Kyverno would say of a manifest, said before it leaves: a pure evaluator of `ClusterPolicy` and `Policy`.
//!
//! A document is read once ([`Policy::parse`]), judged against single objects ([`Policy::evaluate`]) or, with
//! everything a workload makes in the cluster, against whole manifests ([`decide`]). No I/O, no clock, no network; only
//! [`conformance`] reads suites from folders. The agent, the CLI and the policy service give the same verdict. A rule
//! this crate cannot judge is [`Outcome::NotEvaluated`] with the reason, never a guess.

mod admission;
mod admission_policy;
mod anchor;
mod autogen;
mod body;
mod cel;
mod conditions;
pub mod conformance;
mod constraints;
mod decision;
mod defaults;
mod evaluate;
mod exception;
mod expand;
mod expression;
mod facts;
mod field;
mod gate;
mod image;
mod injection;
mod inventory;
mod jmespath;
mod kind_index;
mod landing;
mod matching;
mod mutate;
mod operator;
mod parameters;
mod path;
mod pattern;
mod policy;
mod rule;
mod scalar;
pub mod speed;
mod stack;
mod translate;
mod validating_policy;
mod variables;
mod version;
mod wildcard;

pub use body::BodyKind;
pub use decision::{
    Bound, Decision, Objected, Objection, ResourceResult, Surroundings, Violation, decide, decide_on, objections, unjudged,
};
pub use defaults::with_api_defaults;
pub use evaluate::{Details, Outcome, Request, RuleResult};
pub use exception::PolicyException;

pub use facts::{Operation, UserInfo};
pub use field::PolicyError;
pub use injection::Warning;
pub use inventory::{Extent, Inventory, NotAnswered};
pub use kind_index::KindIndex;
pub use landing::{Arrival, Landed, arrived, landed};
pub use mutate::Mutated;
pub use path::{Path, Step};
pub use policy::{FailureAction, Policy};
pub use translate::{Target, Untranslatable, translate, translate_excusing};
pub use variables::Answers;
