//! Looks at repositories when they are due, and remembers the commit or what is wrong.

use super::leader::Leader;
use crate::app::App;
use crate::store::repository::{self, Repository};
use async_trait::async_trait;
use futures::{FutureExt as _, StreamExt as _};
use jiff::SignedDuration;
use muster_kit::{Error, Result, reconcile::Reconciler};
use std::time::Duration;

/// Repositories looked at side by side.
const AT_ONCE: usize = 8;
/// A repository that fails is looked at again no later than this.
const RETRY: Duration = Duration::from_secs(30);

/// Looks at repositories.
pub struct SourceReconciler {
    /// The use cases.
    pub app: App,
    /// Who decides.
    pub leader: Leader,
}

#[async_trait]
impl Reconciler for SourceReconciler {
    fn name(&self) -> &'static str {
        "sources"
    }

    async fn tick(&self) -> Result<()> {
        if self.leader.epoch().await?.is_none() {
            return Ok(());
        }
        let due = repository::due(&self.app.pool, self.app.clock.now(), 100).await?;
        let mut looks = Vec::with_capacity(due.len());
        for one in &due {
            looks.push(look(&self.app, one).boxed());
        }
        let outcomes: Vec<Result<()>> = futures::stream::iter(looks).buffer_unordered(AT_ONCE).collect().await;
        outcomes.into_iter().collect()
    }
}

/// One look; a repository that cannot be read is a row's problem and not this loop's.
pub async fn look(app: &App, known: &Repository) -> Result<()> {
    let outcome = fetch(app, known).await;
    let now = app.clock.now();
    let interval = crate::app::source::spec(&known.manifest).map_or(RETRY, |spec| spec.interval);
    let later = |by: Duration| now + SignedDuration::try_from(by).unwrap_or(SignedDuration::from_secs(60));
    match outcome {
        Ok(Look::Suspended) => repository::saw(&app.pool, known, None, "suspended", now, later(interval)).await,
        Ok(Look::At { commit, rewritten }) => {
            let problem = match rewritten {
                true => format!(
                    "its history was rewritten: {} is no longer in it",
                    known.commit.as_deref().unwrap_or("the commit before")
                ),
                false => String::new(),
            };
            repository::saw(&app.pool, known, Some(&commit), &problem, now, later(interval)).await?;
            if known.commit.as_deref() != Some(commit.as_str()) || known.problem != problem {
                tracing::info!(repository = %known.name, commit, "a commit was seen");
                app.wakes.decide.now();
            }
            Ok(())
        }
        Err(error) => {
            if known.problem.is_empty() {
                tracing::warn!(repository = %known.name, error = %error, "the repository cannot be read");
            }
            repository::saw(&app.pool, known, None, &error.to_string(), now, later(interval.min(RETRY))).await
        }
    }
}

enum Look {
    Suspended,
    At { commit: String, rewritten: bool },
}

async fn fetch(app: &App, known: &Repository) -> Result<Look, Error> {
    let open = app.sources.open(known).await?;
    if open.spec.suspend {
        return Ok(Look::Suspended);
    }
    let fetched = open.mirror.fetch(&open.spec.reference, known.commit.as_deref()).await?;
    Ok(Look::At { commit: fetched.commit.id, rewritten: fetched.rewritten })
}
