//! What each cluster was told last, and under which number.

use crate::domain::PolicyForm;
use muster_kit::{Error, Result, Tx};
use sqlx::PgPool;
use std::collections::HashMap;

/// What a cluster was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The number it was told under; 0: nothing yet.
    pub generation: i64,
    /// Digest of what it was told.
    pub content_digest: String,
}

/// What every cluster was told.
pub async fn all(pool: &PgPool) -> Result<HashMap<String, Told>> {
    let rows = sqlx::query!("select cluster_id, generation, content_digest from distribution").fetch_all(pool).await?;
    let told = |generation, content_digest| Told { generation, content_digest };
    Ok(rows.into_iter().map(|row| (row.cluster_id, told(row.generation, row.content_digest))).collect())
}

/// Writes what a cluster was told.
pub async fn write(
    tx: &mut Tx,
    cluster: &str,
    generation: i64,
    incarnation: i64,
    content_digest: &str,
    policies: &[String],
    forms: &[PolicyForm],
) -> Result<()> {
    sqlx::query!(
        r#"
        insert into distribution (cluster_id, generation, incarnation, content_digest, policies, forms)
        values ($1, $2, $3, $4, $5, $6)
        on conflict (cluster_id) do update
        set generation = excluded.generation,
            incarnation = excluded.incarnation,
            content_digest = excluded.content_digest,
            policies = excluded.policies,
            forms = excluded.forms
        "#,
        cluster,
        generation,
        incarnation,
        content_digest,
        policies,
        serde_json::to_value(forms).map_err(Error::internal)?
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Takes another number over, and forgets what was told under it.
pub async fn forget_content(tx: &mut Tx, cluster: &str, generation: i64) -> Result<()> {
    sqlx::query!("update distribution set generation = $2, content_digest = '' where cluster_id = $1", cluster, generation)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// The registry's incarnation rose, and with it those of what clusters were told.
pub async fn raise_incarnation(tx: &mut Tx, cluster: &str, incarnation: i64) -> Result<()> {
    sqlx::query!("update distribution set incarnation = $2 where cluster_id = $1 and incarnation < $2", cluster, incarnation)
        .execute(&mut **tx)
        .await?;
    Ok(())
}
