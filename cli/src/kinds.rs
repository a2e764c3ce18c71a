//! The kinds of resources and their RPCs: one trait over the generated clients, so that `get`, `apply`, `describe`,
//! `delete` and `--wait` are written once.
//!
//! A kind answers with [`Object`]s: name, etag, proto3 JSON, cells of its table, and how it stands. What a kind cannot do
//! (a run is never deleted by hand) it says by name.

mod documents;
mod name;
mod policy;
mod registry;
mod rollout;
mod scheduler;

pub use documents::{cluster_from, kind_of, scoped_name};
pub use name::{parent_name, resource_name, short};
pub use registry::gpus_by_flavor;
pub use rollout::short_commit;

use crate::{
    client::Session,
    error::{Failure, Result},
};
use async_trait::async_trait;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

/// Rows asked for at once.
const PAGE_SIZE: i32 = 500;
/// Rows shown at most; a longer list is cut and said to be.
pub const MAX_ROWS: usize = 20_000;

/// What is fixed about a kind.
#[derive(Debug)]
pub struct Spec {
    /// As in `gitRepositories`; also the key of a list in JSON.
    pub plural: &'static str,
    /// As in `gitRepository`.
    pub singular: &'static str,
    /// Shorter words people type.
    pub aliases: &'static [&'static str],
    /// The form of its resource names.
    pub pattern: &'static str,
    /// Whether a list can be of all parents at once (`-`).
    pub lists_all_parents: bool,
    /// Titles of its table; one that begins with `+` is shown with `-o wide` only.
    pub columns: &'static [&'static str],
}

/// How a resource stands, for `--wait`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// As it should be, or ended well.
    Settled,
    /// At work; settled for who waits for a start only.
    Working,
    /// Not there yet.
    Pending,
    /// Ended badly, or cannot get better by itself.
    Failed,
    /// Policy refuses it.
    Refused,
}

/// A resource as the commands see it.
#[derive(Debug, Clone)]
pub struct Object {
    /// The resource name.
    pub name: String,
    /// Opaque version; empty where the kind has none.
    pub etag: String,
    /// What it was made from; empty where the kind has none.
    pub manifest: String,
    /// Proto3 JSON.
    pub json: Value,
    /// Cells of its table, one a column.
    pub cells: Vec<String>,
    /// How it stands.
    pub standing: Standing,
    /// The state and the reason in words, for progress.
    pub saying: String,
}

/// What every resource message has in common.
pub trait Resource: Serialize {
    /// The resource name.
    fn name(&self) -> &str;

    /// Opaque version.
    fn etag(&self) -> &str {
        ""
    }

    /// What it was made from.
    fn manifest(&self) -> &str {
        ""
    }

    /// Cells of its table.
    fn cells(&self, now: Timestamp) -> Vec<String>;

    /// How it stands, and in which words. What has no state is settled.
    fn standing(&self) -> (Standing, String) {
        (Standing::Settled, String::new())
    }
}

/// The object of a message.
pub fn object(resource: &impl Resource) -> Object {
    let (standing, saying) = resource.standing();
    Object {
        name: resource.name().to_owned(),
        etag: resource.etag().to_owned(),
        manifest: resource.manifest().to_owned(),
        json: serde_json::to_value(resource).expect("every message has proto3 JSON"),
        cells: resource.cells(Timestamp::now()),
        standing,
        saying,
    }
}

/// Which resources a list is of.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// The parent's resource name; empty for kinds without one.
    pub parent: String,
    /// Only jobs of this queue, `queues/{queue}`; empty: all.
    pub queue: String,
    /// Only jobs in these states, as on the wire; empty: all.
    pub states: Vec<i32>,
}

/// A deletion.
#[derive(Debug, Clone)]
pub struct Deletion {
    /// What goes.
    pub name: String,
    /// If set must be current.
    pub etag: String,
    /// Whether what it deployed goes with it.
    pub remove_workloads: bool,
    /// UUID.
    pub request_id: String,
}

/// A document to be stored.
#[derive(Debug, Clone)]
pub struct Change {
    /// The resource name; empty: the service takes it from the manifest.
    pub name: String,
    /// YAML or JSON.
    pub manifest: String,
    /// Check everything and store nothing.
    pub validate_only: bool,
    /// UUID.
    pub request_id: String,
}

/// A kind of resources.
#[async_trait]
pub trait Kind: Sync + Send {
    /// What is fixed about it.
    fn spec(&self) -> &'static Spec;

    /// One resource.
    async fn get(&self, session: &Session, name: &str) -> Result<Object>;

    /// One page; the second value is the token of the next.
    async fn page(&self, session: &Session, scope: &Scope, page_token: String) -> Result<(Vec<Object>, String)>;

    /// Deletes one.
    async fn delete(&self, _session: &Session, deletion: Deletion) -> Result<()> {
        Err(Failure::usage(format!("{} cannot be deleted", self.spec().plural)).detail(deletion.name))
    }

    /// Stores a document, whether it exists or not.
    async fn apply(&self, _session: &Session, change: Change) -> Result<Object> {
        Err(Failure::usage(format!("{} cannot be applied", self.spec().plural)).detail(change.name))
    }

    /// Every page.
    async fn list(&self, session: &Session, scope: &Scope) -> Result<Vec<Object>> {
        let (mut objects, mut token) = self.page(session, scope, String::new()).await?;
        while !token.is_empty() && objects.len() < MAX_ROWS {
            let (more, next) = self.page(session, scope, token).await?;
            objects.extend(more);
            token = next;
        }
        if !token.is_empty() {
            eprintln!("note: there are more than {} {}; the rest is not shown", objects.len(), self.spec().plural);
        }
        Ok(objects)
    }
}

/// All kinds, in the order in which help names them.
pub static KINDS: [&dyn Kind; 16] = [
    &registry::Clusters,
    &registry::Fleets,
    &registry::PriceBooks,
    &registry::EnrolmentTokens,
    &registry::AccessTokens,
    &scheduler::Queues,
    &scheduler::Jobs,
    &scheduler::Runs,
    &rollout::GitRepositories,
    &rollout::Applications,
    &rollout::Releases,
    &rollout::Models,
    &rollout::ModelVersions,
    &policy::Policies,
    &policy::FleetPolicies,
    &policy::PolicyReports,
];

/// The kind of that word: plural, singular or alias, in any case.
pub fn find(word: &str) -> Result<&'static dyn Kind> {
    let word = word.to_lowercase();
    let same = |known: &str| known.to_lowercase() == word;
    let fits = |kind: &&'static dyn Kind| {
        let spec = kind.spec();
        same(spec.plural) || same(spec.singular) || spec.aliases.iter().any(|alias| same(alias))
    };
    KINDS.iter().copied().find(fits).ok_or_else(|| {
        let known: Vec<_> = KINDS.iter().map(|kind| kind.spec().plural).collect();
        Failure::usage(format!("{word:?} is no kind")).hint(format!("there are: {}", known.join(", ")))
    })
}

/// Writes a kind over its generated client. The closures build the requests; `delete` and `apply` may be absent.
macro_rules! kind {
    (
        $(#[$doc:meta])* $kind:ident at $peer:ident through $client:ident, $spec:expr,
        get $get:ident $get_request:expr,
        list $list:ident $list_request:expr => $items:ident,
        $( delete $delete:ident $delete_request:expr, )?
        $( apply $apply:ident $apply_request:expr, )?
    ) => {
        $(#[$doc])*
        pub struct $kind;

        #[async_trait::async_trait]
        impl $crate::kinds::Kind for $kind {
            fn spec(&self) -> &'static $crate::kinds::Spec {
                static SPEC: $crate::kinds::Spec = $spec;
                &SPEC
            }

            async fn get(&self, session: &$crate::client::Session, name: &str) -> $crate::error::Result<$crate::kinds::Object> {
                let build = $get_request;
                let found = session.call($crate::client::Peer::$peer, stringify!($get), |link| {
                    let request = build(name.to_owned());
                    async move { $crate::kinds::sized!($client, link).$get(request).await }
                });
                Ok($crate::kinds::object(&found.await?))
            }

            async fn page(
                &self,
                session: &$crate::client::Session,
                scope: &$crate::kinds::Scope,
                page_token: String,
            ) -> $crate::error::Result<(Vec<$crate::kinds::Object>, String)> {
                let build = $list_request;
                let page = session.call($crate::client::Peer::$peer, stringify!($list), |link| {
                    let request = build(scope.clone(), $crate::kinds::PAGE_SIZE, page_token.clone());
                    async move { $crate::kinds::sized!($client, link).$list(request).await }
                });
                let page = page.await?;
                Ok((page.$items.iter().map($crate::kinds::object).collect(), page.next_page_token))
            }

            $(
                async fn delete(
                    &self,
                    session: &$crate::client::Session,
                    deletion: $crate::kinds::Deletion,
                ) -> $crate::error::Result<()> {
                    let build = $delete_request;
                    let done = session.call($crate::client::Peer::$peer, stringify!($delete), |link| {
                        let request = build(deletion.clone());
                        async move { $crate::kinds::sized!($client, link).$delete(request).await }
                    });
                    done.await.map(|_| ())
                }
            )?

            $(
                async fn apply(
                    &self,
                    session: &$crate::client::Session,
                    change: $crate::kinds::Change,
                ) -> $crate::error::Result<$crate::kinds::Object> {
                    let build = $apply_request;
                    let stored = session.call($crate::client::Peer::$peer, stringify!($apply), |link| {
                        let request = build(change.clone());
                        async move { $crate::kinds::sized!($client, link).$apply(request).await }
                    });
                    Ok($crate::kinds::object(&stored.await?))
                }
            )?
        }
    };
}

/// A generated client that takes answers of our size.
macro_rules! sized {
    ($client:ident, $link:expr) => {
        $client::new($link).max_decoding_message_size($crate::client::MAX_ANSWER_BYTES)
    };
}

/// The resource behind a message whose four common fields have the common names.
macro_rules! common_fields {
    (name) => {
        fn name(&self) -> &str {
            &self.name
        }
    };
    (name, etag) => {
        $crate::kinds::common_fields!(name);
        fn etag(&self) -> &str {
            &self.etag
        }
    };
    (name, etag, manifest) => {
        $crate::kinds::common_fields!(name, etag);
        fn manifest(&self) -> &str {
            &self.manifest
        }
    };
}

pub(crate) use {common_fields, kind, sized};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_means_one_kind() {
        let mut words: Vec<_> = KINDS
            .iter()
            .flat_map(|kind| [kind.spec().plural, kind.spec().singular].into_iter().chain(kind.spec().aliases.iter().copied()))
            .map(str::to_lowercase)
            .collect();
        let all = words.len();
        words.sort();
        words.dedup();
        assert_eq!(words.len(), all);
        assert_eq!(find("GITREPOSITORY").map(|kind| kind.spec().plural), Ok("gitRepositories"));
        assert!(find("pods").is_err_and(|failure| failure.to_string().contains("fleetPolicies")));
    }
}
