//! Translated policies in a real API server: `cargo run --release -p muster-policy --example admission_bench -- KUBECONFIG SUITES…`,
//! where the suites are folders with `kyverno-test.yaml`, as those of kyverno/policies.
//!
//! Every `ClusterPolicy` and `ValidatingPolicy` that a suite tests is translated, with its exceptions, into
//! `ValidatingAdmissionPolicy`, put into the API server, and asked about the suite's objects by dry runs. Each answer has to
//! be that of the evaluator about the original. What has no translation is counted by its reason. The policies stay as long as their objects are asked about; use a cluster of
//! its own all the same, since they hold for everybody in it.

mod api;
mod asked;
mod suites;

use anyhow::{Context, Result, bail, ensure};
use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

fn main() -> ExitCode {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let measured =
        tokio::runtime::Runtime::new().context("the runtime").and_then(|runtime| runtime.block_on(compare(&arguments)));
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn compare(arguments: &[PathBuf]) -> Result<()> {
    let [kubeconfig, folders @ ..] = arguments else { bail!("usage: admission_bench KUBECONFIG SUITES…") };
    ensure!(!folders.is_empty(), "no suites are named");
    let mut api = api::Api::of_kubeconfig(kubeconfig)?;
    let (mut refused, mut counts) = (BTreeMap::<String, usize>::new(), asked::Counts::default());
    let mut translated = BTreeMap::<String, usize>::new();
    for tested in suites::read(folders)? {
        match tested.translation {
            Ok(ref documents) => {
                *translated.entry(tested.kind.clone()).or_default() += 1;
                asked::ask(&mut api, &tested, documents, &mut counts).await.with_context(|| tested.name.clone())?;
            }
            Err(reasons) => {
                for reason in reasons {
                    *refused.entry(reason).or_default() += 1;
                }
            }
        }
    }
    let of_each: Vec<String> = translated.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    println!("C8  {} policies translated; {counts}", of_each.join(", "));
    for (reason, count) in refused {
        println!("    not translated, {count} ×: {reason}");
    }
    ensure!(!translated.is_empty() && counts.differing == 0, "{} verdicts differ", counts.differing);
    Ok(())
}
