//! The use cases: authorise, begin, ask the domain, store, append the event, commit.

pub mod application;
pub mod diff;
pub mod model;
pub mod plan;
pub mod release;
pub mod repository;
pub mod source;
pub mod view;

use crate::peers::{Policy, Registry, Scheduler};
use crate::render::Renderer;
use muster_kit::clock::SharedClock;
use muster_kit::reconcile::Wake;
use source::Sources;
use sqlx::PgPool;
use std::sync::Arc;

/// What the use cases and the reconcilers work with.
#[derive(Clone)]
pub struct App {
    /// The service's database.
    pub pool: PgPool,
    /// The time.
    pub clock: SharedClock,
    /// The fleet registry.
    pub registry: Arc<dyn Registry>,
    /// The policy service.
    pub policy: Arc<dyn Policy>,
    /// The scheduler.
    pub scheduler: Arc<dyn Scheduler>,
    /// Mirrors of the repositories.
    pub sources: Sources,
    /// Overlays to objects.
    pub renderer: Renderer,
    /// Targets in flight at most in the fast lane, and on the way back from a failed release.
    pub fast_concurrency: usize,
    /// Who is woken by what.
    pub wakes: Wakes,
}

/// Wakes the reconcilers.
#[derive(Debug, Clone, Default)]
pub struct Wakes {
    /// A repository is to be looked at.
    pub sources: Wake,
    /// A commit, a document or a cluster is new.
    pub decide: Wake,
    /// A release may go on.
    pub advance: Wake,
    /// The registry is to be told something.
    pub dispatch: Wake,
    /// Something is to be written to git.
    pub write: Wake,
}

/// The namespace of documents that name none.
pub const DEFAULT_NAMESPACE: &str = "default";
/// A document, at most.
pub const MAX_MANIFEST: usize = 256 * 1024;

/// Reads `namespaces/{namespace}` or, where a list may be of all, `namespaces/-`; empty for all.
pub fn parse_parent(field: &str, parent: &str) -> muster_kit::Result<String> {
    let wrong = || muster_kit::Error::invalid(field, "must be namespaces/{namespace}, or namespaces/- for all");
    match parent.strip_prefix("namespaces/").ok_or_else(wrong)? {
        "-" => Ok(String::new()),
        id => {
            muster_core::name::check_id(id).map_err(|error| muster_kit::Error::invalid(field, error.to_string()))?;
            Ok(id.to_owned())
        }
    }
}

/// The namespace of a document that came in `field`: the request's, else the document's, else the default.
fn namespace_of(field: &str, parent: &str, document: &str) -> muster_kit::Result<String> {
    if !document.is_empty() {
        muster_core::name::check_id(document)
            .map_err(|error| muster_kit::Error::invalid(format!("{field}.metadata.namespace"), error.to_string()))?;
    }
    if parent.is_empty() {
        return Ok(if document.is_empty() { DEFAULT_NAMESPACE.to_owned() } else { document.to_owned() });
    }
    let namespace = parse_parent("parent", parent)?;
    if namespace.is_empty() {
        return Err(muster_kit::Error::invalid("parent", "must name one namespace"));
    }
    if !document.is_empty() && document != namespace {
        return Err(muster_kit::Error::invalid("parent", format!("the manifest says metadata.namespace {document}")));
    }
    Ok(namespace)
}
