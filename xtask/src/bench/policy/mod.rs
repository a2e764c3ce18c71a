//! `cargo xtask bench policy`: the evaluator in process, and beside it Kyverno's own command line tool, asked the same; with
//! `--service`, the running service; with `--real`, a real cluster.
//!
//! The one thing to know: C3 counts from unread files to the last verdict; C4 judges objects that are read already. Both
//! depend on the profile of the build.

mod kyverno;
mod real;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use muster_core::Manifest;
use muster_integration_tests::parts::postgres::Durability;
use muster_policy_evaluator::Policy;
use muster_policy_evaluator::conformance::manifests_below;
use muster_policy_evaluator::speed::{self, Answer};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde_json::Value;

use crate::setup::build::Cargo;
use crate::setup::{self, postgres};
use crate::workspace;

/// How long each kind of rule is asked.
const ASKED_FOR: Duration = Duration::from_secs(3);

/// What is measured.
#[derive(clap::Args)]
pub struct Arguments {
    /// Files and folders with policies
    #[arg(required = true)]
    policies: Vec<PathBuf>,
    /// Generated workloads for C3
    #[arg(long, default_value_t = 3_000)]
    workloads: usize,
    /// Threads of the evaluator
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// The running service too, over TLS and on a Postgres of its own: Pods a second, and thousands of policies about one object
    #[arg(long)]
    service: bool,
    /// Kyverno's command line tool, built from its module, asked about the same workloads in the same run
    #[arg(long)]
    kyverno: bool,
    /// A real cluster, started for it: the Pods that its controllers make of generated workloads, and translated policies
    #[arg(long)]
    real: bool,
    /// Generated workloads for C7
    #[arg(long, default_value_t = 2_000)]
    made: usize,
}

/// Measures and prints.
///
/// # Errors
/// A policy that can't be read, or a verdict that is not Kyverno's.
pub async fn run(arguments: Arguments) -> Result<()> {
    let Arguments { policies: places, workloads, threads, service, kyverno, real, made } = arguments;
    let program = if kyverno { Some(setup::kyverno::program().await?) } else { None };
    let asked = places.clone();
    tokio::task::spawn_blocking(move || in_process(&asked, workloads, threads, program.as_deref())).await??;
    if real {
        real::run(&read_policies(&places)?, &places, made).await?;
    }
    if service { of_service(&places).await } else { Ok(()) }
}

/// The service's own bench, which knows its insides, as xtask must not.
async fn of_service(policies: &[PathBuf]) -> Result<()> {
    let postgres = postgres::start(Durability::Full).await?;
    for (package, example) in [("muster-policy", "service_bench"), ("muster-agent", "verdict_bench")] {
        let mut command = workspace::cargo();
        command
            .args(["run", "--release", "--quiet", "--package", package, "--example", example, "--"])
            .arg(postgres.server().url("postgres"));
        for place in policies {
            command.arg(fs::canonicalize(place).with_context(|| place.display().to_string())?);
        }
        ensure!(Cargo::start(&mut command)?.lines(|line| println!("{line}")).await?, "{example} of {package} failed");
    }
    Ok(())
}

fn in_process(places: &[PathBuf], count: usize, threads: usize, kyverno: Option<&Path>) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let workloads = folder.path().join("workloads.json");
    let items = speed::workloads(count);
    fs::write(&workloads, serde_json::json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string())?;

    let began = Instant::now();
    let policies = read_policies(places)?;
    let list: Value = serde_json::from_slice(&fs::read(&workloads)?)?;
    let objects = list["items"].as_array().context("the list that was just written")?;
    let answers = speed::answers(&policies, objects, threads);
    let ours = began.elapsed();
    let counts: Vec<String> = speed::counted(&answers).iter().map(|(outcome, count)| format!("{count} {outcome}")).collect();
    println!(
        "C3  {} workloads × {} policies: {} verdicts in {ours:.2?} ({})",
        objects.len(),
        policies.len(),
        answers.len(),
        counts.join(", ")
    );
    if let Some(program) = kyverno {
        let began = Instant::now();
        let theirs = kyverno::ask(program, places, &workloads)?;
        let took = began.elapsed();
        let times = took.as_secs_f64() / ours.as_secs_f64();
        println!("    Kyverno: {} verdicts in {took:.2?}; here {times:.0} × as fast", theirs.len());
        kyverno::compare(&verdicts(&answers, objects), &theirs)?;
    }

    let pods = speed::pods(240);
    let began = Instant::now();
    let mut by_body: BTreeMap<String, Vec<Policy>> = BTreeMap::new();
    for policy in policies {
        let body = policy.rules().next().map_or_else(String::new, |(_, body, _)| body.to_string());
        by_body.entry(body).or_default().push(policy);
    }
    for (body, policies) in by_body {
        let before = processor_time()?;
        let speed = speed::measure(&policies, &pods, threads, ASKED_FOR, &|| began.elapsed());
        let each = (processor_time()? - before).as_nanos() as f64 / speed.answers as f64;
        let per_second = speed.per_second();
        println!(
            "C4  {body:24} {:>3} policies  {per_second:>10.0} verdicts/s, {each:.0} ns of processor time each",
            policies.len()
        );
    }
    Ok(())
}

/// What this process has used so far, on all threads.
fn processor_time() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(Duration::from_micros(micros.unsigned_abs()))
}

/// As Kyverno's report words them.
fn verdicts(answers: &[Answer], objects: &[Value]) -> BTreeSet<kyverno::Verdict> {
    let named = |object: &Value| {
        let [kind, name] = ["/kind", "/metadata/name"].map(|at| object.pointer(at).and_then(Value::as_str).unwrap_or_default());
        (name.to_owned(), format!("{kind} {name}"))
    };
    let objects: BTreeMap<String, String> = objects.iter().map(named).collect();
    let verdict = |answer: &Answer| {
        let Answer { policy, rule, object, outcome } = answer;
        (policy.clone(), rule.clone(), objects.get(object).cloned().unwrap_or_default(), (*outcome).to_owned())
    };
    answers.iter().map(verdict).collect()
}

fn read_policies(places: &[PathBuf]) -> Result<Vec<Policy>> {
    let mut manifests = manifests_below(places)?;
    manifests.retain(|(_, manifest)| Policy::reads(manifest.api_version(), manifest.kind()));
    ensure!(!manifests.is_empty(), "there is no policy");
    let read =
        |(file, manifest): &(PathBuf, Manifest)| Policy::parse(&manifest.value).with_context(|| file.display().to_string());
    manifests.iter().map(read).collect()
}
