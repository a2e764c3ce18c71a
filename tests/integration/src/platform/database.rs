//! The databases of one platform on a Postgres server that others use too.

use std::str::FromStr;

use anyhow::{Context, Result};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};

use super::Service;

/// Four empty databases with names nobody else has. Dropped with the value.
#[derive(Debug)]
pub struct Databases {
    server_url: String,
    suffix: String,
}

impl Databases {
    /// Makes them. `server_url` is the URL of any database of the server, of a user who may make others.
    ///
    /// # Errors
    /// The server can't be reached, or the user may not make databases.
    pub async fn create(server_url: &str) -> Result<Self> {
        let databases =
            Self { server_url: server_url.to_owned(), suffix: uuid::Uuid::new_v4().simple().to_string()[..12].to_owned() };
        let statements = Service::ALL.map(|service| format!("create database {}", databases.name(service))).to_vec();
        execute(server_url, &statements).await?;
        Ok(databases)
    }

    /// A service's database, by its name.
    pub fn name(&self, service: Service) -> String {
        format!("{}_{}", service.database(), self.suffix)
    }

    /// A service's database, by its URL.
    pub fn url(&self, service: Service) -> String {
        with_database(&self.server_url, &self.name(service))
    }

    /// Puts a copy of a service's database aside: a backup. Nobody may be connected.
    ///
    /// # Errors
    /// Somebody is connected.
    pub async fn back_up(&self, service: Service) -> Result<()> {
        let name = self.name(service);
        execute(&self.server_url, &[format!("create database {name}_backup template {name}")]).await
    }

    /// Puts the backup in the place of a service's database: a restore.
    ///
    /// # Errors
    /// There is no backup.
    pub async fn restore(&self, service: Service) -> Result<()> {
        let name = self.name(service);
        execute(
            &self.server_url,
            &[format!("drop database {name} with (force)"), format!("alter database {name}_backup rename to {name}")],
        )
        .await
    }
}

impl Drop for Databases {
    fn drop(&mut self) {
        let url = self.server_url.clone();
        let statements: Vec<String> = Service::ALL
            .iter()
            .flat_map(|service| {
                let name = self.name(*service);
                ["", "_backup"].map(|which| format!("drop database if exists {name}{which} with (force)"))
            })
            .collect();
        // The caller's own runtime may be the one that drops us.
        let dropped = std::thread::spawn(move || -> Result<()> {
            tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(execute(&url, &statements))
        })
        .join();
        if !matches!(dropped, Ok(Ok(()))) {
            eprintln!("the databases {} could not be dropped: {dropped:?}", self.suffix);
        }
    }
}

async fn execute(server_url: &str, statements: &[String]) -> Result<()> {
    let mut connection =
        PgConnectOptions::from_str(server_url).context("the database URL")?.connect().await.context("connect to Postgres")?;
    for statement in statements {
        connection.execute(AssertSqlSafe(statement.clone())).await.with_context(|| statement.clone())?;
    }
    connection.close().await?;
    Ok(())
}

/// The same URL with another database.
fn with_database(url: &str, database: &str) -> String {
    let (base, query) = match url.split_once('?') {
        Some((base, query)) => (base, format!("?{query}")),
        None => (url, String::new()),
    };
    let authority = base.find("://").map_or(0, |at| at + 3);
    let end = base[authority..].find('/').map_or(base.len(), |at| authority + at);
    format!("{}/{database}{query}", &base[..end])
}
