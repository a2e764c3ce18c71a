//! The crates that have checked queries, and the database of each.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sqlx::migrate::Migrator;
use sqlx::{ConnectOptions, Connection, Executor};

use crate::workspace;
use muster_integration_tests::parts::postgres::Server;

/// A crate with queries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Book {
    Kit,
    Registry,
    Scheduler,
    Rollout,
    Policy,
}

impl Book {
    /// In the order in which they compile.
    pub const ALL: [Self; 5] = [Self::Kit, Self::Registry, Self::Scheduler, Self::Rollout, Self::Policy];

    /// The crate's name.
    pub fn package(self) -> &'static str {
        match self {
            Self::Kit => "muster-kit",
            Self::Registry => "muster-fleet-registry",
            Self::Scheduler => "muster-scheduler",
            Self::Rollout => "muster-rollout",
            Self::Policy => "muster-policy",
        }
    }

    /// The crate's folder.
    pub fn folder(self) -> PathBuf {
        workspace::root().join(match self {
            Self::Kit => "crates/kit",
            Self::Registry => "services/fleet-registry",
            Self::Scheduler => "services/scheduler",
            Self::Rollout => "services/rollout",
            Self::Policy => "services/policy",
        })
    }

    /// Its database on the development server.
    pub fn database(self) -> &'static str {
        match self {
            Self::Kit => "muster_kit",
            Self::Registry => "muster_registry",
            Self::Scheduler => "muster_scheduler",
            Self::Rollout => "muster_rollout",
            Self::Policy => "muster_policy",
        }
    }

    /// The variable its `sqlx.toml` names (`common.database-url-var`).
    pub fn url_variable(self) -> &'static str {
        match self {
            Self::Kit => "KIT_DATABASE_URL",
            Self::Registry => "REGISTRY_DATABASE_URL",
            Self::Scheduler => "SCHEDULER_DATABASE_URL",
            Self::Rollout => "ROLLOUT_DATABASE_URL",
            Self::Policy => "POLICY_DATABASE_URL",
        }
    }

    /// Drops its database, makes it again and migrates it. Answers `false`, and does nothing, where the crate has no
    /// migrations yet.
    ///
    /// # Errors
    /// A migration fails, or the crate's `sqlx.toml` is wrong.
    pub async fn reset(self, server: &Server) -> Result<bool> {
        if !self.folder().join("migrations").is_dir() {
            eprintln!("{}: no migrations", self.package());
            return Ok(false);
        }
        let database = self.database();
        let mut admin = server.options("postgres").connect().await?;
        for statement in [format!("drop database if exists {database} with (force)"), format!("create database {database}")] {
            admin.execute(sqlx::AssertSqlSafe(statement)).await?;
        }
        admin.close().await?;
        let mut connection = server.options(database).connect().await?;
        let kit = Self::Kit.folder();
        let own = self.folder();
        let sets: &[&Path] = if self == Self::Kit { &[&own] } else { &[&kit, &own] };
        for folder in sets {
            if folder.join("migrations").is_dir() {
                migrate(folder, &mut connection)
                    .await
                    .with_context(|| format!("migrate {database} from {}", folder.display()))?;
            }
        }
        connection.close().await?;
        eprintln!("{}: {database} is migrated", self.package());
        Ok(true)
    }
}

/// Applies a crate's migrations under the table its `sqlx.toml` names.
async fn migrate(folder: &Path, connection: &mut sqlx::PgConnection) -> Result<()> {
    let mut migrator = Migrator::new(folder.join("migrations")).await?;
    migrator.dangerous_set_table_name(migration_table(folder)?);
    migrator.run(connection).await?;
    Ok(())
}

/// `migrate.table-name` of the crate's `sqlx.toml`. It must be said: two sets in one database can't share sqlx's default.
fn migration_table(folder: &Path) -> Result<String> {
    let file = folder.join("sqlx.toml");
    let text = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    let config: toml::Table = toml::from_str(&text).with_context(|| format!("read {}", file.display()))?;
    let table = config
        .get("migrate")
        .and_then(|migrate| migrate.get("table-name"))
        .and_then(toml::Value::as_str)
        .with_context(|| format!("{} does not set migrate.table-name", file.display()))?;
    Ok(table.to_owned())
}
