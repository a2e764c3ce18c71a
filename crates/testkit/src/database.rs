//! A fresh, migrated Postgres database for each test.
//!
//! The one thing to know: a set of migrations is applied once, to a *template* named by the migrations' checksums, and
//! each test's database is a copy of it, which takes some tens of milliseconds.

use std::str::FromStr;

use sha2::{Digest, Sha256};
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection, PgPool};

/// The variable with the URL of a Postgres server (of any database of it) on which the user may make databases.
pub const DATABASE_URL_VARIABLE: &str = "MUSTER_TEST_DATABASE_URL";

/// A test needs two or three connections at once; hundreds of tests share the server.
const POOL: u32 = 8;

/// A database of one test. Dropping it drops the database, also while connections to it are open.
#[derive(Debug)]
pub struct TestDb {
    name: String,
    server: PgConnectOptions,
    url: String,
    pool: PgPool,
}

impl TestDb {
    /// A fresh database to which the sets of migrations were applied, in this order.
    ///
    /// # Panics
    /// Where [`DATABASE_URL_VARIABLE`] is not set, the server can't be reached, or a migration fails.
    pub async fn new(migrations: &[&Migrator]) -> Self {
        let (server_url, server) = server();
        let mut admin = connect(&server).await;
        let template = template(&mut admin, &server, migrations).await;
        let name = format!("muster_test_{}", uuid::Uuid::new_v4().simple());
        execute(&mut admin, format!("create database {name} template {template}")).await;
        admin.close().await.expect("the connection closes");
        let pool = PgPoolOptions::new()
            .max_connections(POOL)
            .connect_with(server.clone().database(&name))
            .await
            .expect("the new database accepts connections");
        Self { url: with_database(&server_url, &name), name, server, pool }
    }

    /// A pool of connections to it.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Its URL, for what opens its own connections.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its name on the server.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for TestDb {
    fn drop(&mut self) {
        let server = self.server.clone();
        let statement = format!("drop database if exists {} with (force)", self.name);
        // The test's own runtime may be the one that drops us, so the work is done by another.
        let dropped = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
                let mut admin = server.connect().await.map_err(std::io::Error::other)?;
                admin.execute(AssertSqlSafe(statement)).await.map_err(std::io::Error::other)?;
                std::io::Result::Ok(())
            })
        })
        .join();
        // A second panic while one unwinds would hide the first: only the log can be told.
        if !matches!(dropped, Ok(Ok(()))) {
            eprintln!("the database {} could not be dropped: {dropped:?}", self.name);
        }
    }
}

/// The server's URL, and the options to connect to it.
fn server() -> (String, PgConnectOptions) {
    let url = std::env::var(DATABASE_URL_VARIABLE).unwrap_or_else(|_| {
        panic!(
            "{DATABASE_URL_VARIABLE} is not set: run the tests with `cargo xtask test`, \
             or `eval \"$(cargo xtask db env)\"` first"
        )
    });
    let options =
        PgConnectOptions::from_str(&url).unwrap_or_else(|error| panic!("{DATABASE_URL_VARIABLE} is no Postgres URL: {error}"));
    (url, options)
}

/// Makes the template where it is missing, and answers its name.
async fn template(admin: &mut PgConnection, server: &PgConnectOptions, migrations: &[&Migrator]) -> String {
    let digest = digest(migrations);
    let template = format!("muster_template_{}", &hex::encode(digest)[..24]);
    let lock = i64::from_be_bytes(digest[..8].try_into().expect("eight bytes"));
    // Many test processes start at once: one makes the template, the others wait for it.
    sqlx::query("select pg_advisory_lock($1)").bind(lock).execute(&mut *admin).await.expect("the lock is taken");
    let exists: bool = sqlx::query_scalar("select exists (select 1 from pg_database where datname = $1)")
        .bind(&template)
        .fetch_one(&mut *admin)
        .await
        .expect("the databases are listed");
    if !exists {
        // Under another name until it is whole, so that nobody copies half of it.
        let unfinished = format!("{template}_unfinished");
        execute(admin, format!("drop database if exists {unfinished} with (force)")).await;
        execute(admin, format!("create database {unfinished}")).await;
        let mut connection = connect(&server.clone().database(&unfinished)).await;
        for set in migrations {
            set.run(&mut connection).await.expect("the migrations apply to an empty database");
        }
        connection.close().await.expect("the connection closes");
        // Postgres refuses to copy a database that somebody is connected to.
        execute(admin, format!("alter database {unfinished} with allow_connections false")).await;
        execute(admin, format!("alter database {unfinished} rename to {template}")).await;
    }
    sqlx::query("select pg_advisory_unlock($1)").bind(lock).execute(&mut *admin).await.expect("the lock is released");
    template
}

/// Of everything that makes one migrated database differ from another.
fn digest(migrations: &[&Migrator]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for set in migrations {
        hash.update(set.table_name.as_bytes());
        hash.update([0]);
        for migration in set.iter() {
            hash.update(migration.version.to_be_bytes());
            hash.update(&migration.checksum);
        }
    }
    hash.finalize().into()
}

async fn connect(options: &PgConnectOptions) -> PgConnection {
    options.connect().await.unwrap_or_else(|error| panic!("the server of {DATABASE_URL_VARIABLE}: {error}"))
}

async fn execute(connection: &mut PgConnection, statement: String) {
    connection.execute(AssertSqlSafe(statement.clone())).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
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

#[cfg(test)]
mod tests {
    use super::with_database;

    #[test]
    fn only_the_database_of_a_url_is_replaced() {
        for (url, expected) in [
            ("postgres://u:p@h:1/old", "postgres://u:p@h:1/new"),
            ("postgres://u:p@h:1", "postgres://u:p@h:1/new"),
            ("postgres://h/old?sslmode=disable", "postgres://h/new?sslmode=disable"),
        ] {
            assert_eq!(with_database(url, "new"), expected);
        }
    }
}
