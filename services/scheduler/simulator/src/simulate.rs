//! What `muster simulate` does: a file of any known format, played and reported. The same files and options give the same bytes.

mod format;
mod pods;

use std::path::PathBuf;

use serde_json::Value;

pub use format::Format;

use crate::fault::Fault;
use crate::philly::{self, Window};
use crate::plot::Plot;
use crate::scenario::{Progress, Scenario};
use crate::study::{Terms, study};
use crate::{gavel, kueue, manifests};

/// What is to be played. Options that the format has no use for are refused, so that nobody wonders why they change nothing.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The workload.
    pub file: PathBuf,
    /// How it is written; by its content if that isn't said.
    pub format: Option<Format>,
    /// Philly: the queues that count.
    pub queues: Option<PathBuf>,
    /// Philly: the jobs that count.
    pub window: Window,
    /// Philly: mean demand ÷ size.
    pub load: Option<f64>,
    /// Philly: nodes of the pool.
    pub nodes: Option<u32>,
    /// openb: the list of nodes.
    pub node_list: Option<PathBuf>,
    /// openb, Gavel, Muster's YAML: what is drawn.
    pub seed: Option<u64>,
    /// Gavel: jobs in an hour.
    pub per_hour: Option<f64>,
    /// Gavel: GPUs of each model.
    pub gpus_each: Option<u32>,
    /// Gavel: the first job that counts, and the first that doesn't any more.
    pub counted: Option<(usize, usize)>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// For people.
    pub text: String,
    /// For programs.
    pub value: Value,
    /// What the engine's play looked like.
    pub plots: Vec<Plot>,
}

/// The load of Philly's silos, where nobody says another.
const LOAD: f64 = 0.7;
/// The seed, where nobody says another.
const SEED: u64 = 1;

/// Plays it. `progress` is told how far it is.
///
/// # Errors
/// The file, line and field at fault, or the option.
pub fn simulate(request: &Request, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Report, Fault> {
    let format = match request.format {
        Some(format) => format,
        None => Format::of(&request.file)?,
    };
    request.check_options(format)?;
    let seed = request.seed.unwrap_or(SEED);
    match format {
        Format::Philly => {
            let workload = philly::read(&request.file, request.queues.as_deref(), request.window)?;
            let terms = Terms { load: request.load.unwrap_or(LOAD), nodes: request.nodes };
            let study = study(&workload, terms, progress)?;
            Ok(Report { text: study.report(), value: study.value(), plots: study.plots })
        }
        Format::Openb => {
            let nodes = request.node_list.as_ref().ok_or_else(|| request.fault("node-list", "is needed to place these pods"))?;
            pods::report(nodes, &request.file, seed, progress)
        }
        Format::Kueue => tried(&kueue::read(&request.file)?, progress),
        Format::Gavel => {
            let default = gavel::Terms::default();
            let terms = gavel::Terms {
                per_hour: request.per_hour.unwrap_or(default.per_hour),
                gpus_each: request.gpus_each.unwrap_or(default.gpus_each),
                counted: request.counted.unwrap_or(default.counted),
                seed,
            };
            tried(&gavel::read(&request.file, terms)?, progress)
        }
        Format::Muster => tried(&manifests::read(&request.file, seed)?, progress),
    }
}

fn tried(scenario: &Scenario, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Report, Fault> {
    let trial = scenario.trial(progress)?;
    Ok(Report { text: scenario.report(&trial), value: scenario.value(&trial), plots: trial.plots })
}

impl Request {
    fn fault(&self, option: &str, why: impl Into<String>) -> Fault {
        Fault { file: self.file.clone(), line: None, field: format!("--{option}"), why: why.into() }
    }

    fn check_options(&self, format: Format) -> Result<(), Fault> {
        use Format::{Gavel, Muster, Openb, Philly};
        let said: [(&str, bool, &[Format]); 10] = [
            ("queues", self.queues.is_some(), &[Philly]),
            ("from", self.window.from.is_some(), &[Philly]),
            ("to", self.window.to.is_some(), &[Philly]),
            ("load", self.load.is_some(), &[Philly]),
            ("nodes", self.nodes.is_some(), &[Philly]),
            ("node-list", self.node_list.is_some(), &[Openb]),
            ("seed", self.seed.is_some(), &[Openb, Gavel, Muster]),
            ("per-hour", self.per_hour.is_some(), &[Gavel]),
            ("gpus-each", self.gpus_each.is_some(), &[Gavel]),
            ("counted", self.counted.is_some(), &[Gavel]),
        ];
        match said.iter().find(|(_, said, formats)| *said && !formats.contains(&format)) {
            Some((option, ..)) => Err(self.fault(option, format!("means nothing for a file of format {}", format.name()))),
            None => Ok(()),
        }
    }
}
