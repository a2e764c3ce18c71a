//! Where the services are and who is asking: contexts in a TOML file, each overridable by an environment variable.
//!
//! The file is `${MUSTER_CONFIG:-~/.config/muster/config.toml}`. Paths in it are relative to its folder. Without a file
//! and without variables the addresses are those of a machine that runs everything itself.

use crate::{
    client::Peer,
    error::{Failure, Result},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs,
    io::{ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// The configuration file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// The context that is used when none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_context: Option<String>,
    /// By name.
    #[serde(default)]
    pub contexts: BTreeMap<String, Entry>,
}

/// One context: addresses, trust, identity.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// `https://HOST:PORT` of the fleet registry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry: Option<String>,
    /// `https://HOST:PORT` of the scheduler.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<String>,
    /// `https://HOST:PORT` of the rollout service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<String>,
    /// `https://HOST:PORT` of the policy service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// PEM of the authority that signed the services' certificates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// The bearer token itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// A file with the bearer token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// Namespace of names that have none; `default` if unsaid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// A context ready for use: files read, variables applied, defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    addresses: [String; Peer::ALL.len()],
    /// The authority to trust, PEM.
    pub ca_pem: Option<Vec<u8>>,
    /// Where that was read.
    pub ca_file: Option<PathBuf>,
    /// The bearer token.
    pub token: Option<String>,
    /// Namespace that was said; lists are of all namespaces without one.
    pub namespace: Option<String>,
}

impl Target {
    /// Namespace of names that have none.
    pub fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or("default")
    }

    /// The address of a service.
    pub fn address(&self, peer: Peer) -> &str {
        &self.addresses[peer as usize]
    }
}

impl Entry {
    /// What is said of a service's address.
    pub fn address(&self, peer: Peer) -> Option<&String> {
        match peer {
            Peer::Registry => self.registry.as_ref(),
            Peer::Scheduler => self.scheduler.as_ref(),
            Peer::Rollout => self.rollout.as_ref(),
            Peer::Policy => self.policy.as_ref(),
        }
    }
}

/// The file's path: `MUSTER_CONFIG`, else within `XDG_CONFIG_HOME` or the home folder.
pub fn path(variable: &dyn Fn(&str) -> Option<String>) -> Result<PathBuf> {
    if let Some(path) = variable("MUSTER_CONFIG") {
        return Ok(path.into());
    }
    let folder = match (variable("XDG_CONFIG_HOME"), variable("HOME")) {
        (Some(folder), _) => PathBuf::from(folder),
        (None, Some(home)) => PathBuf::from(home).join(".config"),
        (None, None) => return Err(Failure::usage("MUSTER_CONFIG: neither it nor HOME is set")),
    };
    Ok(folder.join("muster/config.toml"))
}

impl File {
    /// Reads the file; one that is not there is an empty one.
    pub fn load(path: &Path) -> Result<Self> {
        match fs::read_to_string(path) {
            Ok(text) => toml::from_str(&text).map_err(|error| Failure::usage(format!("{}: {error}", path.display()))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Failure::file(path, &error)),
        }
    }

    /// Replaces the file in one step; only its owner may read it, since it may hold a token.
    pub fn save(&self, path: &Path) -> Result<()> {
        let text = toml::to_string(self).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
        let write = || {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            let draft = path.with_extension(format!("{}.draft", std::process::id()));
            let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&draft, path)
        };
        write().map_err(|error| Failure::file(path, &error))
    }

    /// The context of that name, or the current one, with variables and defaults applied. `folder` is that of the file.
    pub fn target(&self, chosen: Option<&str>, folder: &Path, variable: &dyn Fn(&str) -> Option<String>) -> Result<Target> {
        let entry = match chosen.or(self.current_context.as_deref()) {
            Some(name) => self.contexts.get(name).cloned().ok_or_else(|| unknown(name, self))?,
            None => Entry::default(),
        };
        let addresses = Peer::ALL.map(|peer| {
            let given = variable(peer.variable()).or_else(|| entry.address(peer).cloned());
            given.unwrap_or_else(|| peer.default_address().to_owned())
        });
        let ca_file = variable("MUSTER_CA_FILE").map(PathBuf::from).or_else(|| entry.ca_file.map(|path| folder.join(path)));
        let ca_pem = ca_file.as_ref().map(|path| fs::read(path).map_err(|error| Failure::file(path, &error))).transpose()?;
        let token_file =
            variable("MUSTER_TOKEN_FILE").map(PathBuf::from).or_else(|| entry.token_file.map(|path| folder.join(path)));
        let token = match (variable("MUSTER_TOKEN").or(entry.token), token_file) {
            (Some(token), _) => Some(token),
            (None, Some(path)) => {
                let text = fs::read_to_string(&path).map_err(|error| Failure::file(&path, &error))?;
                Some(text.trim().to_owned())
            }
            (None, None) => None,
        };
        Ok(Target { addresses, ca_pem, ca_file, token, namespace: entry.namespace })
    }
}

/// The context does not exist; names those that do.
pub fn unknown(name: &str, file: &File) -> Failure {
    let known: Vec<_> = file.contexts.keys().map(String::as_str).collect();
    let failure = Failure::usage(format!("context {name:?} does not exist"));
    match known.is_empty() {
        true => failure.hint(format!("make it: muster config set-context {name} --registry https://HOST:7401 …")),
        false => failure.hint(format!("there are: {}", known.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing(_: &str) -> Option<String> {
        None
    }

    #[test]
    fn without_a_file_the_addresses_are_those_of_this_machine() {
        let target = File::default().target(None, Path::new("/"), &nothing).expect("defaults");
        assert_eq!(target.address(Peer::Registry), "https://127.0.0.1:7401");
        assert_eq!(target.address(Peer::Policy), "https://127.0.0.1:7404");
        assert_eq!((target.token.as_deref(), target.namespace()), (None, "default"));
    }

    #[test]
    fn variables_win_over_the_file_and_paths_are_relative_to_it() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("token"), "secret\n").expect("write");
        let text = "current_context = 'dev'\n[contexts.dev]\nscheduler = 'https://s:1'\ntoken_file = 'token'\nnamespace = 'ml'\n";
        let file: File = toml::from_str(text).expect("legal");
        let target = file.target(None, folder.path(), &nothing).expect("legal");
        assert_eq!((target.token.as_deref(), target.namespace()), (Some("secret"), "ml"));
        assert_eq!(target.address(Peer::Scheduler), "https://s:1");
        let variable = |name: &str| match name {
            "MUSTER_SCHEDULER" => Some("https://other:2".to_owned()),
            "MUSTER_TOKEN" => Some("mine".to_owned()),
            _ => None,
        };
        let target = file.target(Some("dev"), folder.path(), &variable).expect("legal");
        assert_eq!((target.address(Peer::Scheduler), target.token.as_deref()), ("https://other:2", Some("mine")));
    }

    #[test]
    fn an_unknown_context_and_an_unknown_key_are_named() {
        let file: File = toml::from_str("[contexts.dev]\n").expect("legal");
        let failure = file.target(Some("prod"), Path::new("/"), &nothing).expect_err("unknown");
        assert_eq!(failure.to_string(), "error: context \"prod\" does not exist\nhint: there are: dev");
        let error = toml::from_str::<File>("[contexts.dev]\nregistri = 'x'\n").expect_err("unknown key");
        assert!(error.to_string().contains("registri"), "{error}");
    }

    #[test]
    fn a_saved_file_reads_back_and_only_its_owner_may_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("deeper/config.toml");
        let mut file = File { current_context: Some("dev".to_owned()), ..File::default() };
        file.contexts.insert("dev".to_owned(), Entry { token: Some("t".to_owned()), ..Entry::default() });
        file.save(&path).expect("saved");
        assert_eq!(File::load(&path), Ok(file));
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    }
}
