//! The `cluster` table.

use crate::domain::{
    Cluster,
    cluster::{EgressPrice, FlavorPrice, from_column, to_column},
};
use jiff::Timestamp;
use muster_core::selector::Labels;
use muster_kit::{Error, Result, Tx, time::to_db};
use serde_json::Value;
use sqlx::{PgPool, types::Json};
use std::time::Duration;
use uuid::Uuid;

struct Row {
    cluster_id: i64,
    name: String,
    uid: Option<String>,
    version: i64,
    state: String,
    reason: String,
    schedulability: String,
    labels: Json<Labels>,
    region: String,
    takes_jobs: bool,
    preflight: Option<Value>,
    inventory: Option<Value>,
    agent_version: String,
    fleets: Json<Vec<String>>,
    prices: Json<Vec<FlavorPrice>>,
    egress: Json<Vec<EgressPrice>>,
    last_seen_at: Option<jiff_sqlx::Timestamp>,
    steady_since_at: Option<jiff_sqlx::Timestamp>,
    lease_expires_at: Option<jiff_sqlx::Timestamp>,
    enrolled_at: Option<jiff_sqlx::Timestamp>,
    created_at: jiff_sqlx::Timestamp,
}

impl TryFrom<Row> for Cluster {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        Ok(Self {
            id: row.cluster_id,
            name: row.name,
            uid: row.uid,
            version: row.version,
            state: from_column(&row.state).map_err(Error::internal)?,
            reason: row.reason,
            schedulability: from_column(&row.schedulability).map_err(Error::internal)?,
            labels: row.labels.0,
            region: row.region,
            takes_jobs: row.takes_jobs,
            preflight: row.preflight,
            inventory: row.inventory,
            agent_version: row.agent_version,
            fleets: row.fleets.0,
            prices: row.prices.0,
            egress: row.egress.0,
            last_seen_at: row.last_seen_at.map(jiff_sqlx::Timestamp::to_jiff),
            steady_since_at: row.steady_since_at.map(jiff_sqlx::Timestamp::to_jiff),
            lease_expires_at: row.lease_expires_at.map(jiff_sqlx::Timestamp::to_jiff),
            enrolled_at: row.enrolled_at.map(jiff_sqlx::Timestamp::to_jiff),
            created_at: row.created_at.to_jiff(),
        })
    }
}

/// A query over whole clusters: the columns once, the rest of the statement each time.
macro_rules! clusters {
    ($rest:tt $(, $argument:expr)*) => {
        sqlx::query_as!(
            Row,
            r#"
            select
                cluster_id, name, uid, version, state, reason, schedulability, labels as "labels: Json<Labels>", region, takes_jobs,
                preflight, inventory, agent_version, fleets as "fleets: Json<Vec<String>>",
                prices as "prices: Json<Vec<FlavorPrice>>", egress as "egress: Json<Vec<EgressPrice>>", last_seen_at, steady_since_at,
                lease_expires_at, enrolled_at, created_at
            from cluster
            "# + $rest
            $(, $argument)*
        )
    };
}

fn all(rows: Vec<Row>) -> Result<Vec<Cluster>> {
    rows.into_iter().map(Cluster::try_from).collect()
}

/// One cluster.
pub async fn get(pool: &PgPool, name: &str) -> Result<Cluster> {
    let row = clusters!("where name = $1", name).fetch_optional(pool).await?;
    row.ok_or_else(|| Error::not_found(format_args!("clusters/{name}")))?.try_into()
}

/// One cluster, locked for a change.
pub async fn lock(tx: &mut Tx, name: &str) -> Result<Cluster> {
    find_locked(tx, name).await?.ok_or_else(|| Error::not_found(format_args!("clusters/{name}")))
}

/// One cluster if it exists, locked for a change.
pub async fn find_locked(tx: &mut Tx, name: &str) -> Result<Option<Cluster>> {
    clusters!("where name = $1 for update", name).fetch_optional(&mut **tx).await?.map(Cluster::try_from).transpose()
}

/// The cluster with a UID.
pub async fn find_by_uid(tx: &mut Tx, uid: &str) -> Result<Option<Cluster>> {
    clusters!("where uid = $1 for update", uid).fetch_optional(&mut **tx).await?.map(Cluster::try_from).transpose()
}

/// A page in name order.
pub async fn page(pool: &PgPool, after: &str, limit: i64) -> Result<Vec<Cluster>> {
    all(clusters!("where name > $1 order by name limit $2", after, limit).fetch_all(pool).await?)
}

/// Every cluster, in name order.
pub async fn every(tx: &mut Tx) -> Result<Vec<Cluster>> {
    all(clusters!("order by name").fetch_all(&mut **tx).await?)
}

/// Every cluster, in name order, locked for a change.
pub async fn lock_every(tx: &mut Tx) -> Result<Vec<Cluster>> {
    all(clusters!("order by name for update").fetch_all(&mut **tx).await?)
}

/// Clusters whose state depends on when they were heard.
pub async fn mortal(pool: &PgPool) -> Result<Vec<Cluster>> {
    all(clusters!("where state in ('joining', 'live', 'suspect', 'lost') and last_seen_at is not null").fetch_all(pool).await?)
}

/// Declares a cluster.
pub async fn insert(tx: &mut Tx, name: &str, labels: &Labels, region: &str, takes_jobs: bool) -> Result<()> {
    sqlx::query!(
        "insert into cluster (name, state, labels, region, takes_jobs, reason) values ($1, 'not_enrolled', $2, $3, $4, 'nobody enrolled it yet')",
        name,
        Json(labels) as _,
        region,
        takes_jobs
    )
    .execute(&mut **tx)
    .await
    .map_err(|error| {
        if muster_kit::db::violates(&error, "cluster_name_is_taken") {
            Error::already_exists(format_args!("clusters/{name}"), format!("clusters/{name} exists; update it instead"))
        } else {
            error.into()
        }
    })?;
    Ok(())
}

/// Writes what may change of a cluster, where its version is still the one it was read with; gives the new version.
pub async fn update(tx: &mut Tx, cluster: &Cluster) -> Result<i64> {
    sqlx::query_scalar!(
        r#"
        update cluster
        set version = version + 1, uid = $3, state = $4, reason = $5, schedulability = $6, labels = $7, region = $8, takes_jobs = $9,
            preflight = $10, inventory = $11, agent_version = $12, fleets = $13, prices = $14, last_seen_at = greatest(last_seen_at, $15),
            steady_since_at = coalesce(steady_since_at, $16), enrolled_at = $17, egress = $18
        where cluster_id = $1
        and version = $2
        returning version
        "#,
        cluster.id,
        cluster.version,
        cluster.uid,
        to_column(&cluster.state),
        cluster.reason,
        to_column(&cluster.schedulability),
        Json(&cluster.labels) as _,
        cluster.region,
        cluster.takes_jobs,
        cluster.preflight,
        cluster.inventory,
        cluster.agent_version,
        Json(&cluster.fleets) as _,
        Json(&cluster.prices) as _,
        cluster.last_seen_at.map(to_db),
        cluster.steady_since_at.map(to_db),
        cluster.enrolled_at.map(to_db),
        Json(&cluster.egress) as _,
    )
    .fetch_optional(&mut **tx)
    .await?
    .ok_or_else(|| Error::conflict("CONTENTION", "the cluster changed meanwhile; try again"))
}

/// Deletes a cluster and all that hangs on it.
pub async fn delete(tx: &mut Tx, id: i64) -> Result<()> {
    sqlx::query!("delete from cluster where cluster_id = $1", id).execute(&mut **tx).await?;
    Ok(())
}

/// Which certificates may connect as a cluster.
pub struct Credentials {
    /// The current one's fingerprint.
    pub fingerprint: Option<String>,
    /// The one before, until the current one is first used.
    pub previous: Option<String>,
}

/// The certificates of a cluster.
pub async fn credentials(tx: &mut Tx, id: i64) -> Result<Credentials> {
    let row = sqlx::query!("select fingerprint, previous_fingerprint from cluster where cluster_id = $1", id)
        .fetch_one(&mut **tx)
        .await?;
    Ok(Credentials { fingerprint: row.fingerprint, previous: row.previous_fingerprint })
}

/// Gives a cluster a new certificate; with `None` all are void.
pub async fn set_fingerprint(tx: &mut Tx, id: i64, fingerprint: Option<&str>, keep_previous: Keep) -> Result<()> {
    sqlx::query!(
        r#"
        update cluster
        set previous_fingerprint = case when $3 then fingerprint end, fingerprint = $2
        where cluster_id = $1
        "#,
        id,
        fingerprint,
        keep_previous == Keep::Previous
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Whether the certificate before still connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Until the new one is first used.
    Previous,
    /// No other.
    Nothing,
}

/// Makes a stream the one that counts for a cluster; the certificate it used is from now on the only one.
pub async fn begin_session(tx: &mut Tx, id: i64, session: Uuid, fingerprint: &str) -> Result<()> {
    sqlx::query!(
        r#"
        update cluster
        set session = $2, previous_fingerprint = case when fingerprint = $3 then null else previous_fingerprint end
        where cluster_id = $1
        "#,
        id,
        session,
        fingerprint
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// A heartbeat of a session.
#[derive(Debug, Clone, Copy)]
pub struct Beat {
    /// The cluster.
    pub cluster_id: i64,
    /// The session; one that has been replaced renews nothing.
    pub session: Uuid,
}

/// Writes many heartbeats as one statement; gives the sessions that still count. A gap longer than `gap` starts a new
/// steady time.
pub async fn beat(pool: &PgPool, beats: &[Beat], now: Timestamp, lease: Duration, gap: Duration) -> Result<Vec<Uuid>> {
    let ids: Vec<i64> = beats.iter().map(|beat| beat.cluster_id).collect();
    let sessions: Vec<Uuid> = beats.iter().map(|beat| beat.session).collect();
    let renewed = sqlx::query_scalar!(
        r#"
        update cluster c
        set steady_since_at = case
                when c.last_seen_at is null or c.last_seen_at < $3::timestamptz - make_interval(secs => $5) then $3
                else coalesce(c.steady_since_at, $3)
            end,
            last_seen_at = greatest(c.last_seen_at, $3),
            lease_expires_at = greatest(c.lease_expires_at, $3::timestamptz + make_interval(secs => $4))
        from unnest($1::bigint[], $2::uuid[]) as beat (cluster_id, session)
        where c.cluster_id = beat.cluster_id
        and c.session = beat.session
        returning beat.session as "session!"
        "#,
        &ids,
        &sessions,
        to_db(now),
        lease.as_secs_f64(),
        gap.as_secs_f64()
    )
    .fetch_all(pool)
    .await?;
    Ok(renewed)
}

/// How far the desired state of some clusters has come, and which session counts: `(cluster_id, sequence, session, leaving)`.
pub async fn sequences(pool: &PgPool, ids: &[i64]) -> Result<Vec<Progress>> {
    let rows = sqlx::query_as!(
        Progress,
        r#"
        select cluster_id, desired_sequence as sequence, session, state in ('leaving') as "leaving!", remove_workloads
        from cluster
        where cluster_id = any($1)
        "#,
        ids
    )
    .fetch_all(pool)
    .await?;
    Ok(rows)
}

/// See [`sequences`].
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// The cluster.
    pub cluster_id: i64,
    /// The last number given to a desired change.
    pub sequence: i64,
    /// The stream that counts.
    pub session: Option<Uuid>,
    /// Whether its agent is to be told to leave.
    pub leaving: bool,
    /// Whether with its workloads.
    pub remove_workloads: bool,
}

/// Says whether workloads go with a leaving cluster.
pub async fn set_remove_workloads(tx: &mut Tx, id: i64, remove: bool) -> Result<()> {
    sqlx::query!("update cluster set remove_workloads = $2 where cluster_id = $1", id, remove).execute(&mut **tx).await?;
    Ok(())
}
