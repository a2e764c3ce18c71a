//! The `observation` table: the latest of every item.

use muster_kit::{Result, Tx};
use serde_json::Value;
use std::collections::HashMap;

/// An observation to be stored.
#[derive(Debug, Clone)]
pub struct NewObservation {
    /// The owner.
    pub owner: String,
    /// The item.
    pub name: String,
    /// Of the generation it is about.
    pub incarnation: i64,
    /// Of the generation it is about.
    pub generation: i64,
    /// The observation as proto3 JSON.
    pub body: Value,
}

/// Stores observations, each of another item, in one statement; gives the new version of each row, `None` where a later
/// generation has been observed already.
pub async fn put(tx: &mut Tx, cluster_id: i64, observations: &[NewObservation]) -> Result<Vec<Option<i64>>> {
    let owners: Vec<String> = observations.iter().map(|seen| seen.owner.clone()).collect();
    let names: Vec<String> = observations.iter().map(|seen| seen.name.clone()).collect();
    let incarnations: Vec<i64> = observations.iter().map(|seen| seen.incarnation).collect();
    let generations: Vec<i64> = observations.iter().map(|seen| seen.generation).collect();
    let bodies: Vec<Value> = observations.iter().map(|seen| seen.body.clone()).collect();
    let stored = sqlx::query!(
        r#"
        insert into observation as known (cluster_id, owner, name, incarnation, generation, version, body)
        select $1, owner, name, incarnation, generation, 1, body
        from unnest($2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::jsonb[])
            as seen (owner, name, incarnation, generation, body)
        on conflict (cluster_id, owner, name) do update
        set incarnation = excluded.incarnation, generation = excluded.generation, version = known.version + 1,
            body = excluded.body, stored_at = now()
        where (known.incarnation, known.generation) <= (excluded.incarnation, excluded.generation)
        returning owner, name, version
        "#,
        cluster_id,
        &owners,
        &names,
        &incarnations,
        &generations,
        &bodies
    )
    .fetch_all(&mut **tx)
    .await?;
    let versions: HashMap<(String, String), i64> = stored.into_iter().map(|row| ((row.owner, row.name), row.version)).collect();
    Ok(owners.into_iter().zip(names).map(|item| versions.get(&item).copied()).collect())
}

/// The latest observation of every item of an owner, with its cluster's name.
pub async fn of_owner(tx: &mut Tx, owner: &str) -> Result<Vec<(String, Value)>> {
    let rows = sqlx::query!(
        r#"
        select c.name, o.body
        from observation o
        join cluster c using (cluster_id)
        where o.owner = $1
        order by c.name, o.name
        "#,
        owner
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows.into_iter().map(|row| (row.name, row.body)).collect())
}
