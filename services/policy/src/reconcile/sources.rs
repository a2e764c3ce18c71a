//! Policies from git: each file is read through the rollout service and kept with its commit.
//!
//! A file that cannot be read, or no longer holds the policy, leaves what was read before in force and shows the problem.

use super::Leader;
use crate::{
    app::{App, settle},
    domain::PolicyDocument,
    peers::Repositories,
    store,
    store::GitSource,
};
use async_trait::async_trait;
use muster_core::manifest::parse_documents;
use muster_kit::{Result, db, reconcile::Reconciler};
use std::{collections::BTreeSet, sync::Arc};

/// Files looked up at a time.
const PAGE: i64 = 100;
/// A problem in a row and an event, at most.
const MAX_PROBLEM_CHARS: usize = 500;

/// Keeps what comes from git.
pub struct Sources {
    /// The use cases.
    pub app: App,
    /// Who leads.
    pub leader: Arc<Leader>,
    /// Where files are read.
    pub repositories: Arc<dyn Repositories>,
}

#[async_trait]
impl Reconciler for Sources {
    fn name(&self) -> &'static str {
        "sources"
    }

    async fn tick(&self) -> Result<()> {
        let Some(epoch) = self.leader.epoch() else { return Ok(()) };
        let mut after = GitSource { repository: String::new(), path: String::new(), policy: String::new() };
        loop {
            let sources = store::bound::git_sources(&self.app.pool, &after, PAGE).await?;
            let Some(last) = sources.last() else { return Ok(()) };
            after = last.clone();
            for source in &sources {
                self.refresh(epoch, source).await?;
            }
        }
    }
}

impl Sources {
    async fn refresh(&self, epoch: u64, source: &GitSource) -> Result<()> {
        let (read, commit) = match self.repositories.read_file(&source.repository, &source.path).await {
            Ok(file) => (find(&file.content, &source.policy), file.commit),
            Err(problem) => (Err(problem), String::new()),
        };
        let mut tx = db::begin(&self.app.pool).await?;
        Leader::check(&mut tx, epoch).await?;
        store::catalog::lock(&mut tx).await?;
        let is_new = match &read {
            Ok(document) => {
                store::policy::keep_document(&mut tx, document).await?;
                store::bound::write_read(&mut tx, source, Some(document.digest()), &commit, "").await?
            }
            Err(problem) => {
                let problem: String = problem.chars().take(MAX_PROBLEM_CHARS).collect();
                store::bound::write_read(&mut tx, source, None, "", &problem).await?
            }
        };
        if !is_new {
            return Ok(());
        }
        settle(&mut tx, &BTreeSet::from([source.policy.clone()]), None).await?;
        tx.commit().await?;
        self.app.distribute.now();
        Ok(())
    }
}

/// The policy of that name in a file of one or more documents.
fn find(content: &str, name: &str) -> Result<PolicyDocument, String> {
    let documents = parse_documents(content).map_err(|error| format!("the file cannot be read: {error}"))?;
    let Some(document) = documents.iter().find(|document| document.name() == name) else {
        let found: Vec<&str> = documents.iter().map(muster_core::Manifest::name).collect();
        return Err(format!("the file holds no policy {name} (it holds: {})", found.join(", ")));
    };
    PolicyDocument::parse(&document.value).map_err(|error| format!("the policy is refused: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_found_among_the_documents_of_a_file() {
        let file = "kind: ConfigMap\napiVersion: v1\nmetadata: {name: p}\n---\nkind: X\napiVersion: v1\nmetadata: {name: q}\n";
        assert_eq!(find(file, "r").expect_err("not there"), "the file holds no policy r (it holds: p, q)");
        assert!(find(file, "p").expect_err("no policy").starts_with("the policy is refused: apiVersion"));
        assert!(find("a: [", "p").expect_err("no YAML").starts_with("the file cannot be read: line 1"));
    }
}
