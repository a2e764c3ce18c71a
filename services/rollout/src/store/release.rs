//! Releases and their targets.

use super::time;
use crate::domain::release::{ReleaseState, Target};
use jiff::Timestamp;
use muster_core::name::{ApplicationName, ReleaseName};
use muster_kit::{Error, Result, Tx, time::to_db};
use sqlx::{PgConnection, PgPool};
use std::collections::BTreeMap;

/// What became of the commit that takes a failed release's change back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revert {
    /// Nothing to revert.
    None,
    /// Is to be written.
    Pending,
    /// Is in git.
    Pushed,
    /// Conflicts with later commits.
    Blocked,
    /// The repository is read-only to us.
    NotAllowed,
}

/// A release as stored.
#[derive(Debug, Clone)]
pub struct ReleaseRow {
    /// Its name.
    pub name: ReleaseName,
    /// Counts an application's releases, from 1.
    pub number: i32,
    /// Counts every change of the row or its targets.
    pub version: i64,
    /// The commit.
    pub commit: String,
    /// The first line of its message.
    pub title: String,
    /// Where it stands.
    pub state: ReleaseState,
    /// Whether it takes the fast lane.
    pub fast_lane: bool,
    /// Why it stands so.
    pub reason: String,
    /// From 0.
    pub wave: i32,
    /// From 0.
    pub step: i32,
    /// A person's word for the present step.
    pub promoted: bool,
    /// The application's document then.
    pub manifest: String,
    /// What led to its renderings.
    pub paths: Vec<String>,
    /// `models/{model}/versions/{version}` that the commit brings; empty if none.
    pub model_version: String,
    /// Revision of the policies its verdict was taken from; empty before the verdict.
    pub policy_revision: String,
    /// What the verdict reported without refusing.
    pub warnings: Vec<String>,
    /// What became of the revert.
    pub revert: Revert,
    /// Commits that it takes back, newest first.
    pub revert_commits: Vec<String>,
    /// The reverting commit.
    pub revert_commit: String,
    /// When the revert is tried next.
    pub revert_due_at: Timestamp,
    /// When a time alone may change something.
    pub due_at: Option<Timestamp>,
    /// What caused it.
    pub traceparent: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it completed or failed.
    pub finished_at: Option<Timestamp>,
}

/// A release at one cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetProgress {
    /// Where the state machine stands.
    pub target: Target,
    /// What the commit renders for it.
    pub rendered_digest: String,
    /// Its last good when the release was made, or as it moved since.
    pub last_good_digest: Option<String>,
    /// Managed workload → subset of the candidate.
    pub subsets: BTreeMap<String, String>,
    /// What its pods are called in metrics.
    pub candidate_version: String,
    /// The revision of its pods.
    pub candidate_revision: String,
    /// The item's revision when it was told last.
    pub told_revision: i64,
}

const STATES: [(ReleaseState, &str); 8] = [
    (ReleaseState::Pending, "pending"),
    (ReleaseState::Progressing, "progressing"),
    (ReleaseState::Paused, "paused"),
    (ReleaseState::Completed, "completed"),
    (ReleaseState::RollingBack, "rolling_back"),
    (ReleaseState::Failed, "failed"),
    (ReleaseState::Superseded, "superseded"),
    (ReleaseState::Refused, "refused"),
];

const REVERTS: [(Revert, &str); 5] = [
    (Revert::None, "none"),
    (Revert::Pending, "pending"),
    (Revert::Pushed, "pushed"),
    (Revert::Blocked, "blocked"),
    (Revert::NotAllowed, "not_allowed"),
];

/// Outwards.
pub(super) fn state_text(state: ReleaseState) -> &'static str {
    STATES.iter().find(|(known, _)| *known == state).map_or("", |(_, text)| text)
}

/// Inwards.
pub(super) fn state(text: &str) -> Result<ReleaseState> {
    let found = STATES.iter().find(|(_, known)| *known == text).map(|(state, _)| *state);
    found.ok_or_else(|| Error::internal(anyhow::anyhow!("release.state {text:?} is unknown")))
}

fn revert_text(revert: Revert) -> &'static str {
    REVERTS.iter().find(|(known, _)| *known == revert).map_or("", |(_, text)| text)
}

fn revert(text: &str) -> Result<Revert> {
    let found = REVERTS.iter().find(|(_, known)| *known == text).map(|(revert, _)| *revert);
    found.ok_or_else(|| Error::internal(anyhow::anyhow!("release.revert {text:?} is unknown")))
}

macro_rules! release {
    ($row:expr) => {
        ReleaseRow {
            name: ReleaseName::new(&$row.namespace, &$row.application, &$row.release).map_err(Error::internal)?,
            number: $row.number,
            version: $row.version,
            commit: $row.commit_id,
            title: $row.title,
            state: state(&$row.state)?,
            fast_lane: $row.fast_lane,
            reason: $row.reason,
            wave: $row.wave,
            step: $row.step,
            promoted: $row.promoted,
            manifest: $row.manifest,
            paths: $row.paths,
            model_version: $row.model_version,
            policy_revision: $row.policy_revision,
            warnings: $row.warnings,
            revert: revert(&$row.revert)?,
            revert_commits: $row.revert_commits,
            revert_commit: $row.revert_commit,
            revert_due_at: $row.revert_due_at.to_jiff(),
            due_at: time($row.due_at),
            traceparent: $row.traceparent,
            created_at: $row.created_at.to_jiff(),
            finished_at: time($row.finished_at),
        }
    };
}

/// One release.
pub async fn get(connection: &mut PgConnection, name: &ReleaseName) -> Result<Option<ReleaseRow>> {
    let row = sqlx::query!(
        "select * from release where namespace = $1 and application = $2 and release = $3",
        name.namespace(),
        name.application(),
        name.release()
    )
    .fetch_optional(connection)
    .await?;
    row.map(|row| Ok(release!(row))).transpose()
}

/// A page, newest first; empty identifiers mean all. `before` is the key of the last row of the page before.
pub async fn list(
    executor: impl sqlx::PgExecutor<'_>,
    namespace: &str,
    application: &str,
    before: Option<(Timestamp, &str)>,
    limit: i64,
) -> Result<Vec<ReleaseRow>> {
    let (before_at, before_name) = before.unwrap_or((Timestamp::MAX, ""));
    let before_at = if before.is_some() { Some(to_db(before_at)) } else { None };
    let rows = sqlx::query!(
        r#"
        select * from release
        where ($1 = '' or namespace = $1)
        and ($2 = '' or application = $2)
        and ($3::timestamptz is null or (created_at, namespace || '/' || application || '/' || release) < ($3, $4))
        order by created_at desc, namespace || '/' || application || '/' || release desc
        limit $5
        "#,
        namespace,
        application,
        before_at as _,
        before_name,
        limit
    )
    .fetch_all(executor)
    .await?;
    rows.into_iter().map(|row| Ok(release!(row))).collect()
}

/// Every release that something may still happen to: unfinished ones, and the last of each application.
pub async fn open(pool: &PgPool) -> Result<Vec<ReleaseRow>> {
    let rows = sqlx::query!(
        r#"
        select r.* from release r
        join application a on a.namespace = r.namespace and a.application = r.application
        where r.release = a.current_release
        or r.state in ('pending', 'progressing', 'paused', 'rolling_back')
        order by r.namespace, r.application, r.number
        "#
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(|row| Ok(release!(row))).collect()
}

/// Those whose revert is to be written now.
pub async fn reverts(pool: &PgPool, now: Timestamp) -> Result<Vec<ReleaseRow>> {
    let rows = sqlx::query!(
        "select * from release where revert = 'pending' and revert_due_at <= $1 order by revert_due_at limit 20",
        to_db(now) as _
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(|row| Ok(release!(row))).collect()
}

/// The completed releases of an application, newest first, at most `limit`.
pub async fn completed(pool: &PgPool, name: &ApplicationName, limit: i64) -> Result<Vec<ReleaseRow>> {
    let rows = sqlx::query!(
        r#"
        select * from release
        where namespace = $1 and application = $2 and state = 'completed'
        order by finished_at desc, number desc
        limit $3
        "#,
        name.namespace(),
        name.application(),
        limit
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(|row| Ok(release!(row))).collect()
}

/// Stores a new release.
pub async fn insert(tx: &mut Tx, release: &ReleaseRow) -> Result<()> {
    sqlx::query!(
        r#"
        insert into release
            (namespace, application, release, number, commit_id, title, state, fast_lane, reason, manifest, paths,
             model_version, revert, revert_commits, revert_due_at, traceparent, created_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
        "#,
        release.name.namespace(),
        release.name.application(),
        release.name.release(),
        release.number,
        release.commit,
        release.title,
        state_text(release.state),
        release.fast_lane,
        release.reason,
        release.manifest,
        &release.paths,
        release.model_version,
        revert_text(release.revert),
        &release.revert_commits,
        to_db(release.revert_due_at) as _,
        release.traceparent,
        to_db(release.created_at) as _
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Stores a changed release where nobody changed it meanwhile; its version counts up.
pub async fn update(tx: &mut Tx, release: &mut ReleaseRow) -> Result<()> {
    let changed = sqlx::query!(
        r#"
        update release
        set state = $4, reason = $5, wave = $6, step = $7, promoted = $8, policy_revision = $9, warnings = $10,
            revert = $11, revert_commits = $12, revert_commit = $13, revert_due_at = $14, due_at = $15, finished_at = $16,
            version = version + 1
        where namespace = $1 and application = $2 and release = $3 and version = $17
        "#,
        release.name.namespace(),
        release.name.application(),
        release.name.release(),
        state_text(release.state),
        release.reason,
        release.wave,
        release.step,
        release.promoted,
        release.policy_revision,
        &release.warnings,
        revert_text(release.revert),
        &release.revert_commits,
        release.revert_commit,
        to_db(release.revert_due_at) as _,
        release.due_at.map(to_db) as _,
        release.finished_at.map(to_db) as _,
        release.version
    )
    .execute(&mut **tx)
    .await?;
    if changed.rows_affected() == 0 {
        return Err(Error::conflict("STALE", "the release changed meanwhile; read it again"));
    }
    release.version += 1;
    Ok(())
}

/// The targets of a release, in name order.
pub async fn targets(connection: &mut PgConnection, name: &ReleaseName) -> Result<Vec<TargetProgress>> {
    let rows = sqlx::query!(
        "select * from release_target where namespace = $1 and application = $2 and release = $3 order by cluster",
        name.namespace(),
        name.application(),
        name.release()
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(TargetProgress {
                target: serde_json::from_value(row.progress).map_err(Error::internal)?,
                rendered_digest: row.rendered_digest,
                last_good_digest: row.last_good_digest,
                subsets: serde_json::from_value(row.subsets).map_err(Error::internal)?,
                candidate_version: row.candidate_version,
                candidate_revision: row.candidate_revision,
                told_revision: row.told_revision,
            })
        })
        .collect()
}

/// Stores a target of a release.
pub async fn save_target(tx: &mut Tx, name: &ReleaseName, target: &TargetProgress) -> Result<()> {
    let progress = serde_json::to_value(&target.target).map_err(Error::internal)?;
    let subsets = serde_json::to_value(&target.subsets).map_err(Error::internal)?;
    sqlx::query!(
        r#"
        insert into release_target
            (namespace, application, release, cluster, wave, rendered_digest, last_good_digest, progress, subsets,
             candidate_version, candidate_revision, told_revision)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
        on conflict (namespace, application, release, cluster) do update
        set wave = excluded.wave, last_good_digest = excluded.last_good_digest, progress = excluded.progress,
            subsets = excluded.subsets, candidate_version = excluded.candidate_version,
            candidate_revision = excluded.candidate_revision, told_revision = excluded.told_revision
        "#,
        name.namespace(),
        name.application(),
        name.release(),
        target.target.cluster,
        target.target.wave as i32,
        target.rendered_digest,
        target.last_good_digest,
        progress,
        subsets,
        target.candidate_version,
        target.candidate_revision,
        target.told_revision
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
