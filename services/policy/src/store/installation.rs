//! How far clusters came with applying what they were told.

use super::report::Observed;
use crate::domain::{FleetPolicyCluster, Installation, PolicyForm, Stage};
use muster_kit::{Error, Result, Tx, time};
use sqlx::PgPool;

/// Takes an agent's word unless a newer one is there.
pub async fn keep(tx: &mut Tx, cluster: &str, observed: Observed, said: &Installation) -> Result<()> {
    sqlx::query!(
        r#"
        insert into installation as i (cluster_id, generation, incarnation, observed_at, stage, message)
        values ($1, $2, $3, $4, $5, $6)
        on conflict (cluster_id) do update
        set generation = excluded.generation,
            incarnation = excluded.incarnation,
            observed_at = excluded.observed_at,
            stage = excluded.stage,
            message = excluded.message
        where (i.incarnation, i.generation, i.observed_at) <= (excluded.incarnation, excluded.generation, excluded.observed_at)
        "#,
        cluster,
        observed.generation,
        observed.incarnation,
        time::to_db(observed.at) as _,
        said.stage.as_str(),
        said.message
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// How the members of a fleet have some policies, in name order; an agent's word counts while it is about what its cluster
/// was told last.
pub async fn of_fleet(pool: &PgPool, fleet: &str, policies: &[String], limit: i64) -> Result<Vec<FleetPolicyCluster>> {
    let rows = sqlx::query!(
        r#"
        select m.cluster_id, d.forms as "forms?", i.stage as "stage?", i.message as "message?"
        from fleet_member m
        left join distribution d using (cluster_id)
        left join installation i on (i.cluster_id, i.generation, i.incarnation) = (d.cluster_id, d.generation, d.incarnation)
        where m.fleet_id = $1
        order by m.cluster_id collate "C"
        limit $2
        "#,
        fleet,
        limit
    )
    .fetch_all(pool)
    .await?;
    let member = |cluster: String, forms: Option<serde_json::Value>, stage: Option<String>, message: Option<String>| {
        let forms = forms.map(serde_json::from_value::<Vec<PolicyForm>>).transpose().map_err(Error::internal)?;
        let forms: Vec<PolicyForm> =
            forms.unwrap_or_default().into_iter().filter(|form| policies.contains(&form.policy)).collect();
        let stage = stage.as_deref().and_then(Stage::parse);
        let is_told = policies.iter().all(|policy| forms.iter().any(|form| form.policy == *policy));
        let installation = stage.map(|stage| Installation { stage, message: message.unwrap_or_default() });
        Ok(FleetPolicyCluster { cluster, installation, is_told, forms })
    };
    rows.into_iter().map(|row| member(row.cluster_id, row.forms, row.stage, row.message)).collect()
}
