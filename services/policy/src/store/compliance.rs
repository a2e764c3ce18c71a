//! Who complies, counted from the reports, and how that changed.

use crate::domain::{ComplianceKey, CompliancePoint, ComplianceRow, GroupBy};
use jiff::Timestamp;
use muster_kit::{Result, Tx, time};
use sqlx::PgPool;

/// Which rows of a summary.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Of this fleet only.
    pub fleet: Option<&'a str>,
    /// Of this policy only.
    pub policy: Option<&'a str>,
    /// Those behind this one.
    pub after: &'a ComplianceKey,
    /// So many.
    pub limit: i64,
}

fn count(count: i64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Rows of a summary, in the order of their keys.
pub async fn summary(pool: &PgPool, by: GroupBy, wanted: Wanted<'_>) -> Result<Vec<ComplianceRow>> {
    match by {
        GroupBy::Fleet => of_members(pool, wanted, false, false).await,
        GroupBy::Policy => of_members(pool, wanted, true, false).await,
        GroupBy::Cluster => of_members(pool, wanted, true, true).await,
        GroupBy::Namespace => of_objects(pool, wanted, false).await,
        GroupBy::Workload => of_objects(pool, wanted, true).await,
    }
}

/// Members counted by fleet and, where asked for, policy and cluster. A report counts only while its generation is the one
/// the cluster was last told.
async fn of_members(pool: &PgPool, wanted: Wanted<'_>, policies: bool, clusters: bool) -> Result<Vec<ComplianceRow>> {
    let rows = sqlx::query!(
        r#"
        with member as (
            select
                f.fleet_id,
                case when $3 then b.policy_id else '' end as policy_id,
                f.cluster_id,
                bool_or(r.failing is null) as silent,
                coalesce(sum(r.failing), 0)::bigint as failing
            from (select distinct p.fleet_id, policy_id from bound_policy join fleet_policy p using (fleet_policy_id)) b
            join fleet_member f using (fleet_id)
            left join (
                policy_report r
                join observation o using (cluster_id)
                join distribution d using (cluster_id, generation, incarnation)
            ) on r.cluster_id = f.cluster_id and r.policy_id = b.policy_id
            where ($1::text is null or f.fleet_id = $1)
            and ($2::text is null or b.policy_id = $2)
            group by 1, 2, 3
        ),
        counted as (
            select
                fleet_id,
                policy_id,
                case when $4 then cluster_id else '' end as cluster_id,
                count(*) filter (where failing = 0 and not silent) as compliant,
                count(*) filter (where failing > 0) as violating,
                count(*) filter (where failing = 0 and silent) as silent,
                sum(failing)::bigint as violations
            from member
            group by 1, 2, 3
        )
        select
            fleet_id,
            policy_id as "policy_id!",
            cluster_id as "cluster_id!",
            compliant as "compliant!",
            violating as "violating!",
            silent as "silent!",
            violations as "violations!"
        from counted
        where (fleet_id collate "C", policy_id collate "C", cluster_id collate "C") > ($5, $6, $7)
        order by fleet_id collate "C", policy_id collate "C", cluster_id collate "C"
        limit $8
        "#,
        wanted.fleet,
        wanted.policy,
        policies,
        clusters,
        wanted.after.fleet,
        wanted.after.policy,
        wanted.after.cluster,
        wanted.limit
    )
    .fetch_all(pool)
    .await?;
    let row = |fleet, policy, cluster| ComplianceKey { fleet, policy, cluster, ..ComplianceKey::default() };
    Ok(rows
        .into_iter()
        .map(|found| ComplianceRow {
            key: row(found.fleet_id, found.policy_id, found.cluster_id),
            compliant: count(found.compliant),
            violating: count(found.violating),
            silent: count(found.silent),
            violations: count(found.violations),
        })
        .collect())
}

/// Violations counted by fleet, policy and namespace and, where asked for, cluster and object.
async fn of_objects(pool: &PgPool, wanted: Wanted<'_>, workloads: bool) -> Result<Vec<ComplianceRow>> {
    let rows = sqlx::query!(
        r#"
        with counted as (
            select
                f.fleet_id,
                r.policy_id,
                case when $3 then r.cluster_id else '' end as cluster_id,
                v.namespace,
                case when $3 then v.kind || ' ' || v.object else '' end as workload,
                count(distinct r.cluster_id) as violating,
                count(*) as violations
            from (select distinct p.fleet_id, policy_id from bound_policy join fleet_policy p using (fleet_policy_id)) b
            join fleet_member f using (fleet_id)
            join policy_report r on r.cluster_id = f.cluster_id and r.policy_id = b.policy_id
            join observation o on o.cluster_id = r.cluster_id
            join distribution d on (d.cluster_id, d.generation, d.incarnation) = (o.cluster_id, o.generation, o.incarnation)
            cross join jsonb_to_recordset(r.violations) as v (kind text, namespace text, object text)
            where ($1::text is null or f.fleet_id = $1)
            and ($2::text is null or b.policy_id = $2)
            group by 1, 2, 3, 4, 5
        )
        select
            fleet_id,
            policy_id,
            cluster_id as "cluster_id!",
            namespace as "namespace!",
            workload as "workload!",
            violating as "violating!",
            violations as "violations!"
        from counted
        where (fleet_id collate "C", policy_id collate "C", cluster_id collate "C", namespace collate "C", workload collate "C")
            > ($4, $5, $6, $7, $8)
        order by fleet_id collate "C", policy_id collate "C", cluster_id collate "C", namespace collate "C", workload collate "C"
        limit $9
        "#,
        wanted.fleet,
        wanted.policy,
        workloads,
        wanted.after.fleet,
        wanted.after.policy,
        wanted.after.cluster,
        wanted.after.namespace,
        wanted.after.workload,
        wanted.limit
    )
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|found| ComplianceRow {
            key: ComplianceKey {
                fleet: found.fleet_id,
                policy: found.policy_id,
                cluster: found.cluster_id,
                namespace: found.namespace,
                workload: found.workload,
            },
            compliant: 0,
            violating: count(found.violating),
            silent: 0,
            violations: count(found.violations),
        })
        .collect())
}

/// Notes how many objects of a cluster break a policy now, where that is another number than before.
pub async fn note(tx: &mut Tx, cluster: &str, policy: &str, failing: i64) -> Result<()> {
    sqlx::query!(
        r#"
        insert into compliance_change (cluster_id, policy_id, hour, failing)
        select $1, $2, date_trunc('hour', clock_timestamp(), 'UTC'), $3
        where $3 is distinct from coalesce(
            (
                select failing
                from compliance_change
                where cluster_id = $1
                and policy_id = $2
                order by hour desc
                limit 1
            ),
            0
        )
        on conflict (cluster_id, policy_id, hour) do update
        set failing = excluded.failing
        "#,
        cluster,
        policy,
        failing
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// How the violations in a fleet came and went, from an hour on, behind `(policy, hour)`, in that order.
pub async fn history(
    pool: &PgPool,
    fleet: &str,
    policy: Option<&str>,
    from: Timestamp,
    after: (&str, Timestamp),
    limit: i64,
) -> Result<Vec<CompliancePoint>> {
    let rows = sqlx::query!(
        r#"
        with change as (
            select
                c.policy_id,
                c.hour,
                c.failing - lag(c.failing, 1, 0::bigint) over w as failing,
                (c.failing > 0)::int - (lag(c.failing, 1, 0::bigint) over w > 0)::int as violating
            from compliance_change c
            join fleet_member f using (cluster_id)
            where f.fleet_id = $1
            and ($2::text is null or c.policy_id = $2)
            window w as (partition by c.cluster_id, c.policy_id order by c.hour)
        ),
        point as (
            select
                policy_id,
                hour,
                sum(sum(failing)) over p as failing,
                sum(sum(violating)) over p as violating
            from change
            group by policy_id, hour
            window p as (partition by policy_id order by hour)
        )
        select policy_id, hour as "hour: jiff_sqlx::Timestamp", failing::bigint as "failing!", violating::bigint as "violating!"
        from point
        where hour >= $3
        and (policy_id collate "C", hour) > ($4, $5)
        order by policy_id collate "C", hour
        limit $6
        "#,
        fleet,
        policy,
        time::to_db(from) as _,
        after.0,
        time::to_db(after.1) as _,
        limit
    )
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| CompliancePoint {
            policy: row.policy_id,
            hour: row.hour.to_jiff(),
            violating: count(row.violating),
            violations: count(row.failing),
        })
        .collect())
}

/// Forgets what was before a time, but for the last of it of each cluster and policy, which still counts after.
pub async fn forget(tx: &mut Tx, before: Timestamp) -> Result<u64> {
    let gone = sqlx::query!(
        r#"
        delete from compliance_change c
        where c.hour < $1
        and exists (
            select 1
            from compliance_change n
            where (n.cluster_id, n.policy_id) = (c.cluster_id, c.policy_id)
            and n.hour > c.hour
            and n.hour <= $1
        )
        "#,
        time::to_db(before) as _
    )
    .execute(&mut **tx)
    .await?;
    Ok(gone.rows_affected())
}
