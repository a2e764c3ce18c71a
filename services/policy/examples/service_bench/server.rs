//! The service as a process, and the way to it.

use anyhow::{Context, Result, bail};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection, postgres::PgConnectOptions};
use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    str::FromStr,
    time::Duration,
};
use tempfile::TempDir;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

/// How long it may take until it answers.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// A running service with a database of its own. Ends with the value; the database stays for whoever wants to look, and
/// goes with the next run.
pub struct Server {
    process: Child,
    address: SocketAddr,
    tls: ClientTlsConfig,
    /// URL of its database.
    pub database_url: String,
    _folder: TempDir,
}

impl Server {
    /// Starts it with an empty database.
    pub async fn start(url: &str, name: &str) -> Result<Self> {
        let folder = TempDir::with_prefix("muster-bench-")?;
        let tls = identities(folder.path())?;
        let database_url = database(url, &format!("muster_policy_bench_{name}")).await?;
        let (address, http) = (free()?, free()?);
        let file = |name: &str| folder.path().join(name).display().to_string();
        let config = format!(
            "[server]\naddress = \"{address}\"\nhttp_address = \"{http}\"\ncertificate_file = {:?}\nkey_file = {:?}\nca_file = {:?}\n\
             [database]\nurl = {database_url:?}\n[telemetry]\nlog_filter = \"error\"\n\
             [peers]\nregistry = \"https://{http}\"\nrollout = \"https://{http}\"\n[service]\n",
            file("service.crt"),
            file("service.key"),
            file("ca.crt"),
        );
        fs::write(folder.path().join("config.toml"), config)?;
        let process = Command::new(std::env::current_exe()?)
            .args(["run", "--config", &file("config.toml")])
            .stdin(Stdio::null())
            .spawn()
            .context("starting the service")?;
        let server = Self { process, address, tls, database_url, _folder: folder };
        let connected = tokio::time::timeout(READY_WITHIN, async {
            while server.endpoint()?.connect().await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Ok::<_, anyhow::Error>(())
        });
        connected.await.context("the service does not answer")??;
        Ok(server)
    }

    fn endpoint(&self) -> Result<Endpoint> {
        Ok(Endpoint::from_shared(format!("https://{}", self.address))?.tcp_nodelay(true).tls_config(self.tls.clone())?)
    }

    /// A connection of its own.
    pub async fn connect(&self) -> Result<Channel> {
        Ok(self.endpoint()?.connect().await?)
    }

    /// The processor time it has taken.
    pub fn processor_time(&self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id()))?;
        // The name, in parentheses, may hold spaces; utime and stime are fields 14 and 15, in hundredths of a second.
        let fields: Vec<&str> = stat.rsplit_once(')').context("a stat line")?.1.split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
        Ok(Duration::from_millis(ticks * 10))
    }

    /// The most memory it ever held, in MiB.
    pub fn peak_mebibytes(&self) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// An authority, the service's certificate and a caller's, which names another service.
fn identities(folder: &Path) -> Result<ClientTlsConfig> {
    let authority_key = KeyPair::generate()?;
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = authority.self_signed(&authority_key)?;
    let issuer = Issuer::new(authority, authority_key);
    let issue = |name: &str| -> Result<(String, String)> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec!["localhost".to_owned()])?;
        params.subject_alt_names.push(SanType::URI(format!("spiffe://muster/service/{name}").as_str().try_into()?));
        Ok((params.signed_by(&key, &issuer)?.pem(), key.serialize_pem()))
    };
    let (certificate, key) = issue("policy")?;
    fs::write(folder.join("ca.crt"), ca.pem())?;
    fs::write(folder.join("service.crt"), certificate)?;
    fs::write(folder.join("service.key"), key)?;
    let (certificate, key) = issue("scheduler")?;
    Ok(ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(ca.pem()))
        .identity(Identity::from_pem(certificate, key))
        .domain_name("localhost"))
}

/// An empty, migrated database of this name; its URL.
async fn database(url: &str, name: &str) -> Result<String> {
    let options = PgConnectOptions::from_str(url).context("the database URL")?;
    let mut connection: PgConnection = options.connect().await.context("connecting to Postgres")?;
    connection.execute(AssertSqlSafe(format!("drop database if exists {name} with (force)"))).await?;
    connection.execute(AssertSqlSafe(format!("create database {name}"))).await?;
    connection.close().await?;
    let Some((base, _)) = url.rsplit_once('/') else { bail!("the database URL names no database") };
    let url = format!("{base}/{name}");
    let pool = sqlx::PgPool::connect(&url).await?;
    muster_kit::db::migrate(&pool, &muster_policy::MIGRATIONS).await?;
    pool.close().await;
    Ok(url)
}

fn free() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
