//! The agent of a member cluster: a process of its own, which reaches the hub through a link that can be cut.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Result;
use toml::toml;

use super::{Cluster, Setup, text};
use crate::process::{Crash, Leash, Process, Program};
use crate::proxy::{Proxy, Weather};

/// What agents are started with, beside what they need.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// What runs their program: words before it; none: nothing.
    pub wrapper: Vec<String>,
    /// Environment variables.
    pub variables: Vec<(String, String)>,
}

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    program: Program,
    log: PathBuf,
    leash: Leash,
    process: Process,
    link: Proxy,
}

impl Agent {
    #[expect(clippy::too_many_arguments, reason = "what an agent is told, once")]
    pub(super) async fn start(
        setup: &Setup,
        folder: &Path,
        cluster: &Cluster,
        name: &str,
        token: &str,
        hub: SocketAddr,
        ca: &Path,
        otlp_endpoint: &str,
    ) -> Result<Self> {
        let link = Proxy::start(hub).await?;
        let hub = format!("https://{}", link.address());
        // Two agents may say that they are the same cluster: that is what is refused.
        let id = format!("{name}-{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
        let state = text(&folder.join("agents").join(&id))?.to_owned();
        let token_file = folder.join("config").join(format!("agent-{id}.token"));
        std::fs::write(&token_file, token)?;
        let token_file = text(&token_file)?.to_owned();
        let ca = text(ca)?.to_owned();
        let kubeconfig = text(&cluster.kubeconfig)?.to_owned();
        let mut configuration = toml! {
            cluster = name
            state_dir = state
            kubeconfig = kubeconfig

            [hub]
            address = hub
            ca_file = ca
            token_file = token_file

            [telemetry]
            otlp_endpoint = otlp_endpoint
        };
        if let Some(prometheus) = &cluster.prometheus {
            configuration.insert("prometheus_url".to_owned(), prometheus.as_str().into());
        }
        let text = toml::to_string(&configuration)?;
        let configuration = folder.join("config").join(format!("agent-{id}.toml"));
        std::fs::write(&configuration, text)?;
        let log = folder.join("logs").join(format!("agent-{id}.log"));
        let name = format!("agent {name}");
        let program = setup.programs.join("muster-agent");
        let mut program = match setup.agents.wrapper.split_first() {
            Some((first, more)) => Program::new(name, first).arguments(more).argument(program.display().to_string()),
            None => Program::new(name, program),
        };
        for (name, value) in &setup.agents.variables {
            program = program.variable(name, value);
        }
        let program = program.arguments(["run", "--config"]).argument(configuration.display().to_string()).log(&log);
        let process = program.start(&setup.leash)?;
        Ok(Self { program, log, leash: setup.leash.clone(), process, link })
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// The text of its log so far.
    ///
    /// # Errors
    /// It can't be read.
    pub fn log(&self) -> Result<String> {
        Ok(std::fs::read_to_string(&self.log)?)
    }

    /// Cuts it off from the hub.
    pub fn cut_off(&self) {
        self.link.cut();
    }

    /// What the network to the hub is like from now on.
    pub fn weather(&self, weather: Weather) {
        self.link.set(weather);
    }

    /// Lets it reach the hub again.
    pub fn let_through(&self) {
        self.link.mend();
    }

    /// Starts it again after it has ended.
    ///
    /// # Errors
    /// It can't be started.
    pub fn start_again(&mut self) -> Result<()> {
        self.process = self.program.start(&self.leash)?;
        Ok(())
    }

    /// Starts it again after it has ended, to die at a crash point.
    ///
    /// # Errors
    /// It can't be started.
    pub fn start_again_to_die(&mut self, point: &str) -> Result<()> {
        self.process = self.program.clone().fails(Crash::DiesAt(point)).start(&self.leash)?;
        Ok(())
    }
}
