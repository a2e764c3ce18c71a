//! What clusters reported. A report counts only while its generation is the one the cluster was last told.

use crate::domain::PolicyReport;
use jiff::Timestamp;
use muster_core::version::Version;
use muster_kit::{Error, Result, Tx, time};
use serde_json::Value;
use sqlx::PgPool;

struct Row {
    cluster_id: String,
    policy_id: String,
    rules: Value,
    violations: Value,
    observed_at: jiff_sqlx::Timestamp,
}

impl TryFrom<Row> for PolicyReport {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        let Row { cluster_id, policy_id, rules, violations, observed_at } = row;
        Ok(Self {
            cluster: cluster_id,
            policy: policy_id,
            rules: serde_json::from_value(rules).map_err(Error::internal)?,
            violations: serde_json::from_value(violations).map_err(Error::internal)?,
            observed_at: observed_at.to_jiff(),
        })
    }
}

/// Which generation an observation is about, and when it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observed {
    /// The registry's incarnation.
    pub incarnation: i64,
    /// Our number.
    pub generation: i64,
    /// By the cluster's clock.
    pub at: Timestamp,
}

/// What the reports of a cluster are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// The registry's incarnation, of the generation.
    pub incarnation: i64,
    /// Our number.
    pub generation: i64,
    /// The registry's version of the cluster's verdicts.
    pub version: Version,
}

/// What the reports of a cluster are made of; `None` before there are any.
pub async fn known(tx: &mut Tx, cluster: &str) -> Result<Option<Known>> {
    let row = sqlx::query!(
        "select incarnation, generation, version_incarnation, version from observation where cluster_id = $1 for update",
        cluster
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.map(|row| Known {
        incarnation: row.incarnation,
        generation: row.generation,
        version: Version::new(row.version_incarnation.cast_unsigned(), row.version.cast_unsigned()),
    }))
}

/// Notes that the reports of a cluster are made of this version now.
pub async fn begin(tx: &mut Tx, cluster: &str, observed: Observed, version: Version) -> Result<()> {
    sqlx::query!(
        r#"
        insert into observation (cluster_id, generation, incarnation, observed_at, version_incarnation, version)
        values ($1, $2, $3, $4, $5, $6)
        on conflict (cluster_id) do update
        set generation = excluded.generation, incarnation = excluded.incarnation, observed_at = excluded.observed_at,
            version_incarnation = excluded.version_incarnation, version = excluded.version
        "#,
        cluster,
        observed.generation,
        observed.incarnation,
        time::to_db(observed.at) as _,
        version.incarnation.cast_signed(),
        version.n.cast_signed()
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The reports of a cluster on some policies, as they are stored.
pub async fn stored(tx: &mut Tx, cluster: &str, policies: &[String]) -> Result<Vec<PolicyReport>> {
    let rows = sqlx::query_as!(
        Row,
        r#"
        select r.cluster_id, r.policy_id, r.rules, r.violations, o.observed_at
        from policy_report r
        join observation o using (cluster_id)
        where r.cluster_id = $1
        and r.policy_id = any($2)
        "#,
        cluster,
        policies
    )
    .fetch_all(&mut **tx)
    .await?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// Takes away the reports on other policies than these; gives on which.
pub async fn keep_only(tx: &mut Tx, cluster: &str, policies: &[String]) -> Result<Vec<String>> {
    let gone = sqlx::query_scalar!(
        "delete from policy_report where cluster_id = $1 and policy_id <> all($2) returning policy_id",
        cluster,
        policies
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(gone)
}

/// Writes one policy's report of the observation just taken; gives whether it says something else than before.
pub async fn write(tx: &mut Tx, report: &PolicyReport) -> Result<bool> {
    let written = sqlx::query!(
        r#"
        insert into policy_report as r (cluster_id, policy_id, rules, violations, failing)
        values ($1, $2, $3, $4, $5)
        on conflict (cluster_id, policy_id) do update
        set rules = excluded.rules, violations = excluded.violations, failing = excluded.failing
        where (r.rules, r.violations) is distinct from (excluded.rules, excluded.violations)
        "#,
        report.cluster,
        report.policy,
        serde_json::to_value(&report.rules).map_err(Error::internal)?,
        serde_json::to_value(&report.violations).map_err(Error::internal)?,
        report.failing()
    )
    .execute(&mut **tx)
    .await?;
    Ok(written.rows_affected() > 0)
}

/// What a cluster was told last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The registry's incarnation.
    pub incarnation: i64,
    /// Our number.
    pub generation: i64,
    /// Policies it was told of.
    pub policies: Vec<String>,
}

/// What a cluster was told last; `None` if nothing yet.
pub async fn told(tx: &mut Tx, cluster: &str) -> Result<Option<Told>> {
    let told = sqlx::query_as!(Told, "select incarnation, generation, policies from distribution where cluster_id = $1", cluster)
        .fetch_optional(&mut **tx)
        .await?;
    Ok(told)
}

/// One report.
pub async fn get(pool: &PgPool, cluster: &str, policy: &str) -> Result<Option<PolicyReport>> {
    let row = sqlx::query_as!(
        Row,
        r#"
        select r.cluster_id, r.policy_id, r.rules, r.violations, o.observed_at
        from policy_report r
        join observation o using (cluster_id)
        join distribution d using (cluster_id, generation, incarnation)
        where r.cluster_id = $1
        and r.policy_id = $2
        and r.policy_id = any(d.policies)
        "#,
        cluster,
        policy
    )
    .fetch_optional(pool)
    .await?;
    row.map(TryInto::try_into).transpose()
}

/// Reports after a key, in (cluster, policy) order; of one cluster where it is named.
pub async fn list(pool: &PgPool, cluster: Option<&str>, after: (&str, &str), limit: i64) -> Result<Vec<PolicyReport>> {
    let rows = sqlx::query_as!(
        Row,
        r#"
        select r.cluster_id, r.policy_id, r.rules, r.violations, o.observed_at
        from policy_report r
        join observation o using (cluster_id)
        join distribution d using (cluster_id, generation, incarnation)
        where ($1::text is null or r.cluster_id = $1)
        and (r.cluster_id collate "C", r.policy_id collate "C") > ($2, $3)
        and r.policy_id = any(d.policies)
        order by r.cluster_id collate "C", r.policy_id collate "C"
        limit $4
        "#,
        cluster,
        after.0,
        after.1,
        limit
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(TryInto::try_into).collect()
}
