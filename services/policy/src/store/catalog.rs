//! What decides verdicts, read whole, and the revision it is as of.

use crate::domain::{Binding, Catalog, Exception, Members, PolicyDocument};
use jiff::Timestamp;
use muster_core::version::Version;
use muster_kit::{Error, Result, Tx, db};
use muster_policy_evaluator::FailureAction;
use sqlx::PgPool;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// Makes writers of policies and bindings wait for each other, so that a name is settled by one at a time; the first
/// thing their transactions do. People and commits write seldom.
pub async fn lock(tx: &mut Tx) -> Result<()> {
    sqlx::query!("select n from policy_revision for update").fetch_one(&mut **tx).await?;
    Ok(())
}

/// Raises the revision; part of every transaction that may change a verdict.
pub async fn raise_revision(tx: &mut Tx) -> Result<()> {
    sqlx::query!("update policy_revision set n = n + 1, as_of = clock_timestamp()").execute(&mut **tx).await?;
    Ok(())
}

/// The revision as it stands, and what time it is.
pub async fn revision(pool: &PgPool) -> Result<(Version, Timestamp)> {
    let row = sqlx::query!(r#"select i.incarnation, r.n, clock_timestamp() as "now!" from incarnation i, policy_revision r"#)
        .fetch_one(pool)
        .await?;
    Ok((Version::new(row.incarnation.cast_unsigned(), row.n.cast_unsigned()), row.now.to_jiff()))
}

/// Reads all of it as of one moment.
pub async fn read(pool: &PgPool) -> Result<Catalog> {
    let mut tx = db::begin(pool).await?;
    sqlx::query!("set transaction isolation level repeatable read, read only").execute(&mut *tx).await?;
    let row =
        sqlx::query!("select i.incarnation, r.n, r.as_of from incarnation i, policy_revision r").fetch_one(&mut *tx).await?;
    let revision = Version::new(row.incarnation.cast_unsigned(), row.n.cast_unsigned());
    let contents = sqlx::query!(
        "select digest, content from document where digest in (select digest from bound_policy where digest is not null)"
    )
    .fetch_all(&mut *tx)
    .await?;
    let bound = sqlx::query!(
        r#"
        select f.fleet_policy_id, f.fleet_id, b.policy_id, b.digest, b.problem, b.action, b.namespaces, b.allow_not_evaluated
        from bound_policy b
        join fleet_policy f using (fleet_policy_id)
        order by f.fleet_policy_id collate "C", b.position
        "#
    )
    .fetch_all(&mut *tx)
    .await?;
    let ramps = sqlx::query!("select fleet_policy_id, digest, turned from ramp").fetch_all(&mut *tx).await?;
    let members = sqlx::query!("select fleet_id, cluster_id from fleet_member").fetch_all(&mut *tx).await?;
    tx.commit().await?;

    let mut documents: HashMap<String, Arc<PolicyDocument>> = HashMap::new();
    for row in contents {
        // It was read once before it was stored; a refusal now is our fault.
        let document = PolicyDocument::stored(&row.content).map_err(Error::internal)?;
        documents.insert(row.digest, Arc::new(document));
    }
    let as_of = row.as_of.to_jiff();
    let mut catalog = Catalog { revision, as_of, fleets: BTreeMap::new(), ..Catalog::default() };
    for row in members {
        catalog.fleets.entry(row.fleet_id).or_default().insert(row.cluster_id);
    }
    let mut ramped: BTreeMap<String, Vec<Binding>> =
        ramps.iter().map(|ramp| (ramp.fleet_policy_id.clone(), Vec::new())).collect();
    for row in bound {
        match row.digest.as_ref().and_then(|digest| documents.get(digest)) {
            Some(document) if document.exception().is_some() => catalog.except(Exception {
                fleet_policy: row.fleet_policy_id,
                fleet: row.fleet_id,
                document: Arc::clone(document),
                is_narrowed: row.action.is_some() || !row.namespaces.is_empty() || row.allow_not_evaluated,
            }),
            Some(document) => {
                let list = ramped.get_mut(&row.fleet_policy_id).unwrap_or(&mut catalog.bindings);
                list.push(Binding {
                    fleet_policy: row.fleet_policy_id,
                    fleet: row.fleet_id,
                    members: Members::All,
                    document: Arc::clone(document),
                    action: row.action.as_deref().and_then(FailureAction::parse),
                    namespaces: row.namespaces,
                    allow_not_evaluated: row.allow_not_evaluated,
                });
            }
            None => catalog.problems.push(format!(
                "policy {} of fleet policy {} does not hold yet: {}",
                row.policy_id, row.fleet_policy_id, row.problem
            )),
        }
    }
    for ramp in ramps {
        let turned: BTreeMap<String, u32> = serde_json::from_value(ramp.turned).map_err(Error::internal)?;
        let bindings = ramped.remove(&ramp.fleet_policy_id).unwrap_or_default();
        catalog.ramp(&ramp.fleet_policy_id, bindings, &ramp.digest, turned.into_keys().collect());
    }
    Ok(catalog)
}
