//! Ramps on their way, and what is seen of their clusters.

use crate::domain::{MemberSeen, PolicyForm, Ramp, RampSpec, RampState};
use jiff::Timestamp;
use muster_kit::{Error, Result, Tx, time};
use serde_json::Value;
use sqlx::PgPool;
use std::collections::BTreeMap;

/// A ramp as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct RampRecord {
    /// The binding it is of.
    pub fleet_policy: String,
    /// The binding's fleet.
    pub fleet: String,
    /// Its waves.
    pub spec: RampSpec,
    /// How it stands.
    pub ramp: Ramp,
}

struct Row {
    fleet_policy_id: String,
    fleet_id: String,
    spec: Value,
    digest: String,
    state: String,
    wave: i32,
    began_at: jiff_sqlx::Timestamp,
    soaking_since: Option<jiff_sqlx::Timestamp>,
    reason: String,
    turned: Value,
    baseline: Value,
}

impl TryFrom<Row> for RampRecord {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        let Row { fleet_policy_id, fleet_id, spec, digest, state, wave, began_at, soaking_since, reason, turned, baseline } = row;
        let unknown = || Error::internal(anyhow::anyhow!("the ramp of {fleet_policy_id} is {state:?}"));
        let ramp = Ramp {
            digest,
            state: RampState::parse(&state).ok_or_else(unknown)?,
            wave: wave.cast_unsigned(),
            began_at: began_at.to_jiff(),
            soaking_since: soaking_since.map(jiff_sqlx::Timestamp::to_jiff),
            reason,
            turned: serde_json::from_value(turned).map_err(Error::internal)?,
            baseline: serde_json::from_value(baseline).map_err(Error::internal)?,
        };
        Ok(Self {
            fleet_policy: fleet_policy_id,
            fleet: fleet_id,
            spec: serde_json::from_value(spec).map_err(Error::internal)?,
            ramp,
        })
    }
}

/// Gives a binding its waves; a ramp that is on its way goes on by them. `None` takes the ramp away.
pub async fn put(tx: &mut Tx, fleet_policy: &str, spec: Option<&RampSpec>) -> Result<()> {
    let Some(spec) = spec else {
        sqlx::query!("delete from ramp where fleet_policy_id = $1", fleet_policy).execute(&mut **tx).await?;
        return Ok(());
    };
    sqlx::query!(
        r#"
        insert into ramp (fleet_policy_id, spec, digest, state, wave, began_at, reason, turned, baseline)
        values ($1, $2, '', 'soaking', 0, clock_timestamp(), '', '{}', '{}')
        on conflict (fleet_policy_id) do update
        set spec = excluded.spec
        "#,
        fleet_policy,
        serde_json::to_value(spec).map_err(Error::internal)?
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Bindings with a ramp, in name order.
pub async fn bindings(pool: &PgPool) -> Result<Vec<String>> {
    let names =
        sqlx::query_scalar!(r#"select fleet_policy_id from ramp order by fleet_policy_id collate "C""#).fetch_all(pool).await?;
    Ok(names)
}

/// A binding's ramp, held until the transaction ends.
pub async fn lock(tx: &mut Tx, fleet_policy: &str) -> Result<Option<RampRecord>> {
    let row = sqlx::query_as!(
        Row,
        r#"
        select
            fleet_policy_id, fleet_id, spec, digest, state, wave, began_at, soaking_since as "soaking_since: _", reason, turned,
            baseline
        from ramp
        join fleet_policy using (fleet_policy_id)
        where fleet_policy_id = $1
        for update of ramp
        "#,
        fleet_policy
    )
    .fetch_optional(&mut **tx)
    .await?;
    row.map(TryInto::try_into).transpose()
}

/// The ramps of some bindings.
pub async fn of_bindings(pool: &PgPool, bindings: &[String]) -> Result<Vec<RampRecord>> {
    let rows = sqlx::query_as!(
        Row,
        r#"
        select
            fleet_policy_id, fleet_id, spec, digest, state, wave, began_at, soaking_since as "soaking_since: _", reason, turned,
            baseline
        from ramp
        join fleet_policy using (fleet_policy_id)
        where fleet_policy_id = any($1)
        "#,
        bindings
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// Writes how a ramp stands.
pub async fn write(tx: &mut Tx, fleet_policy: &str, ramp: &Ramp) -> Result<()> {
    let Ramp { digest, state, wave, began_at, soaking_since, reason, turned, baseline } = ramp;
    sqlx::query!(
        r#"
        update ramp
        set digest = $2, state = $3, wave = $4, began_at = $5, soaking_since = $6, reason = $7, turned = $8, baseline = $9
        where fleet_policy_id = $1
        "#,
        fleet_policy,
        digest,
        state.as_str(),
        wave.cast_signed(),
        time::to_db(*began_at) as _,
        soaking_since.map(time::to_db) as _,
        reason,
        serde_json::to_value(turned).map_err(Error::internal)?,
        serde_json::to_value(baseline).map_err(Error::internal)?
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The members of a fleet, as they stand to some policies; only what is about the content a cluster was told last counts.
pub async fn members(tx: &mut Tx, fleet: &str, policies: &[String]) -> Result<BTreeMap<String, MemberSeen>> {
    let rows = sqlx::query!(
        r#"
        select
            m.cluster_id as "cluster_id!",
            coalesce(c.labels, '{}') as "labels!",
            (select array_agg(fleet_id) from fleet_member f where f.cluster_id = m.cluster_id) as "fleets!",
            coalesce(i.stage = 'in_force', false) as "is_in_force!",
            coalesce(d.forms, '[]') as "forms!",
            (
                select jsonb_object_agg(r.policy_id, r.failing)
                from policy_report r
                where r.cluster_id = o.cluster_id
                and r.policy_id = any($2)
            ) as failing
        from fleet_member m
        left join cluster c using (cluster_id)
        left join distribution d using (cluster_id)
        left join installation i on (i.cluster_id, i.generation, i.incarnation) = (d.cluster_id, d.generation, d.incarnation)
        left join observation o on (o.cluster_id, o.generation, o.incarnation) = (d.cluster_id, d.generation, d.incarnation)
        where m.fleet_id = $1
        "#,
        fleet,
        policies
    )
    .fetch_all(&mut **tx)
    .await?;
    let mut members = BTreeMap::new();
    for row in rows {
        let forms: Vec<PolicyForm> = serde_json::from_value(row.forms).map_err(Error::internal)?;
        let failing: Option<BTreeMap<String, i64>> =
            row.failing.map(serde_json::from_value).transpose().map_err(Error::internal)?;
        let enforces = |policy: &String| forms.iter().any(|form| form.policy == *policy && form.enforced);
        let member = MemberSeen {
            labels: serde_json::from_value(row.labels).map_err(Error::internal)?,
            fleets: row.fleets.into_iter().collect(),
            is_in_force: row.is_in_force,
            enforces: policies.iter().all(enforces),
            // Who was not told of all of them has not reported on all.
            failing: failing
                .or_else(|| policies.is_empty().then(BTreeMap::new))
                .filter(|failing| failing.len() == policies.len()),
        };
        members.insert(row.cluster_id, member);
    }
    Ok(members)
}

/// The present, by the database.
pub async fn now(tx: &mut Tx) -> Result<Timestamp> {
    let now = sqlx::query_scalar!(r#"select clock_timestamp() as "now!""#).fetch_one(&mut **tx).await?;
    Ok(now.to_jiff())
}
