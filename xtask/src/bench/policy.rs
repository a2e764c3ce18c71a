//! `cargo xtask bench policy`: the evaluator in process, and beside it Kyverno's own command line tool, asked the same; with
//! `--service`, the running service.
//!
//! The one thing to know: C3 counts from unread files to the last verdict; C4 judges objects that are read already. Both
//! depend on the profile of the build; `--kyverno` is a program of whoever runs this, since its module replaces others
//! and so can't be installed by Go alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use muster_core::manifest::parse_documents;
use muster_integration_tests::parts::postgres::Durability;
use muster_policy_evaluator::Policy;
use muster_policy_evaluator::speed::{self, Answer};
use serde_json::Value;

use crate::setup::build::Cargo;
use crate::setup::postgres;
use crate::workspace;

/// Folders deeper than this are a loop of links.
const MAX_DEPTH: usize = 16;
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
    /// Kyverno's command line tool, asked about the same workloads in the same run
    #[arg(long, value_name = "PROGRAM")]
    kyverno: Option<PathBuf>,
}

/// Measures and prints.
///
/// # Errors
/// A policy that can't be read, or a verdict that is not Kyverno's.
pub async fn run(arguments: Arguments) -> Result<()> {
    let policies = arguments.service.then(|| arguments.policies.clone());
    tokio::task::spawn_blocking(|| in_process(arguments)).await??;
    match policies {
        Some(policies) => of_service(&policies).await,
        None => Ok(()),
    }
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

fn in_process(arguments: Arguments) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let workloads = folder.path().join("workloads.json");
    let items = speed::workloads(arguments.workloads);
    fs::write(&workloads, serde_json::json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string())?;

    let began = Instant::now();
    let policies = read_policies(&arguments.policies)?;
    let list: Value = serde_json::from_slice(&fs::read(&workloads)?)?;
    let objects = list["items"].as_array().context("the list that was just written")?;
    let answers = speed::answers(&policies, objects, arguments.threads);
    let ours = began.elapsed();
    let counts: Vec<String> = speed::counted(&answers).iter().map(|(outcome, count)| format!("{count} {outcome}")).collect();
    println!(
        "C3  {} workloads × {} policies: {} verdicts in {ours:.2?} ({})",
        objects.len(),
        policies.len(),
        answers.len(),
        counts.join(", ")
    );
    if let Some(program) = &arguments.kyverno {
        let began = Instant::now();
        let theirs = ask_kyverno(program, &arguments.policies, &workloads)?;
        let took = began.elapsed();
        let times = took.as_secs_f64() / ours.as_secs_f64();
        println!("    Kyverno: {} verdicts in {took:.2?}; here {times:.0} × as fast", theirs.len());
        compare(&answers, &theirs)?;
    }

    let pods = speed::pods(240);
    let began = Instant::now();
    let mut by_body: BTreeMap<String, Vec<Policy>> = BTreeMap::new();
    for policy in policies {
        let body = policy.rules().next().map_or_else(String::new, |(_, body, _)| body.to_string());
        by_body.entry(body).or_default().push(policy);
    }
    for (body, policies) in by_body {
        let speed = speed::measure(&policies, &pods, arguments.threads, ASKED_FOR, &|| began.elapsed());
        println!("C4  {body:24} {:>3} policies  {:>10.0} verdicts/s", policies.len(), speed.per_second());
    }
    Ok(())
}

fn read_policies(places: &[PathBuf]) -> Result<Vec<Policy>> {
    let mut policies = Vec::new();
    for place in places {
        read_below(place, 0, &mut policies)?;
    }
    ensure!(!policies.is_empty(), "there is no policy");
    Ok(policies)
}

fn read_below(place: &Path, depth: usize, policies: &mut Vec<Policy>) -> Result<()> {
    ensure!(depth <= MAX_DEPTH, "{}: nested deeper than {MAX_DEPTH} folders", place.display());
    if place.is_dir() {
        let mut entries: Vec<PathBuf> = fs::read_dir(place)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        entries.sort();
        // Suites beside the policies hold tests, not policies.
        entries.retain(|entry| entry.file_name().is_none_or(|name| !name.to_string_lossy().starts_with('.')));
        return entries.iter().try_for_each(|entry| read_below(entry, depth + 1, policies));
    }
    if place.extension().is_some_and(|extension| extension == "yaml") {
        for document in parse_documents(&fs::read_to_string(place)?).with_context(|| place.display().to_string())? {
            if Policy::reads(document.api_version(), document.kind()) {
                policies.push(Policy::parse(&document.value).with_context(|| place.display().to_string())?);
            }
        }
    }
    Ok(())
}

/// Policy, rule, object and verdict, as Kyverno's report has them.
type Verdict = (String, String, String, String);

fn ask_kyverno(program: &Path, policies: &[PathBuf], workloads: &Path) -> Result<BTreeSet<Verdict>> {
    let output = Command::new(program)
        .arg("apply")
        .args(policies)
        .arg("--resource")
        .arg(workloads)
        .args(["--policy-report", "--output-format", "json"])
        .stdin(Stdio::null())
        .output()
        .with_context(|| program.display().to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let Some(start) = text.find("{\n").or_else(|| text.find("{\"")) else {
        bail!("no report: {}", String::from_utf8_lossy(&output.stderr))
    };
    let report: Value = serde_json::from_str(&text[start..]).context("Kyverno's report")?;
    let mut verdicts = BTreeSet::new();
    for result in report["results"].as_array().into_iter().flatten() {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        for resource in result["resources"].as_array().into_iter().flatten() {
            verdicts.insert((text(&result["policy"]), text(&result["rule"]), text(&resource["name"]), text(&result["result"])));
        }
    }
    Ok(verdicts)
}

/// Every verdict of theirs has to be one of ours, and the other way round.
fn compare(answers: &[Answer], theirs: &BTreeSet<Verdict>) -> Result<()> {
    let verdict =
        |answer: &Answer| (answer.policy.clone(), answer.rule.clone(), answer.object.clone(), answer.outcome.to_owned());
    let ours: BTreeSet<Verdict> = answers.iter().map(verdict).collect();
    let differing: Vec<&Verdict> = ours.symmetric_difference(theirs).collect();
    for (policy, rule, object, outcome) in differing.iter().take(20) {
        let whose =
            if ours.contains(&(policy.clone(), rule.clone(), object.clone(), outcome.clone())) { "here" } else { "Kyverno" };
        println!("    {policy}/{rule} on {object}: {outcome} ({whose} only)");
    }
    ensure!(differing.is_empty(), "{} verdicts differ", differing.len());
    println!("    every verdict is the same");
    Ok(())
}
