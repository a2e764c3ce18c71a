//! What everything else is to be compared with: one fsynced commit. And what the processes take.

use anyhow::Result;
use muster_integration_tests::Platform;
use muster_proto::registry::v1 as registry;
use sqlx::{ConnectOptions, Connection, Executor};
use std::time::Instant;

use super::figure::{Figure, mebibytes, millis};
use super::percentile;
use muster_integration_tests::parts::postgres::Postgres;

const TIMES: usize = 200;

/// One fsynced Postgres commit.
pub async fn measure(postgres: &Postgres) -> Result<Vec<Figure>> {
    let mut connection = postgres.server().options("postgres").connect().await?;
    connection.execute("create table commit_cost (n bigint)").await?;
    let mut took = Vec::new();
    for _ in 0..TIMES {
        let began = Instant::now();
        connection.execute("insert into commit_cost values (1)").await?;
        took.push(began.elapsed().as_secs_f64());
    }
    connection.execute("drop table commit_cost").await?;
    connection.close().await?;
    took.sort_by(f64::total_cmp);
    Ok(vec![millis("one fsynced Postgres commit, p50", percentile(&took, 0.5))])
}

/// One gRPC round trip over loopback TLS, with the token checked and one row read.
pub async fn round_trip(platform: &Platform, cluster: &str) -> Result<Figure> {
    let mut client = platform.clients()?.clusters();
    let mut took = Vec::new();
    for _ in 0..TIMES {
        let request = registry::GetClusterRequest { name: format!("clusters/{cluster}") };
        let began = Instant::now();
        client.get_cluster(request).await?;
        took.push(began.elapsed().as_secs_f64());
    }
    took.sort_by(f64::total_cmp);
    Ok(millis("one loopback gRPC round trip (GetCluster), p50", percentile(&took, 0.5)))
}

/// Resident memory by kind of process; of several agents, the largest.
pub fn memory(platform: &mut Platform, when: &str) -> Result<Vec<Figure>> {
    let mut largest = std::collections::BTreeMap::new();
    for (name, id) in platform.processes() {
        let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
        let kibibytes: u64 = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok())
            .unwrap_or(0);
        let kind = if name.starts_with("agent ") { "agent (largest)".to_owned() } else { name };
        let entry = largest.entry(kind).or_insert(0);
        *entry = kibibytes.max(*entry);
    }
    Ok(largest.into_iter().map(|(kind, kibibytes)| mebibytes(format!("memory of {kind}, {when}"), kibibytes)).collect())
}
