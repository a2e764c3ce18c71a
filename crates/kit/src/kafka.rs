//! Where the brokers are, and how a service shows them who it is.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use rdkafka::ClientConfig;
use serde::Deserialize;

/// The brokers. None: events stay in the log, consumers idle.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaConfig {
    /// `host:port` of some brokers.
    #[serde(default)]
    pub brokers: Vec<String>,
    /// Set where the brokers' listener is encrypted.
    pub tls: Option<TlsConfig>,
    /// Set where it asks for a password.
    pub sasl: Option<SaslConfig>,
}

/// An encrypted listener (`SSL`, or `SASL_SSL` where it asks for a password too).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// The authority of the brokers' certificates, PEM; none: the system's authorities.
    pub ca_file: Option<PathBuf>,
    /// The service's certificate chain, PEM, where the brokers ask for one.
    pub certificate_file: Option<PathBuf>,
    /// Its private key, PEM.
    pub key_file: Option<PathBuf>,
}

/// A user with a password.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SaslConfig {
    /// How the password is shown.
    #[serde(default)]
    pub mechanism: Mechanism,
    /// The user.
    pub username: String,
    /// A file with nothing but the password; white space around it does not count.
    pub password_file: PathBuf,
}

/// How a password is shown to a broker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum Mechanism {
    /// The password itself, which only an encrypted listener keeps to the two.
    #[serde(rename = "PLAIN")]
    Plain,
    /// RFC 5802 with SHA-256 (RFC 7677).
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// The same with SHA-512.
    #[default]
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

impl Mechanism {
    fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

impl KafkaConfig {
    /// Brokers in clear that ask nobody for a name.
    pub fn plaintext(brokers: Vec<String>) -> Self {
        Self { brokers, tls: None, sasl: None }
    }

    /// What every client of the brokers is made from. Files are read now: another password counts from the next client on.
    ///
    /// # Errors
    /// A file can't be read, or a certificate stands without its key; the message names the setting.
    pub fn client(&self) -> anyhow::Result<ClientConfig> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.brokers.join(",")).set("security.protocol", self.protocol());
        if let Some(tls) = &self.tls {
            tls.tell(&mut config)?;
        }
        if let Some(sasl) = &self.sasl {
            let password = read("kafka.sasl.password_file", &sasl.password_file)?;
            config
                .set("sasl.mechanism", sasl.mechanism.name())
                .set("sasl.username", &sasl.username)
                .set("sasl.password", password.trim());
        }
        Ok(config)
    }

    fn protocol(&self) -> &'static str {
        match (&self.tls, &self.sasl) {
            (None, None) => "plaintext",
            (Some(_), None) => "ssl",
            (None, Some(_)) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        }
    }
}

impl TlsConfig {
    fn tell(&self, config: &mut ClientConfig) -> anyhow::Result<()> {
        match &self.ca_file {
            Some(file) => config.set("ssl.ca.pem", read("kafka.tls.ca_file", file)?),
            // Looks where the system keeps its authorities.
            None => config.set("ssl.ca.location", "probe"),
        };
        ensure!(
            self.certificate_file.is_some() == self.key_file.is_some(),
            "kafka.tls: certificate_file and key_file stand together"
        );
        if let (Some(certificate), Some(key)) = (&self.certificate_file, &self.key_file) {
            config
                .set("ssl.certificate.pem", read("kafka.tls.certificate_file", certificate)?)
                .set("ssl.key.pem", read("kafka.tls.key_file", key)?);
        }
        Ok(())
    }
}

fn read(setting: &str, file: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("{setting}: reading {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> KafkaConfig {
        let file = config::File::from_str(text, config::FileFormat::Toml);
        config::Config::builder().add_source(file).build().and_then(config::Config::try_deserialize).expect("well formed")
    }

    #[test]
    fn what_is_set_decides_the_protocol() {
        let folder = tempfile::tempdir().expect("a folder");
        let password = folder.path().join("password");
        std::fs::write(&password, "secret\n").expect("a file");
        let sasl = format!("[sasl]\nusername = 'muster'\npassword_file = '{}'\n", password.display());
        for (text, protocol) in [
            ("brokers = ['b:9092']", "plaintext"),
            ("[tls]", "ssl"),
            (sasl.as_str(), "sasl_plaintext"),
            (&format!("[tls]\n{sasl}"), "sasl_ssl"),
        ] {
            let client = parsed(text).client().expect("complete");
            assert_eq!(client.get("security.protocol"), Some(protocol), "{text}");
        }
        let client = parsed(&sasl).client().expect("complete");
        let words = ["sasl.mechanism", "sasl.username", "sasl.password"].map(|key| client.get(key));
        assert_eq!(words, [Some("SCRAM-SHA-512"), Some("muster"), Some("secret")]);
    }

    #[test]
    fn what_is_missing_is_named() {
        for (text, named) in [
            ("[sasl]\nusername = 'muster'\npassword_file = '/nowhere'", "kafka.sasl.password_file"),
            ("[tls]\nca_file = '/nowhere'", "kafka.tls.ca_file"),
            ("[tls]\ncertificate_file = '/nowhere'", "certificate_file and key_file"),
        ] {
            let refused = parsed(text).client().expect_err("incomplete").to_string();
            assert!(refused.contains(named), "{refused}");
        }
    }
}
