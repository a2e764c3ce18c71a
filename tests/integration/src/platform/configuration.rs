//! What the configurations of the services and of the command line say.

use std::path::PathBuf;

use anyhow::Result;
use toml::toml;

use super::{GIT_SECRET, Git, Platform, Ports, Service, service, text};
use crate::parts;

impl Platform {
    pub(super) fn write_configuration(&self, service: Service, ports: Ports, suffix: &str) -> Result<PathBuf> {
        let common = service::Common {
            pki: &self.pki,
            database_url: self.databases.url(service),
            kafka: self.kafka()?,
            otlp_endpoint: self.spans.endpoint(),
            peers: Service::ALL.map(|peer| (peer, format!("https://{}", self.address(peer)))),
            settings: self.settings(service, suffix)?,
        };
        let text = service::configuration(service, ports, common)?;
        let file = self.folder.path().join(format!("config/{}{suffix}.toml", service.name()));
        std::fs::write(&file, text)?;
        Ok(file)
    }

    /// The service's own section.
    fn settings(&self, service: Service, suffix: &str) -> Result<toml::Table> {
        let mut settings = toml::Table::new();
        let mut set = |key: &str, value: toml::Value| settings.insert(key.to_owned(), value);
        match service {
            Service::Registry => {
                let pace = self.setup.pace;
                set("ca_certificate_file", text(&self.pki.ca())?.into());
                set("ca_key_file", text(&self.pki.ca_key())?.into());
                set("heartbeat_interval_ms", number(pace.heartbeat_ms)?);
                set("suspect_after_ms", number(pace.suspect_after_ms)?);
                set("lost_after_ms", number(pace.lost_after_ms)?);
            }
            Service::Rollout => {
                let work = self.folder.path().join(format!("rollout{suffix}"));
                set("state_directory", text(&work)?.into());
                set("kustomize_file", text(&self.setup.kustomize)?.into());
                if let Some(credential) = self.git_credential()? {
                    let credentials = toml::Table::from_iter([(GIT_SECRET.to_owned(), credential.into())]);
                    set("git_credentials", credentials.into());
                }
                if let Some(file) = &self.setup.git_config {
                    set("git_config_file", text(file)?.into());
                }
            }
            Service::Scheduler | Service::Policy => {}
        }
        Ok(settings)
    }

    /// The brokers, and how a service shows them who it is.
    fn kafka(&self) -> Result<toml::Table> {
        let Some(access) = &self.setup.guarded_brokers else {
            let brokers: Vec<&str> = self.brokers.split(',').collect();
            return Ok(toml! { brokers = brokers });
        };
        let (address, ca, password) = (access.address.as_str(), text(&access.ca_file)?, text(&access.password_file)?);
        let user = parts::kafka::USER;
        Ok(toml! {
            brokers = [address]
            tls = { ca_file = ca }
            sasl = { username = user, password_file = password }
        })
    }

    /// What opens the team's repository, as the rollout service is told.
    fn git_credential(&self) -> Result<Option<toml::Table>> {
        let table = |words: [(&str, &str); 3]| {
            toml::Table::from_iter(words.map(|(key, value)| (key.to_owned(), toml::Value::from(value))))
        };
        Ok(match &self.setup.git {
            Git::Folder => None,
            Git::Password(password) => {
                let file = self.folder.path().join("config/git.password");
                std::fs::write(&file, password)?;
                Some(table([("kind", "basic"), ("username", parts::git::USER), ("password_file", text(&file)?)]))
            }
            Git::Ssh(access) => {
                let (key, hosts) = (text(&access.key_file)?, text(&access.known_hosts_file)?);
                Some(table([("kind", "ssh"), ("key_file", key), ("known_hosts_file", hosts)]))
            }
        })
    }

    /// The file of contexts that the command line reads.
    pub(super) fn write_context(&self) -> Result<()> {
        let addresses = self.addresses();
        let context = toml::Table::from_iter(
            [
                ("registry", addresses.registry.as_str()),
                ("scheduler", &addresses.scheduler),
                ("rollout", &addresses.rollout),
                ("policy", &addresses.policy),
                ("ca_file", text(&self.pki.ca())?),
                ("token_file", text(&self.token_file())?),
            ]
            .map(|(key, value)| (key.to_owned(), toml::Value::String(value.to_owned()))),
        );
        let contexts = toml::Table::from_iter([("demo".to_owned(), toml::Value::Table(context))]);
        let file = toml::Table::from_iter([
            ("current_context".to_owned(), toml::Value::from("demo")),
            ("contexts".to_owned(), toml::Value::Table(contexts)),
        ]);
        std::fs::write(self.context_file(), toml::to_string(&file)?)?;
        Ok(())
    }
}

fn number(value: u64) -> Result<toml::Value> {
    Ok(toml::Value::Integer(i64::try_from(value)?))
}
