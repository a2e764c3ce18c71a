//! `cargo xtask bench scheduler`: the production engine in process, without tables and wire; with `--philly`, a real trace; with
//! `--service`, the running service instead (`service/`).
//!
//! The one thing to know: times depend on this machine and on the profile of the build, counted operations and the figures of
//! the trace don't.

use std::path::PathBuf;
use std::time::Instant;

use super::service;
use anyhow::{Context, Result};
use jiff::civil::date;
use muster_scheduler_simulator::speed::{self, Speed};
use muster_scheduler_simulator::{Terms, Workload, equal_wait, philly, study};

/// What is measured besides the speed.
#[derive(clap::Args)]
pub struct Arguments {
    /// The Philly trace (timestamp, duration, num_gpus, cluster)
    #[arg(long, value_name = "FILE", requires = "philly_queues")]
    philly: Option<PathBuf>,
    /// The virtual clusters that count (column vc)
    #[arg(long, value_name = "FILE", requires = "philly")]
    philly_queues: Option<PathBuf>,
    /// Search too for the fewest GPUs with which the pool waits no longer than silos do. Pools that are far too small interrupt
    /// very often, so that this takes many minutes
    #[arg(long, requires = "philly")]
    equal_wait: bool,
    /// Waiting jobs behind which one that fits is submitted
    #[arg(long, default_value_t = 1_000_000)]
    blocked: u64,
    #[command(flatten)]
    service: service::ServiceArguments,
}

/// Measures and prints.
///
/// # Errors
/// A trace that can't be read, or facts that the engine refuses.
pub async fn run(arguments: Arguments) -> Result<()> {
    if arguments.service.service() {
        return service::run(&arguments.service).await;
    }
    tokio::task::spawn_blocking(|| in_process(arguments)).await?
}

fn in_process(arguments: Arguments) -> Result<()> {
    let began = Instant::now();
    let clock = || began.elapsed();
    let mut lines = Vec::new();
    let per_second = |speed: Speed| format!("{:.0}/s, {:.1} operations each", speed.per_second(), speed.operations_each());
    let each = |speed: Speed| format!("{:.2} µs, {:.1} operations", speed.micros_each(), speed.operations_each());
    lines.push((
        "P0  8,000 one-GPU jobs on 1,000 nodes × 8, submitted and placed".to_owned(),
        per_second(speed::fill(8_000, 1_000, &clock)?),
    ));
    for (nodes, waiting) in [(1_000, 10_000), (100_000, 1_000_000)] {
        let speed = speed::steady(waiting, nodes, 20_000, &clock)?;
        lines.push((format!("P2  a decision at {nodes} nodes and {waiting} waiting jobs"), each(speed)));
    }
    let speed = speed::behind_blocked(arguments.blocked, &clock)?;
    lines.push((format!("P2  one job that fits behind {} that don't", arguments.blocked), each(speed)));
    for (what, figure) in lines {
        println!("{what:66} {figure}");
    }
    if let (Some(trace), Some(queues)) = (arguments.philly, arguments.philly_queues) {
        let window = philly::Window { from: Some(date(2017, 10, 1).at(0, 0, 0, 0)), to: Some(date(2017, 12, 1).at(0, 0, 0, 0)) };
        let workload = philly::read(&trace, Some(&queues), window)?;
        for load in [0.7, 0.9] {
            let began = Instant::now();
            let study = study(&workload, Terms { load, nodes: None }, &mut |_| {})?;
            println!("\nQ1  Philly, October and November 2017, at load {load} (all policies in {:.1?})\n", began.elapsed());
            print!("{}", study.report());
        }
        if arguments.equal_wait {
            fewer_gpus(&workload)?;
        }
    }
    Ok(())
}

/// How few GPUs the pool needs.
fn fewer_gpus(workload: &Workload) -> Result<()> {
    println!("\nQ2  GPUs for the mean wait of silos under EASY with true durations");
    for load in [0.6, 0.7] {
        let equal = equal_wait(workload, load, &mut |tried| eprintln!("    load {load}: {} nodes tried", tried.nodes))
            .context("searching for the smallest pool")?;
        let fewer = 100.0 * (1.0 - equal.gpus as f64 / equal.silo_gpus as f64);
        println!(
            "    load {load}: {} GPUs in silos wait {:.0} s, {} pooled {:.0} s: {fewer:.1} % fewer",
            equal.silo_gpus, equal.silo_wait_s, equal.gpus, equal.wait_s
        );
    }
    Ok(())
}
