//! Writes to git what rows intend: the commit of each new model version, and the revert of each failed release.
//!
//! Git is outside of any transaction. Both writers look for their commit before they push, so that a crash between the
//! push and its record costs a look and nothing else.

use super::leader::Leader;
use crate::app::{App, model::document, repository::source_of, source::OpenMirror, view};
use crate::crash;
use crate::git::{GitError, ModelChange, ModelCommit, Reverted};
use crate::store::{
    application,
    model::{self, CommitState, VersionRow},
    release::{self, ReleaseRow, Revert},
    repository,
};
use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use muster_core::name::{ApplicationName, GitRepositoryName};
use muster_kit::{Error, Result, db, reconcile::Reconciler, telemetry};
use tracing::Instrument as _;

/// Between two attempts at something that a person or another host must put right.
const PATIENCE: SignedDuration = SignedDuration::from_secs(30);

/// Writes to git.
pub struct WriteReconciler {
    /// The use cases.
    pub app: App,
    /// Who decides.
    pub leader: Leader,
}

#[async_trait]
impl Reconciler for WriteReconciler {
    fn name(&self) -> &'static str {
        "write"
    }

    async fn tick(&self) -> Result<()> {
        if self.leader.epoch().await?.is_none() {
            return Ok(());
        }
        for version in model::due(&self.app.pool, self.app.clock.now()).await? {
            let span = tracing::info_span!("model.commit", model = version.training.model, version = version.training.version);
            telemetry::continue_trace(&span, &version.traceparent);
            self.version(&version).instrument(span).await?;
        }
        for row in release::reverts(&self.app.pool, self.app.clock.now()).await? {
            let span = tracing::info_span!("release.revert", release.name = %row.name);
            telemetry::continue_trace(&span, &row.traceparent);
            self.revert(&row).instrument(span).await?;
        }
        Ok(())
    }
}

/// A repository that cannot be written to now, and whether another try may help by itself.
struct NotNow {
    reason: String,
    blocked: bool,
}

impl From<GitError> for NotNow {
    fn from(error: GitError) -> Self {
        let blocked = !matches!(error, GitError::Unreachable(_) | GitError::Timeout(_) | GitError::Contended(_));
        Self { reason: error.to_string(), blocked }
    }
}

impl WriteReconciler {
    fn later(&self, attempts: i32) -> Timestamp {
        let seconds = 1_i64 << attempts.clamp(0, 5);
        self.app.clock.now() + SignedDuration::from_secs(seconds).min(PATIENCE)
    }

    async fn open(&self, name: &GitRepositoryName) -> Result<OpenMirror, NotNow> {
        let blocked = |reason: String| NotNow { reason, blocked: true };
        let known =
            repository::get(&self.app.pool, name).await.map_err(|error| NotNow { reason: error.to_string(), blocked: false })?;
        let known = known.ok_or_else(|| blocked(format!("{name} does not exist")))?;
        let open = self.app.sources.open(&known).await.map_err(|error| blocked(error.to_string()))?;
        if open.branch().is_none() {
            return Err(blocked(format!("{name} stands at a {}, which cannot be written to", open.spec.reference)));
        }
        Ok(open)
    }

    async fn version(&self, version: &VersionRow) -> Result<()> {
        let mut connection = self.app.pool.acquire().await?;
        let Some(row) = model::get(&mut connection, &version.training.model).await? else { return Ok(()) };
        drop(connection);
        if row.latest != version.training.version {
            // It waited, and a training that ended later was reported meanwhile: writing it now would release the older one.
            let reason = format!("{} is newer", row.latest);
            return model::tried(&self.app.pool, version, CommitState::NotNewest, "", &reason, self.app.clock.now()).await;
        }
        let document = document(&row.manifest)?;
        let name = GitRepositoryName::new(&document.repository_namespace, &document.repository).map_err(Error::internal)?;
        let outcome = match self.open(&name).await {
            Ok(open) => self.commit(&open, version, &document.path).await,
            Err(not_now) => Err(not_now),
        };
        match outcome {
            Ok(commit) => {
                tracing::info!(commit, "a model version is in git");
                crash::PUSHED.reached();
                model::tried(&self.app.pool, version, CommitState::Pushed, &commit, "", self.app.clock.now()).await?;
                repository::wake(&self.app.pool, &name, self.app.clock.now()).await?;
                self.app.wakes.sources.now();
                Ok(())
            }
            Err(NotNow { reason, blocked }) => {
                tracing::warn!(reason, "a model version cannot be written to git; it is tried again");
                let state = if blocked { CommitState::Blocked } else { CommitState::Pending };
                model::tried(&self.app.pool, version, state, "", &reason, self.later(version.attempts)).await
            }
        }
    }

    async fn commit(&self, open: &OpenMirror, version: &VersionRow, path: &str) -> Result<String, NotNow> {
        let training = &version.training;
        let change = ModelChange {
            model: training.model.clone(),
            path: path.to_owned(),
            version: training.version.clone(),
            digest: training.digest.clone(),
            uri: training.uri.clone(),
            image: (!training.image.is_empty()).then(|| training.image.clone()),
            event: version.event.clone(),
        };
        let branch = open.branch().expect("checked when it was opened");
        let written = ModelCommit { mirror: &open.mirror, branch, change: &change }.write().await?;
        Ok(written.commit().to_owned())
    }

    async fn revert(&self, row: &ReleaseRow) -> Result<()> {
        let parent = ApplicationName::new(row.name.namespace(), row.name.application()).map_err(Error::internal)?;
        let Some(application) = application::get(&self.app.pool, &parent).await? else { return Ok(()) };
        let source = source_of(&parent, &row.manifest)?;
        let outcome = match self.open(&source).await {
            Ok(open) => self.push_revert(&open, row, application.completed_commit.as_deref()).await,
            Err(not_now) => Err((not_now, Revert::NotAllowed)),
        };
        let mut tx = db::begin(&self.app.pool).await?;
        application::lock(&mut tx, &parent).await?;
        let Some(mut row) = release::get(&mut tx, &row.name).await?.filter(|row| row.revert == Revert::Pending) else {
            return Ok(());
        };
        match outcome {
            Ok((commits, commit)) => {
                row.revert = Revert::Pushed;
                row.revert_commits = commits;
                row.revert_commit = commit;
            }
            Err((NotNow { blocked: false, reason }, _)) => {
                tracing::warn!(reason, "a revert cannot be written to git; it is tried again");
                row.revert_due_at = self.later(3);
            }
            Err((NotNow { blocked: true, reason }, state)) => {
                tracing::warn!(reason, "a revert cannot be written to git");
                row.revert = state;
                row.warnings.push(format!("the revert is not in git: {reason}"));
            }
        }
        release::update(&mut tx, &mut row).await?;
        view::publish_release(&mut tx, row).await?;
        tx.commit().await?;
        repository::wake(&self.app.pool, &source, self.app.clock.now()).await?;
        self.app.wakes.sources.now();
        Ok(())
    }

    /// The commits that were taken back, and the commit that does.
    async fn push_revert(
        &self,
        open: &OpenMirror,
        row: &ReleaseRow,
        completed: Option<&str>,
    ) -> Result<(Vec<String>, String), (NotNow, Revert)> {
        let because = |error: GitError| {
            let state = if matches!(error, GitError::Conflict(_)) { Revert::Blocked } else { Revert::NotAllowed };
            (NotNow::from(error), state)
        };
        let mut commits = row.revert_commits.clone();
        if commits.is_empty() {
            open.mirror.resolve(&row.commit).await.map_err(because)?;
            if let Some(completed) = completed.filter(|completed| *completed != row.commit) {
                let range = open.mirror.log(completed, &row.commit, &row.paths).await;
                commits = range.map_err(because)?.into_iter().map(|commit| commit.id).collect();
            }
            if commits.is_empty() {
                commits.push(row.commit.clone());
            }
        }
        let branch = open.branch().expect("checked when it was opened");
        let cause = format!("{}: {}", row.name, row.reason);
        match open.mirror.revert(branch, &commits, &cause).await.map_err(because)? {
            Reverted::Pushed(commit) | Reverted::Adopted(commit) => Ok((commits, commit)),
        }
    }
}
