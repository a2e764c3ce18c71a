//! The service's own settings, `[service]`. Unknown keys are errors.

use crate::git::{Credential, Git};
use anyhow::Context;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// `[service]` of the configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where mirrors of repositories are kept; losing it costs a clone each.
    pub state_directory: PathBuf,
    /// The official kustomize 5; by default where `cargo xtask` puts it.
    #[serde(default = "crate::render::Kustomize::default_program")]
    pub kustomize_file: PathBuf,
    /// For rendering one target. Half a minute is a hundred times what a large overlay takes.
    #[serde(default = "default_kustomize_timeout_ms")]
    pub kustomize_timeout_ms: u64,
    /// The author of Muster's own commits.
    #[serde(default = "default_author_name")]
    pub author_name: String,
    /// The address of that author.
    #[serde(default = "default_author_email")]
    pub author_email: String,
    /// Targets in flight at most where no wave says so: in the fast lane (a commit that renders what a completed release did),
    /// and on the way back from a failed release. At least one.
    #[serde(default = "default_fast_concurrency")]
    pub fast_concurrency: usize,
    /// A git configuration file for every call of git: `url.<base>.insteadOf` for mirrors, `http.proxy`, `http.sslCAInfo`.
    /// Nothing else is read from the machine.
    pub git_config_file: Option<PathBuf>,
    /// Credentials by the name that a GitRepository's `secretRef` uses.
    #[serde(default)]
    pub git_credentials: BTreeMap<String, CredentialSettings>,
}

/// What opens repositories; secrets stand in files, never here.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum CredentialSettings {
    /// `https`.
    Basic {
        /// The user.
        username: String,
        /// A file with the password or token.
        password_file: PathBuf,
    },
    /// `ssh`.
    Ssh {
        /// The private key.
        key_file: PathBuf,
        /// Hosts that may be trusted.
        known_hosts_file: PathBuf,
    },
}

fn default_kustomize_timeout_ms() -> u64 {
    30_000
}

fn default_author_name() -> String {
    "Muster".to_owned()
}

fn default_author_email() -> String {
    "muster@localhost".to_owned()
}

/// The registry takes changes of a thousand clusters in one call.
fn default_fast_concurrency() -> usize {
    1_000
}

impl Settings {
    /// How git is called, without a credential.
    pub fn git(&self) -> Git {
        Git {
            author_name: self.author_name.clone(),
            author_email: self.author_email.clone(),
            config_file: self.git_config_file.clone(),
            ..Git::default()
        }
    }

    /// For rendering one target.
    pub fn kustomize_timeout(&self) -> Duration {
        Duration::from_millis(self.kustomize_timeout_ms)
    }

    /// Reads the credentials; a file that is missing is an error at the start, not at the first fetch.
    pub fn credentials(&self) -> anyhow::Result<BTreeMap<String, Credential>> {
        self.git_credentials
            .iter()
            .map(|(name, settings)| {
                let credential = match settings {
                    CredentialSettings::Basic { username, password_file } => {
                        let password = std::fs::read_to_string(password_file)
                            .with_context(|| format!("service.git_credentials.{name}.password_file"))?;
                        Credential::Basic { username: username.clone(), password: password.trim_end().to_owned() }
                    }
                    CredentialSettings::Ssh { key_file, known_hosts_file } => {
                        for (field, file) in [("key_file", key_file), ("known_hosts_file", known_hosts_file)] {
                            std::fs::File::open(file).with_context(|| format!("service.git_credentials.{name}.{field}"))?;
                        }
                        Credential::SshKey { key_file: key_file.clone(), known_hosts_file: known_hosts_file.clone() }
                    }
                };
                Ok((name.clone(), credential))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_key_that_is_missing_is_said_at_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let (key, hosts) = (folder.path().join("key"), folder.path().join("known_hosts"));
        let settings: Settings = serde_json::from_value(json!({
            "state_directory": folder.path(),
            "git_credentials": {"team": {"kind": "ssh", "key_file": key, "known_hosts_file": hosts}},
        }))
        .unwrap();
        let refused = |settings: &Settings| format!("{:#}", settings.credentials().unwrap_err());
        assert!(refused(&settings).starts_with("service.git_credentials.team.key_file: "), "{}", refused(&settings));
        std::fs::write(&key, "").unwrap();
        assert!(refused(&settings).starts_with("service.git_credentials.team.known_hosts_file: "), "{}", refused(&settings));
        std::fs::write(&hosts, "").unwrap();
        assert!(matches!(settings.credentials().unwrap()["team"], Credential::SshKey { .. }));
    }
}
