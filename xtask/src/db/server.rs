//! The development Postgres: one per tree, up until it is stopped.
//!
//! The one thing to know: `.dev/postgres.json` says where it listens and which process it is, and is trusted only while
//! that server answers.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use muster_integration_tests::parts::postgres::{self, Server};

use crate::setup;
use crate::workspace;

#[derive(serde::Serialize, serde::Deserialize)]
struct Record {
    process: u32,
    data: PathBuf,
    server: Server,
}

/// The running server; started where it is not running.
///
/// # Errors
/// It can't be started.
pub async fn start() -> Result<Server> {
    let lock = std::fs::File::create(workspace::dev()?.join("postgres.lock"))?;
    // Two commands at the same moment start one server.
    lock.lock().context("lock .dev/postgres.lock")?;
    let record = read()?;
    if let Some(record) = &record
        && record.server.answers().await
    {
        return Ok(record.server.clone());
    }
    let data = match record {
        Some(record) if record.data.join("data").exists() => record.data,
        _ => new_data_folder()?,
    };
    let (server, process) = postgres::start_detached(&setup::postgres::programs().await?, &data).await?;
    let record = Record { process, data, server: server.clone() };
    std::fs::write(record_file()?, serde_json::to_vec_pretty(&record)?)?;
    Ok(server)
}

/// Stops the server and waits for its end; nothing happens where it doesn't run.
///
/// # Errors
/// It can't be signalled.
pub async fn stop() -> Result<()> {
    let Some(record) = read()? else {
        println!("Postgres does not run");
        return Ok(());
    };
    if !record.server.answers().await {
        println!("Postgres does not run");
        return Ok(());
    }
    kill(Pid::from_raw(record.process as i32), Signal::SIGINT).context("stop Postgres")?;
    while record.server.answers().await {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("Postgres has ended; its data stay in {}", record.data.display());
    Ok(())
}

/// In the tree; for root beside the programs, which another user must be able to reach as well.
fn new_data_folder() -> Result<PathBuf> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(workspace::dev()?.join("postgres"));
    }
    let base = workspace::cache()?.join("dev");
    std::fs::create_dir_all(&base)?;
    Ok(base.join(uuid::Uuid::new_v4().simple().to_string()))
}

fn record_file() -> Result<PathBuf> {
    Ok(workspace::dev()?.join("postgres.json"))
}

fn read() -> Result<Option<Record>> {
    let file = record_file()?;
    if !file.exists() {
        return Ok(None);
    }
    let text = std::fs::read(&file)?;
    Ok(serde_json::from_slice(&text).ok())
}
