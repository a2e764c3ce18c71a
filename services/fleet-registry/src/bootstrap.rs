//! What is done once, before there is anybody to ask: the certificate authority, the services' certificates, the first
//! administrator's token.

use crate::{FleetRegistry, config::Settings, domain::secret::Secret, pki, store::token};
use anyhow::{Context, bail};
use muster_kit::{
    Caller, audit,
    boot::Book,
    config::{self, Config},
    db,
};
use std::path::Path;

/// Runs one of the bootstrap commands; `None`: not one of them.
pub async fn command(name: &str, arguments: &[String]) -> Option<anyhow::Result<()>> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match (name, arguments.as_slice()) {
        ("bootstrap-pki", ["--dir", directory]) => Some(pki::bootstrap(Path::new(directory))),
        ("issue-service-certificate", [service, "--dir", directory, hosts @ ..]) => {
            let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
            Some(pki::issue_service_certificate(Path::new(directory), service, &hosts))
        }
        ("bootstrap-admin", ["--config", file, "--token-file", token_file]) => {
            Some(bootstrap_admin(Path::new(file), Path::new(token_file)).await)
        }
        _ => None,
    }
}

/// Mints the first administrator's token into a file of mode 0600; once.
async fn bootstrap_admin(config_file: &Path, token_file: &Path) -> anyhow::Result<()> {
    let config: Config<Settings> = config::load(config_file)?;
    let pool = db::pool(&config.database, FleetRegistry::NAME)?;
    let mut tx = db::begin(&pool).await?;
    let secret = Secret::new("mst");
    let inserted = token::insert_access(&mut tx, "bootstrap-admin", "bootstrap-admin", "admin", &secret.hash(), None).await;
    match inserted {
        Ok(()) => {}
        Err(error) if error.kind() == muster_kit::error::Kind::AlreadyExists => {
            bail!("the first administrator's token was minted before; delete accessTokens/bootstrap-admin to mint it anew")
        }
        Err(error) => return Err(error.into()),
    }
    audit::record(&mut tx, &Caller::Anonymous, "BootstrapAdmin", "accessTokens/bootstrap-admin").await?;
    // The file first: a token whose secret nobody has is worth nothing.
    pki::write_secret(token_file, &secret.reveal()).context("the token's file")?;
    tx.commit().await?;
    Ok(())
}
