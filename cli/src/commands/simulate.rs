//! `muster simulate`: a workload, played to the engine that the scheduler runs and to what it is compared with. No service is
//! asked.

use super::App;
use crate::error::{Exit, Failure, Result};
use jiff::civil::DateTime;
use muster_scheduler_simulator::{
    Fault,
    philly::Window,
    plot::Plot,
    scenario::Progress,
    simulate::{self, Format, Report, Request},
};
use std::{
    fs,
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

const EXAMPLES: &str = "\
What is simulated is told from the file, unless --format says it:
  philly  CSV, a job a line: timestamp, duration (seconds), num_gpus, cluster (its queue)
  openb   CSV, a pod a line: name, cpu_milli, memory_mib, num_gpu, gpu_milli, perhaps gpu_spec; --node-list has the nodes
  kueue   YAML of Kueue's scheduler performance test (cohorts, queuesSets, workloadsSets)
  gavel   JSON of throughputs by GPU model and type of job; jobs are drawn from it
  muster  YAML: Queue as it is applied, SimulatedCluster, SimulatedJobs

Examples:
  muster simulate philly.csv --queues philly_vc_nodes.csv --from 2017-10-01 --to 2017-12-01 --load 0.7
  muster simulate philly.csv --nodes 91 -o json
  muster simulate openb_pod_list_default.csv --node-list openb_node_list_gpu_node.csv
  muster simulate generator.yaml --plot plots
  muster simulate simulation_throughputs.json --per-hour 5.6 --seed 2
  muster simulate my-fleet.yaml --plot plots";

/// How often progress is drawn anew.
const REDRAW: Duration = Duration::from_millis(200);

/// Play a workload to the scheduler's engine, beside first come first served, backfill and the like
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The workload
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// How the workload is written; told from its first lines otherwise
    #[arg(long, value_name = "FORMAT", value_parser = format_of)]
    format: Option<Format>,
    /// Write utilisation, waiting, cost and share per queue as SVG files into this folder
    #[arg(long, value_name = "DIR")]
    plot: Option<PathBuf>,
    /// What is drawn (openb, gavel, muster); the same seed gives the same bytes [default: 1]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// philly: CSV whose column vc names the queues that count; all otherwise
    #[arg(long, value_name = "FILE")]
    queues: Option<PathBuf>,
    /// philly: jobs submitted then or later, as in 2017-10-01 or 2017-10-01T08:00:00
    #[arg(long, value_name = "TIME")]
    from: Option<DateTime>,
    /// philly: jobs submitted before then
    #[arg(long, value_name = "TIME")]
    to: Option<DateTime>,
    /// philly: mean demand ÷ size, which makes the size of each queue's own cluster; their sum is the pool [default: 0.7]
    #[arg(long, value_name = "SHARE")]
    load: Option<f64>,
    /// philly: nodes of the pool, with eight GPUs each; the sum of the queues' own clusters otherwise
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    nodes: Option<u32>,
    /// openb: CSV of the nodes: sn, cpu_milli, memory_mib, gpu, model
    #[arg(long, value_name = "FILE")]
    node_list: Option<PathBuf>,
    /// gavel: jobs that come in an hour, on the mean [default: 5.6]
    #[arg(long, value_name = "RATE")]
    per_hour: Option<f64>,
    /// gavel: GPUs of each of the three models [default: 36]
    #[arg(long, value_name = "N")]
    gpus_each: Option<u32>,
    /// gavel: the jobs that count, as FIRST..LAST; more come before and after them [default: 4000..5000]
    #[arg(long, value_name = "RANGE", value_parser = range)]
    counted: Option<(usize, usize)>,
}

fn format_of(text: &str) -> std::result::Result<Format, String> {
    let names: Vec<&str> = Format::ALL.iter().map(|format| format.name()).collect();
    let known = Format::ALL.into_iter().find(|format| format.name() == text);
    known.ok_or_else(|| format!("the formats are {}", names.join(", ")))
}

fn range(text: &str) -> std::result::Result<(usize, usize), String> {
    let ends = text.split_once("..").and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
    ends.ok_or_else(|| "is no range such as 4000..5000".to_owned())
}

/// Runs it.
pub async fn run(args: Args, app: &App) -> Result<()> {
    let Args { file, format, plot, seed, queues, from, to, load, nodes, node_list, per_hour, gpus_each, counted } = args;
    let window = Window { from, to };
    let request = Request { file, format, queues, window, load, nodes, node_list, seed, per_hour, gpus_each, counted };
    let play = move || -> std::result::Result<Report, Fault> {
        let mut shown = Shown::new();
        let report = simulate::simulate(&request, &mut |progress| shown.tell(progress));
        shown.clear();
        report
    };
    let played = tokio::task::spawn_blocking(play).await;
    let report = played
        .map_err(|error| Failure::new(Exit::Failure, format!("the simulation ended early: {error}")))?
        .map_err(|fault| Failure::new(Exit::Invalid, fault.to_string()))?;
    if let Some(folder) = plot {
        write(&folder, &report.plots)?;
    }
    if app.printer.is_for_people() {
        return crate::output::format::text(&report.text);
    }
    app.printer.value(&report.value)
}

fn write(folder: &Path, plots: &[Plot]) -> Result<()> {
    let fault = |path: &Path, error: &std::io::Error| Failure::new(Exit::Failure, format!("{}: {error}", path.display()));
    fs::create_dir_all(folder).map_err(|error| fault(folder, &error))?;
    for plot in plots {
        let path = folder.join(format!("{}.svg", plot.name));
        fs::write(&path, plot.svg()).map_err(|error| fault(&path, &error))?;
    }
    Ok(())
}

/// One line of progress on a terminal; nothing elsewhere.
struct Shown {
    on_terminal: bool,
    drawn: Option<Instant>,
}

impl Shown {
    fn new() -> Self {
        Self { on_terminal: std::io::stderr().is_terminal(), drawn: None }
    }

    fn tell(&mut self, progress: Progress<'_>) {
        let Progress { policy, done } = progress;
        let is_first = done.is_none_or(|(done, _)| done == 0);
        if !self.on_terminal || (!is_first && self.drawn.is_some_and(|drawn| drawn.elapsed() < REDRAW)) {
            return;
        }
        self.drawn = Some(Instant::now());
        let part = done.map_or_else(String::new, |(done, all)| format!(": {} %", 100 * done / all.max(1)));
        // What can't be drawn is not worth ending for.
        let _ = write!(std::io::stderr(), "\r\x1b[Kplaying {policy}{part}");
        let _ = std::io::stderr().flush();
    }

    fn clear(&self) {
        if self.drawn.is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
