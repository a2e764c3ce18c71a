//! Verdicts beside what a real cluster does: C7, the Pods that real controllers make; C8, translated policies in a real API
//! server. The cluster is started for it and goes with it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use muster_core::selector::Labels;
use muster_integration_tests::cluster_api::ClusterApi;
use muster_integration_tests::made::{self, Compared, Schedules};
use muster_integration_tests::parts::kubernetes::Kubernetes;
use muster_integration_tests::process::Leash;
use muster_policy_evaluator::{Policy, Request, landed};
use serde_json::{Value, json};

use super::kyverno::{self, Verdict};
use crate::setup::build::Cargo;
use crate::setup::{self, kubernetes};
use crate::workspace;

/// Workloads in a namespace. They go when they were compared, so that the cluster stays small.
const TOGETHER: usize = 250;
/// Plugins of an API server that refuse much of what suites hold, by objects that are not there.
const REFUSING: [&str; 3] = ["ServiceAccount", "Priority", "RuntimeClass"];
/// Differences shown.
const SHOWN: usize = 30;

/// Starts a cluster and compares.
///
/// # Errors
/// Something does not come up, or a verdict differs.
pub async fn run(policies: &[Policy], places: &[PathBuf], workloads: usize) -> Result<()> {
    let program = setup::kyverno::program().await?;
    let programs = kubernetes::programs().await?;
    let leash = Leash::this_program();
    let cluster = Kubernetes::start(&programs, &leash, "made", 1, "V100").await?;
    let api = ClusterApi::of_kubeconfig(&cluster.folder().join("kubeconfig"))?;
    let made = of_made(&api, policies, places, &program, workloads).await;
    drop(cluster);
    let foreign = of_foreign(policies, places, &program, workloads.div_ceil(4));
    // Everything is said before anything fails.
    let cluster = Kubernetes::start_without(&programs, &leash, "admission", 0, "V100", &REFUSING).await?;
    let admission = of_admission(&cluster.folder().join("kubeconfig"), places).await;
    made.and(foreign).and(admission)
}

/// C7: what the evaluator says beforehand about everything that a workload makes, what it says about what was made, and
/// what Kyverno says about that.
async fn of_made(api: &ClusterApi, policies: &[Policy], places: &[PathBuf], program: &Path, count: usize) -> Result<()> {
    let began = Instant::now();
    let mut compared = Compared::default();
    let mut objects = Vec::new();
    for first in (0..count).step_by(TOGETHER) {
        let namespace = format!("made-{first}");
        let workloads = (first..count.min(first + TOGETHER)).map(|number| made::built_in(number, &namespace)).collect();
        let families = made::make(api, &namespace, workloads, Schedules::Waited).await?;
        let labels = Labels::from([("kubernetes.io/metadata.name".to_owned(), namespace.clone())]);
        made::compare(policies, (&namespace, &labels), &families, &mut compared);
        objects.extend(families.into_iter().flat_map(|family| family.live));
        api.delete(&format!("/api/v1/namespaces/{namespace}")).await?;
    }
    let Compared { objects: number, answers, failed, not_evaluated, verdicts, shapes, foretold } = compared;
    println!(
        "C7  {count} workloads, {number} objects of real controllers in {:.0?}: {answers} verdicts ({failed} fail, {not_evaluated} \
         not evaluated), {} foretold otherwise",
        began.elapsed(),
        verdicts.len()
    );
    verdicts.iter().take(SHOWN).for_each(|line| println!("    {line}"));
    println!("    {} places where an object is another than foretold", shapes.len());
    shapes.iter().for_each(|(place, (times, example))| println!("    {times:>5} × {place}; {example}"));
    let theirs = ask_kyverno(program, places, &objects)?;
    println!("    Kyverno on the same objects: {} verdicts", theirs.len());
    kyverno::compare(&foretold, &theirs)?;
    ensure!(verdicts.is_empty(), "{} verdicts were foretold otherwise", verdicts.len());
    Ok(())
}

/// C7 for kinds whose controllers are not there: the Pods that the evaluator expands, judged by Kyverno.
fn of_foreign(policies: &[Policy], places: &[PathBuf], program: &Path, count: usize) -> Result<()> {
    let namespace = "foreign";
    let (mut objects, mut ours) = (Vec::new(), BTreeSet::<Verdict>::new());
    let workloads: Vec<Value> = (0..count).map(|number| made::other(number, namespace)).collect();
    for made in landed(&workloads, namespace, None) {
        let mut object = made.object().clone();
        // Kyverno's report names objects, and these have no names yet.
        object["metadata"]["name"] = json!(format!("object-{}", objects.len()));
        let request = Request::create(&object);
        for policy in policies {
            ours.extend(policy.evaluate(&request).into_iter().map(|result| {
                let called = format!("{} object-{}", object["kind"].as_str().unwrap_or_default(), objects.len());
                (policy.name().to_owned(), result.rule.to_owned(), called, result.outcome.word().to_owned())
            }));
        }
        objects.push(object);
    }
    let theirs = ask_kyverno(program, places, &objects)?;
    println!("C7  {count} workloads of other controllers, {} objects expanded: {} verdicts", objects.len(), ours.len());
    kyverno::compare(&ours, &theirs)
}

fn ask_kyverno(program: &Path, places: &[PathBuf], objects: &[Value]) -> Result<BTreeSet<Verdict>> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("objects.json");
    fs::write(&file, json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string())?;
    kyverno::ask(program, places, &file)
}

/// C8: the service's own comparison, which knows its insides, as xtask must not.
async fn of_admission(kubeconfig: &Path, places: &[PathBuf]) -> Result<()> {
    let mut command = workspace::cargo();
    command
        .args(["run", "--release", "--quiet", "--package", "muster-policy", "--example", "admission_bench", "--"])
        .arg(kubeconfig);
    for place in places {
        command.arg(fs::canonicalize(place).with_context(|| place.display().to_string())?);
    }
    ensure!(Cargo::start(&mut command)?.lines(|line| println!("{line}")).await?, "translated policies judge otherwise");
    Ok(())
}
