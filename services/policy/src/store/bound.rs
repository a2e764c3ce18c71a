//! What bindings bind, and what holds of it.
//!
//! All bindings of one policy name share one content: that of the policy of that name, else that of the first binding
//! in name order that has one. A binding with another content does not hold, and says so; one whose file was not read
//! yet holds what the name stands for.

use crate::domain::{Entry, FleetPolicySpec, Source};
use muster_kit::{Result, Tx};
use muster_policy_evaluator::FailureAction;
use sqlx::PgPool;
use std::collections::BTreeSet;

/// A bound policy as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundRecord {
    /// The policy's identifier.
    pub policy: String,
    /// `policy`, `inline` or `git`.
    pub source: String,
    /// The commit, where it comes from git.
    pub commit: String,
    /// Whether it holds.
    pub holds: bool,
    /// Why it does not hold, or why it could not be refreshed; empty if all is well.
    pub problem: String,
}

/// A file that bindings take a policy from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct GitSource {
    /// The repository's resource name.
    pub repository: String,
    /// The path within it.
    pub path: String,
    /// The policy looked for in it.
    pub policy: String,
}

fn action_text(action: Option<FailureAction>) -> Option<&'static str> {
    action.map(|action| match action {
        FailureAction::Audit => "audit",
        FailureAction::Enforce => "enforce",
    })
}

/// Replaces what a binding binds; gives the names that are to be settled. What was read from git before and is still
/// asked for stays until it is read again.
pub async fn replace(tx: &mut Tx, spec: &FleetPolicySpec) -> Result<BTreeSet<String>> {
    let before = sqlx::query!(
        "delete from bound_policy where fleet_policy_id = $1 returning policy_id, repository, path, own_digest, commit_id",
        spec.name
    )
    .fetch_all(&mut **tx)
    .await?;
    let mut names: BTreeSet<String> = before.iter().map(|row| row.policy_id.clone()).collect();
    for (position, entry) in spec.entries.iter().enumerate() {
        names.insert(entry.policy.clone());
        let (mut own_digest, mut commit) = (None, String::new());
        match &entry.source {
            Source::Policy => {}
            Source::Inline(document) => {
                super::policy::keep_document(tx, document).await?;
                own_digest = Some(document.digest().to_owned());
            }
            Source::Git { repository, path } => {
                let known = before.iter().find(|row| {
                    row.policy_id == entry.policy
                        && row.repository.as_deref() == Some(repository)
                        && row.path.as_deref() == Some(path)
                });
                if let Some(known) = known {
                    own_digest = known.own_digest.clone();
                    commit = known.commit_id.clone();
                }
            }
        }
        insert(tx, &spec.name, i32::try_from(position).unwrap_or(i32::MAX), entry, own_digest, &commit).await?;
    }
    Ok(names)
}

async fn insert(tx: &mut Tx, binding: &str, position: i32, entry: &Entry, own: Option<String>, commit: &str) -> Result<()> {
    let (source, repository, path) = match &entry.source {
        Source::Policy => ("policy", None, None),
        Source::Inline(_) => ("inline", None, None),
        Source::Git { repository, path } => ("git", Some(repository.as_str()), Some(path.as_str())),
    };
    let fetch_problem = if source == "git" && own.is_none() { "not read yet" } else { "" };
    sqlx::query!(
        r#"
        insert into bound_policy (
            fleet_policy_id, position, policy_id, source, repository, path, action, namespaces, allow_not_evaluated,
            own_digest, commit_id, fetch_problem, problem
        )
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, '')
        "#,
        binding,
        position,
        entry.policy,
        source,
        repository,
        path,
        action_text(entry.action),
        &entry.namespaces,
        entry.allow_not_evaluated,
        own,
        commit,
        fetch_problem
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Whether content of another digest stands under a name, inline in a binding other than `except`; gives that binding.
pub async fn other_inline(tx: &mut Tx, policy: &str, digest: &str, except: &str) -> Result<Option<String>> {
    let other = sqlx::query_scalar!(
        r#"
        select fleet_policy_id
        from bound_policy
        where policy_id = $1
        and source = 'inline'
        and own_digest <> $2
        and fleet_policy_id <> $3
        limit 1
        "#,
        policy,
        digest,
        except
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(other)
}

/// A binding that names the policy itself.
pub async fn named_by(tx: &mut Tx, policy: &str) -> Result<Option<String>> {
    let binding = sqlx::query_scalar!(
        "select fleet_policy_id from bound_policy where policy_id = $1 and source = 'policy' limit 1",
        policy
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(binding)
}

/// Decides anew what holds under a name; gives the bindings it changed for.
pub async fn settle(tx: &mut Tx, policy: &str) -> Result<BTreeSet<String>> {
    let changed = sqlx::query_scalar!(
        r#"
        with content as (
            select coalesce(
                (select digest from policy where policy_id = $1),
                (
                    select own_digest
                    from bound_policy
                    where policy_id = $1
                    and own_digest is not null
                    order by fleet_policy_id collate "C", position
                    limit 1
                )
            ) as digest
        ), settled as (
            select
                b.fleet_policy_id,
                b.position,
                case
                    when b.source = 'policy' or b.own_digest is null or b.own_digest = c.digest then c.digest
                end as digest,
                case
                    when b.source = 'policy' and c.digest is null then 'there is no policy of this name'
                    when b.source <> 'policy' and b.own_digest <> c.digest then 'another policy of this name has other content'
                    else b.fetch_problem
                end as problem
            from bound_policy b, content c
            where b.policy_id = $1
        )
        update bound_policy b
        set digest = s.digest, problem = s.problem
        from settled s
        where b.fleet_policy_id = s.fleet_policy_id
        and b.position = s.position
        and (b.digest, b.problem) is distinct from (s.digest, s.problem)
        returning b.fleet_policy_id
        "#,
        policy
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(changed.into_iter().collect())
}

/// What some bindings bind, in their order: `(binding, bound policy)`.
pub async fn of_bindings(pool: &PgPool, bindings: &[String]) -> Result<Vec<(String, BoundRecord)>> {
    let rows = sqlx::query!(
        r#"
        select fleet_policy_id, policy_id, source, commit_id, digest is not null as "holds!", problem
        from bound_policy
        where fleet_policy_id = any($1)
        order by fleet_policy_id collate "C", position
        "#,
        bindings
    )
    .fetch_all(pool)
    .await?;
    let record = |policy, source, commit, holds, problem| BoundRecord { policy, source, commit, holds, problem };
    let rows = rows.into_iter();
    Ok(rows.map(|row| (row.fleet_policy_id, record(row.policy_id, row.source, row.commit_id, row.holds, row.problem))).collect())
}

/// What one binding binds, within a transaction.
pub async fn of_binding(tx: &mut Tx, binding: &str) -> Result<Vec<BoundRecord>> {
    let rows = sqlx::query!(
        r#"
        select policy_id, source, commit_id, digest is not null as "holds!", problem
        from bound_policy
        where fleet_policy_id = $1
        order by position
        "#,
        binding
    )
    .fetch_all(&mut **tx)
    .await?;
    let record = |policy, source, commit, holds, problem| BoundRecord { policy, source, commit, holds, problem };
    Ok(rows.into_iter().map(|row| record(row.policy_id, row.source, row.commit_id, row.holds, row.problem)).collect())
}

/// Files to read after a key, each once.
pub async fn git_sources(pool: &PgPool, after: &GitSource, limit: i64) -> Result<Vec<GitSource>> {
    let rows = sqlx::query!(
        r#"
        select distinct repository as "repository!", path as "path!", policy_id
        from bound_policy
        where source = 'git'
        and (repository, path, policy_id) > ($1, $2, $3)
        order by 1, 2, 3
        limit $4
        "#,
        after.repository,
        after.path,
        after.policy,
        limit
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| GitSource { repository: row.repository, path: row.path, policy: row.policy_id }).collect())
}

/// Writes what was read from a file; gives whether anything is new. Without a digest what was read before stays.
pub async fn write_read(tx: &mut Tx, source: &GitSource, digest: Option<&str>, commit: &str, problem: &str) -> Result<bool> {
    let written = sqlx::query!(
        r#"
        update bound_policy
        set own_digest = coalesce($4, own_digest),
            commit_id = case when $4::text is null then commit_id else $5 end,
            fetch_problem = $6
        where repository = $1
        and path = $2
        and policy_id = $3
        and (coalesce($4, own_digest), case when $4::text is null then commit_id else $5 end, $6)
            is distinct from (own_digest, commit_id, fetch_problem)
        "#,
        source.repository,
        source.path,
        source.policy,
        digest,
        commit,
        problem
    )
    .execute(&mut **tx)
    .await?;
    Ok(written.rows_affected() > 0)
}
