//! `muster policy translate`: Kyverno's `ClusterPolicy` in the words of its successors, or why it has none.

use super::super::App;
use crate::{
    documents,
    error::{Exit, Failure, Result},
    output::{Format, format::text, format::yaml},
};
use muster_policy_evaluator::{Policy, Target, translate};
use serde_json::{Value, json};

const EXAMPLES: &str = "\
A rule becomes a policy, and so do those that autogen adds for controllers and CronJobs. What has other words with the same
verdicts is written; what has none is named with its rule and field, and the exit status is 1.

Examples:
  muster policy translate -f require-labels.yaml
  muster policy translate -f policies/ --to validating-admission-policy > translated.yaml";

/// Turn ClusterPolicies into ValidatingPolicies or Kubernetes' ValidatingAdmissionPolicies with the same verdicts
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Policies: file, folder or `-`; may be repeated
    #[arg(short, long, required = true, value_name = "FILE|DIR|-")]
    file: Vec<String>,
    /// What they become
    #[arg(long, value_enum, default_value = "validating-policy", value_name = "KIND")]
    to: Into,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Into {
    /// Kyverno's own, `policies.kyverno.io/v1`
    ValidatingPolicy,
    /// Kubernetes' own with a binding each, `admissionregistration.k8s.io/v1`
    ValidatingAdmissionPolicy,
}

/// Runs it.
pub fn run(args: &Args, app: &App) -> Result<()> {
    app.printer.format.check_general()?;
    let target = match args.to {
        Into::ValidatingPolicy => Target::ValidatingPolicy,
        Into::ValidatingAdmissionPolicy => Target::ValidatingAdmissionPolicy,
    };
    let (mut translated, mut faults, mut refused) = (Vec::new(), Vec::new(), Vec::new());
    for document in documents::read(&args.file)?.documents {
        match Policy::parse(&document.manifest.value) {
            Err(error) => faults.push(format!("{}: {error}", document.place_of(&error.field))),
            Ok(policy) => match translate(&policy, target) {
                Ok(documents) => translated.extend(documents),
                Err(reasons) => {
                    refused.extend(reasons.iter().map(|reason| format!("{}: {}: {reason}", document.place(), policy.name())));
                }
            },
        }
    }
    if !faults.is_empty() {
        return Err(Failure { details: faults, ..Failure::new(Exit::Invalid, "nothing was translated") });
    }
    written(&translated, app)?;
    if refused.is_empty() {
        return Ok(());
    }
    Err(Failure { details: refused, ..Failure::new(Exit::Failure, "some policies have no other words") })
}

fn written(documents: &[Value], app: &App) -> Result<()> {
    match app.printer.format {
        Format::Json => app.printer.value(&json!({"apiVersion": "v1", "kind": "List", "items": documents})),
        Format::Yaml | Format::Table | Format::Wide | Format::Name => {
            documents.iter().try_for_each(|document| text(&format!("---\n{}", yaml(document)?)))
        }
        Format::Sarif | Format::Junit => app.printer.format.check_general(),
    }
}
