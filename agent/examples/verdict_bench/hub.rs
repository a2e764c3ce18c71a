//! The hub's side: the registry's use cases on a database of their own.

use anyhow::{Context, Result};
use muster_agent::domain::verdicts::{Row, VerdictSet};
use muster_fleet_registry::{
    MIGRATIONS,
    app::App,
    config::Settings,
    link::Session,
    pki::{self, Authority},
};
use muster_kit::{SystemClock, incarnation, reconcile::Wake, watch::Tail};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection, PgPool, postgres::PgConnectOptions};
use std::{
    str::FromStr,
    sync::{Arc, atomic::AtomicU64},
};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const DATABASE: &str = "muster_registry_verdict_bench";

/// A registry with clusters that are to hold policies.
pub struct Hub {
    pub app: App,
    /// A stream for each cluster.
    pub sessions: Vec<Session>,
    _pki: TempDir,
}

impl Hub {
    pub fn name(cluster: usize) -> String {
        format!("cluster-{cluster}")
    }

    pub async fn start(url: &str, clusters: usize) -> Result<Self> {
        let pool = database(url).await?;
        let incarnation = incarnation::establish(&pool).await?;
        let folder = tempfile::tempdir()?;
        pki::bootstrap(folder.path())?;
        let (ca_certificate_file, ca_key_file) = (folder.path().join("ca.crt"), folder.path().join("ca.key"));
        let authority = Arc::new(Authority::load(&ca_certificate_file, &ca_key_file)?);
        let settings: Settings =
            serde_json::from_value(json!({"ca_certificate_file": ca_certificate_file, "ca_key_file": ca_key_file}))?;
        let (tail, _feed) = Tail::new(pool.clone(), CancellationToken::new());
        let (clock, send, incarnation) = (Arc::new(SystemClock), Wake::default(), Arc::new(AtomicU64::new(incarnation)));
        let app = App { pool: pool.clone(), clock, settings, authority, tail, send, incarnation };
        let mut sessions = Vec::new();
        for cluster in 0..clusters {
            let id = Uuid::new_v4();
            let cluster_id: i64 =
                sqlx::query_scalar("insert into cluster (name, state, session) values ($1, 'live', $2) returning cluster_id")
                    .bind(Self::name(cluster))
                    .bind(id)
                    .fetch_one(&pool)
                    .await?;
            sqlx::query("insert into desired_item values ($1, 'policy', 'policies', 1, 1, 1, null, false, '{}')")
                .bind(cluster_id)
                .execute(&pool)
                .await?;
            let (outbox, _) = mpsc::channel(1);
            sessions.push(Session { id, cluster_id, outbox, sent: 0, told_to_leave: false });
        }
        Ok(Self { app, sessions, _pki: folder })
    }

    /// Where Postgres is in its log of writes, in bytes.
    pub async fn written(&self) -> Result<i64> {
        let query = sqlx::query_scalar("select (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint");
        Ok(query.fetch_one(&self.app.pool).await?)
    }

    /// Stores the whole as an observation and its event were stored; gives its length on the wire.
    pub async fn store_whole(&self, cluster: usize, set: &VerdictSet) -> Result<usize> {
        let (mut counts, mut violations) = (Vec::new(), Vec::new());
        for row in set.rows.values() {
            match row {
                Row::Count(count) => counts.push(count),
                Row::Violation(violation) => violations.push(violation),
            }
        }
        let counts = counts.iter().map(|of| json!({"policy": of.policy, "rule": of.rule, "pass": of.pass, "fail": of.fail}));
        let counts: Vec<Value> = counts.collect();
        let mut bytes = 0;
        let violations: Vec<Value> = violations
            .iter()
            .map(|of| {
                let texts = [&of.policy, &of.rule, &of.object.kind, &of.object.namespace, &of.object.name, &of.path, &of.message];
                // A tag and a length for each text, and for the violation.
                bytes += texts.iter().map(|text| text.len() + 2).sum::<usize>() + 3;
                json!({
                    "policy": of.policy, "rule": of.rule, "kind": of.object.kind, "namespace": of.object.namespace,
                    "name": of.object.name, "path": of.path, "message": of.message,
                })
            })
            .collect();
        let body = json!({"owner": "policy", "name": "policies", "phase": "HEALTHY",
            "verdicts": {"counts": counts, "violations": violations}});
        let mut tx = self.app.pool.begin().await?;
        sqlx::query(
            "insert into observation values ($1, 'policy', 'policies', 1, 1, 1, $2) on conflict (cluster_id, owner, name) do update \
             set body = excluded.body",
        )
        .bind(self.sessions[cluster].cluster_id)
        .bind(&body)
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "insert into event (topic, type, aggregate, version, deleted, state, traceparent) \
             values ('muster.clusters', 'cluster.item.healthy', $1, 1, false, $2, '')",
        )
        .bind(format!("clusters/{}/items/policy/policies", Self::name(cluster)))
        .bind(json!({"cluster": Self::name(cluster), "observation": body}))
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(bytes)
    }
}

/// An empty, migrated database; it stays for whoever wants to look, and goes with the next run.
async fn database(url: &str) -> Result<PgPool> {
    let options = PgConnectOptions::from_str(url).context("the database URL")?;
    let mut connection: PgConnection = options.connect().await.context("connecting to Postgres")?;
    connection.execute(AssertSqlSafe(format!("drop database if exists {DATABASE} with (force)"))).await?;
    connection.execute(AssertSqlSafe(format!("create database {DATABASE}"))).await?;
    connection.close().await?;
    let (base, _) = url.rsplit_once('/').context("the database URL names no database")?;
    let pool = PgPool::connect(&format!("{base}/{DATABASE}")).await?;
    muster_kit::db::migrate(&pool, &MIGRATIONS).await?;
    Ok(pool)
}
