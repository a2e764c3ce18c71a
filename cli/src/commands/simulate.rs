//! `muster simulate`: a trace, played to the engine that the scheduler runs and to what it is compared with. No service is
//! asked.

use super::App;
use crate::error::{Exit, Failure, Result};
use jiff::civil::DateTime;
use muster_scheduler_simulator::{Fault, Study, Terms, figures::Figures, philly, study};
use serde_json::{Value, json};
use std::{io::IsTerminal, path::PathBuf};

const EXAMPLES: &str = "\
Examples:
  muster simulate philly.csv
  muster simulate philly.csv --queues philly_vc_nodes.csv --from 2017-10-01 --to 2017-12-01 --load 0.7
  muster simulate philly.csv --nodes 91 -o json";

/// Play a trace to the scheduler's engine, beside first come first served and backfill
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// CSV with the columns timestamp, duration (seconds), num_gpus and cluster (the job's queue)
    #[arg(value_name = "TRACE")]
    trace: PathBuf,
    /// CSV whose column vc names the queues that count; all otherwise
    #[arg(long, value_name = "FILE")]
    queues: Option<PathBuf>,
    /// Jobs submitted then or later, as in 2017-10-01 or 2017-10-01T08:00:00
    #[arg(long, value_name = "TIME")]
    from: Option<DateTime>,
    /// Jobs submitted before then
    #[arg(long, value_name = "TIME")]
    to: Option<DateTime>,
    /// Mean demand ÷ size, which makes the size of each queue's own cluster; their sum is the pool
    #[arg(long, default_value_t = 0.7, value_name = "SHARE")]
    load: f64,
    /// Nodes of the pool, with eight GPUs each; the sum of the queues' own clusters otherwise
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    nodes: Option<u32>,
}

/// Runs it.
pub async fn run(args: Args, app: &App) -> Result<()> {
    let Args { trace, queues, from, to, load, nodes } = args;
    let play = move || -> std::result::Result<Study, Fault> {
        let workload = philly::read(&trace, queues.as_deref(), philly::Window { from, to })?;
        study(&workload, Terms { load, nodes }, &mut |policy| {
            if std::io::stderr().is_terminal() {
                eprintln!("playing {policy}");
            }
        })
    };
    let played = tokio::task::spawn_blocking(play).await;
    let study = played
        .map_err(|error| Failure::new(Exit::Failure, format!("the simulation ended early: {error}")))?
        .map_err(|fault| Failure::new(Exit::Invalid, fault.to_string()))?;
    if app.printer.is_for_people() {
        return crate::output::format::text(&study.report());
    }
    app.printer.value(&value(&study))
}

fn value(study: &Study) -> Value {
    let figures = |figures: &Figures| {
        let Figures { jobs, mean_completion_s, mean_wait_s, p99_wait_s, most_wait_s } = figures;
        json!({
            "jobs": jobs,
            "meanCompletionSeconds": mean_completion_s,
            "meanWaitSeconds": mean_wait_s,
            "p99WaitSeconds": p99_wait_s,
            "mostWaitSeconds": most_wait_s,
        })
    };
    let policies: Vec<Value> = study
        .rows
        .iter()
        .map(|row| {
            let queues: serde_json::Map<String, Value> =
                study.queues.iter().cloned().zip(row.queues_s.iter().map(|mean| json!(mean))).collect();
            json!({
                "policy": row.policy,
                "gpus": row.gpus,
                "all": figures(&row.all),
                "large": figures(&row.large),
                "meanCompletionSecondsByQueue": queues,
                "preemptions": row.preemptions,
                "utilisation": row.utilisation,
            })
        })
        .collect();
    json!({ "boundSeconds": study.bound_s, "policies": policies })
}
