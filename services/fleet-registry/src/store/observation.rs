//! The `observation` table: the latest of every item.

use muster_kit::{Result, Tx};
use serde_json::Value;

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

/// Stores an observation and gives the row's new version; `None` where a later generation has been observed already.
pub async fn put(tx: &mut Tx, cluster_id: i64, observation: &NewObservation) -> Result<Option<i64>> {
    Ok(sqlx::query_scalar!(
        r#"
        insert into observation as known (cluster_id, owner, name, incarnation, generation, version, body)
        values ($1, $2, $3, $4, $5, 1, $6)
        on conflict (cluster_id, owner, name) do update
        set incarnation = excluded.incarnation, generation = excluded.generation, version = known.version + 1,
            body = excluded.body, stored_at = now()
        where (known.incarnation, known.generation) <= (excluded.incarnation, excluded.generation)
        returning version
        "#,
        cluster_id,
        observation.owner,
        observation.name,
        observation.incarnation,
        observation.generation,
        observation.body
    )
    .fetch_optional(&mut **tx)
    .await?)
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
