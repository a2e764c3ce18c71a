//! A Compose file played without containers: each program starts with the command, environment and files that its container
//! would get, and its health is asked as the file says.
//!
//! The one thing to know: what a container has of its own is given to it by translating texts, and nothing else is changed. Its
//! network is a loopback address (so that ports are those of the file), names of other containers become their addresses, and
//! folders of its volumes become folders of ours. The host's environment is not there.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use muster_integration_tests::eventually_within;
use muster_integration_tests::patience::look;
use muster_integration_tests::process::{Leash, Process, Program};
use serde_json::Value;
use tokio::process::Command;

use crate::clients;
use crate::manifests::{list, text};
use crate::parts;

/// As long as the file's own health checks would try.
const WELL_WITHIN: Duration = Duration::from_secs(120);

/// What the Compose specification's loader makes of a file with these variables.
pub async fn loaded(file: &Path, variables: &[(&str, String)]) -> Result<Value> {
    let mut command = Command::new(parts::variable("MUSTER_TEST_COMPOSE")?);
    command.arg(file).envs(variables.iter().map(|(name, value)| (name, value)));
    let (project, said) = clients::run_aloud(command, "").await?;
    ensure!(said.is_empty(), "the loader says of {}: {said}", file.display());
    Ok(serde_json::from_str(&project)?)
}

/// A service of the file.
#[derive(Debug, Clone)]
pub struct Container {
    /// Its name, by which the others know it.
    pub name: String,
    /// Entry point and command.
    pub words: Vec<String>,
    /// Its environment.
    pub environment: BTreeMap<String, String>,
    /// The command of its health check.
    pub health: Vec<String>,
    /// The ports that the machine publishes, with those in the container.
    pub ports: Vec<(String, u64)>,
    /// What it waits for, and until which condition.
    pub after: BTreeMap<String, String>,
    mounts: Vec<(String, PathBuf)>,
}

impl Container {
    /// One of the project's.
    pub fn of(project: &Value, name: &str) -> Result<Self> {
        let service = &project["services"][name];
        ensure!(service.is_object(), "no service {name:?}");
        let texts = |value: &Value| -> Vec<String> {
            value.as_array().into_iter().flatten().filter_map(|word| word.as_str().map(str::to_owned)).collect()
        };
        let fields = |value: &Value, field: &str| -> BTreeMap<String, String> {
            let all = value.as_object().into_iter().flatten();
            all.map(|(key, value)| (key.clone(), text(value, field).to_owned())).collect()
        };
        let health = texts(&service["healthcheck"]["test"]);
        ensure!(health.is_empty() || health[0] == "CMD", "{name}'s health is asked by a shell");
        let mounts =
            list(service, "/volumes").iter().map(|mount| (text(mount, "/target").to_owned(), text(mount, "/source").into()));
        let ports = list(service, "/ports").iter();
        Ok(Self {
            name: name.to_owned(),
            words: [texts(&service["entrypoint"]), texts(&service["command"])].concat(),
            environment: fields(&service["environment"], ""),
            health: health.into_iter().skip(1).collect(),
            ports: ports.map(|port| (text(port, "/published").to_owned(), port["target"].as_u64().unwrap_or(0))).collect(),
            after: fields(&service["depends_on"], "/condition"),
            mounts: mounts.collect(),
        })
    }
}

/// What stands in for the containers' machine.
pub struct Machine {
    folder: PathBuf,
    leash: Leash,
    path: OsString,
    addresses: BTreeMap<String, Ipv4Addr>,
    /// `name:port` of what is played by something real that listens elsewhere.
    elsewhere: BTreeMap<String, String>,
    /// Files of the images.
    images: Vec<(String, PathBuf)>,
    running: Vec<(Container, Process)>,
}

impl Machine {
    /// A machine for a project, with its files in `folder` and programs found by `path`.
    pub fn new(project: &Value, folder: &Path, leash: Leash, path: OsString) -> Self {
        let names = project["services"].as_object().into_iter().flatten().map(|(name, _)| name.clone());
        // A network of its own among the loopback addresses: two runs at once would want the same ports.
        let [second, third, ..] = *uuid::Uuid::new_v4().as_bytes();
        let network = |host: u8| Ipv4Addr::new(127, 64 + second % 128, third, host);
        let addresses = names.zip(1..).map(|(name, host)| (name, network(host))).collect();
        let folder = folder.to_owned();
        Self { folder, leash, path, addresses, elsewhere: BTreeMap::new(), images: Vec::new(), running: Vec::new() }
    }

    /// A container's address.
    pub fn address(&self, name: &str) -> Result<Ipv4Addr> {
        self.addresses.get(name).copied().with_context(|| format!("no service {name:?}"))
    }

    /// From now on, `name:port` is something that listens at `address`.
    pub fn play(&mut self, name: &str, address: impl Into<String>) {
        self.elsewhere.insert(name.to_owned(), address.into());
    }

    /// From now on, a file or folder of the images is one of ours.
    pub fn image_has(&mut self, path: &str, ours: impl Into<PathBuf>) {
        self.images.push((path.to_owned(), ours.into()));
    }

    /// A named volume's folder.
    pub fn volume(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.join("volumes").join(name);
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// What a container's text means on this machine.
    pub fn translated(&self, container: &Container, text: &str) -> Result<String> {
        let mut folders = self.images.clone();
        for (target, source) in &container.mounts {
            let ours = match source.is_absolute() {
                true => self.folder.join("files").join(&container.name).join(target.trim_start_matches('/')),
                false => self.volume(&source.display().to_string())?,
            };
            folders.push((target.clone(), ours));
        }
        folders.sort_by_key(|(target, _)| std::cmp::Reverse(target.len()));
        let own = self.address(&container.name)?.to_string();
        let mut hosts: Vec<(&str, String)> =
            self.addresses.iter().map(|(name, address)| (name.as_str(), address.to_string())).collect();
        hosts.extend(["0.0.0.0", "127.0.0.1", "localhost"].map(|name| (name, own.clone())));

        let mut translated = String::with_capacity(text.len());
        let mut rest = text;
        'text: while let Some(next) = rest.chars().next() {
            let before = translated.chars().next_back();
            if !before.is_some_and(|before| before.is_ascii_alphanumeric() || "_.-/".contains(before))
                || before_is_authority(&translated)
            {
                for (target, ours) in &folders {
                    let after = rest.strip_prefix(target.as_str());
                    if let Some(after) =
                        after.filter(|after| !after.starts_with(|next: char| next.is_ascii_alphanumeric() || next == '-'))
                    {
                        translated.push_str(&ours.display().to_string());
                        rest = after;
                        continue 'text;
                    }
                }
                for (name, address) in &hosts {
                    let Some(after) = rest.strip_prefix(name).and_then(|after| after.strip_prefix(':')) else { continue };
                    let digits = after.len() - after.trim_start_matches(|next: char| next.is_ascii_digit()).len();
                    let (port, after) = after.split_at(digits);
                    // A user's name with a password is no host with a port, even if it is called as one.
                    if !(1..=5).contains(&digits) || after.starts_with(|next: char| next == '@' || next.is_ascii_alphanumeric()) {
                        continue;
                    }
                    match self.elsewhere.get(&format!("{name}:{port}")) {
                        Some(elsewhere) => translated.push_str(elsewhere),
                        None => translated.push_str(&format!("{address}:{port}")),
                    }
                    rest = after;
                    continue 'text;
                }
            }
            translated.push(next);
            rest = &rest[next.len_utf8()..];
        }
        Ok(translated)
    }

    /// Puts a container's files where it will look for them.
    fn files(&self, container: &Container) -> Result<()> {
        for (target, source) in container.mounts.iter().filter(|(_, source)| source.is_absolute()) {
            let into = self.folder.join("files").join(&container.name).join(target.trim_start_matches('/'));
            self.copied(container, source, &into).with_context(|| format!("{}: {}", container.name, source.display()))?;
        }
        for (_, source) in container.mounts.iter().filter(|(_, source)| !source.is_absolute()) {
            self.volume(&source.display().to_string())?;
        }
        Ok(())
    }

    fn copied(&self, container: &Container, source: &Path, into: &Path) -> Result<()> {
        if source.is_dir() {
            std::fs::create_dir_all(into)?;
            for entry in std::fs::read_dir(source)? {
                let entry = entry?;
                self.copied(container, &entry.path(), &into.join(entry.file_name()))?;
            }
            return Ok(());
        }
        std::fs::create_dir_all(into.parent().context("a file is in a folder")?)?;
        std::fs::write(into, self.translated(container, &std::fs::read_to_string(source)?)?)?;
        Ok(())
    }

    /// The words of a command in a container, with its environment and no other.
    fn command(&self, container: &Container, words: &[String]) -> Result<Vec<String>> {
        let mut all = vec!["-i".to_owned(), format!("PATH={}", self.path.to_str().context("PATH is no UTF-8")?)];
        for (name, value) in &container.environment {
            all.push(format!("{name}={}", self.translated(container, value)?));
        }
        for word in words {
            all.push(self.translated(container, word)?);
        }
        Ok(all)
    }

    /// Runs a command in a container to its end.
    pub async fn exec(&self, container: &Container, words: &[String]) -> Result<String> {
        let mut command = Command::new("env");
        command.args(self.command(container, words)?).current_dir(&self.folder);
        let said = clients::run(command, "").await.with_context(|| container.name.clone())?;
        Ok(said)
    }

    /// Brings containers up, each after what it waits for. Of those that may go, what runs once and does not try again is first,
    /// and then what the alphabet has last: what the file does not say is not there yet. What has no program here is in `played`,
    /// and counts as done and well.
    pub async fn up(&mut self, containers: Vec<Container>, played: &[&str]) -> Result<()> {
        let mut settled: BTreeSet<String> = played.iter().map(|name| (*name).to_owned()).collect();
        let once: BTreeSet<String> = containers
            .iter()
            .flat_map(|container| container.after.iter().filter(|(_, until)| *until == "service_completed_successfully"))
            .map(|(name, _)| name.clone())
            .collect();
        let mut waiting: BTreeMap<String, Container> =
            containers.into_iter().map(|container| (container.name.clone(), container)).collect();
        while !waiting.is_empty() {
            let ready = waiting.values().filter(|container| container.after.keys().all(|name| settled.contains(name)));
            let ready = ready.max_by_key(|container| (once.contains(&container.name), &container.name));
            let name = ready.map(|container| container.name.clone());
            let name = name.with_context(|| format!("nothing of {:?} may start", waiting.keys()))?;
            let container = waiting.remove(&name).context("it waits")?;
            self.files(&container)?;
            if once.contains(&name) {
                self.exec(&container, &container.words).await?;
            } else {
                self.start(container).await?;
            }
            settled.insert(name);
        }
        Ok(())
    }

    /// Starts a container's program, and returns when its health check is content.
    async fn start(&mut self, container: Container) -> Result<()> {
        let log = self.folder.join(format!("{}.log", container.name));
        let mut process = Program::new(&container.name, "env")
            .arguments(self.command(&container, &container.words)?)
            .folder(&self.folder)
            .log(log)
            .start(&self.leash)?;
        if !container.health.is_empty() {
            let what = format!("{} is well", container.name);
            let well = eventually_within(WELL_WITHIN, &what, async || {
                process.expect_running()?;
                let asked = self.exec(&container, &container.health).await;
                Ok(look(asked.is_ok(), (), || format!("{:#}", asked.expect_err("it is not well"))))
            });
            well.await.with_context(|| process.log_tail())?;
        }
        self.running.push((container, process));
        Ok(())
    }

    /// Starts the program that plays a container, which the caller has made.
    pub fn started(&mut self, container: Container, process: Process) {
        self.running.push((container, process));
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        while let Some((_, process)) = self.running.pop() {
            drop(process);
        }
    }
}

/// Whether a text ends in `://` or `@`: a host follows, and with `file://` a folder.
fn before_is_authority(text: &str) -> bool {
    text.ends_with("://") || text.ends_with('@')
}
