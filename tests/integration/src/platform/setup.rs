//! What a platform is made of: whoever starts one says where programs are, what is real, and how fast it is.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::json;

use super::{Cluster, Surroundings};
use crate::parts::{kafka, ssh};
use crate::process::Leash;

/// What a platform is made of.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The folder with the built programs.
    pub programs: PathBuf,
    /// Through what processes are started.
    pub leash: Leash,
    /// URL of a Postgres server on which databases may be made.
    pub database_url: String,
    /// The kustomize program.
    pub kustomize: PathBuf,
    /// A git configuration for the rollout service, as an operator with a mirror has one; none: nothing.
    pub git_config: Option<PathBuf>,
    /// How the team's repository is reached.
    pub git: Git,
    /// Brokers that have the topics, `host:port`; none: one embedded in this process.
    pub brokers: Option<String>,
    /// How services reach these brokers instead, where that is not in clear.
    pub guarded_brokers: Option<kafka::Access>,
    /// The documented ports instead of free ones.
    pub documented_ports: bool,
    /// Everyone reaches a service through a balancer before its processes, as one Kubernetes Service; else its first process.
    pub balanced: bool,
    /// The simulator's configuration: `clusters` and `images`.
    pub simulation: serde_json::Value,
    /// Real clusters, beside the simulated ones.
    pub real: Vec<Cluster>,
    /// What agents are started with.
    pub agents: Surroundings,
    /// Shorter than in production, where a story waits for them.
    pub pace: Pace,
}

/// How the team's repository is reached.
#[derive(Debug, Clone)]
pub enum Git {
    /// As a folder of this machine.
    Folder,
    /// Over HTTP, by whoever knows this password.
    Password(String),
    /// Over ssh, by whoever has the key.
    Ssh(ssh::Access),
}

/// How quickly the platform notices things.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Between heartbeats of an agent.
    pub heartbeat_ms: u64,
    /// Silent longer: Suspect.
    pub suspect_after_ms: u64,
    /// Silent longer: Lost.
    pub lost_after_ms: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { heartbeat_ms: 500, suspect_after_ms: 5_000, lost_after_ms: 60_000 }
    }
}

impl Setup {
    /// Everything embedded, at the pace of a demo, with no cluster yet.
    pub fn embedded(programs: PathBuf, leash: Leash, database_url: String, kustomize: PathBuf) -> Self {
        Self {
            programs,
            leash,
            database_url,
            kustomize,
            git_config: None,
            git: Git::Folder,
            brokers: None,
            guarded_brokers: None,
            documented_ports: false,
            balanced: false,
            simulation: json!({"clusters": []}),
            real: Vec::new(),
            agents: Surroundings::default(),
            pace: Pace::default(),
        }
    }

    /// For the stories: programs beside the test's own, surroundings from the variables of `cargo xtask test`.
    ///
    /// # Errors
    /// A variable is not set: the tests were not started by `cargo xtask test`.
    pub fn for_tests(leash: &str, simulation: serde_json::Value) -> Result<Self> {
        let variable = |name: &str| {
            std::env::var(name).with_context(|| format!("{name} is not set: run the stories with `cargo xtask test`"))
        };
        let leash = PathBuf::from(leash);
        let programs = leash.parent().context("the leash stands in a folder")?.to_path_buf();
        let (database_url, kustomize) = (variable("MUSTER_TEST_DATABASE_URL")?, variable("MUSTER_KUSTOMIZE")?.into());
        Ok(Self { simulation, ..Self::embedded(programs, Leash::new(leash), database_url, kustomize) })
    }
}

/// What a GitRepository's `secretRef` names, where the repository asks who comes.
pub const GIT_SECRET: &str = "team-git";
