//! The verdict without a service: the evaluator that the policy service and the agents use, over policies from files.

use super::{Finding, Verdict};
use crate::{
    documents::{self, Document},
    error::{Exit, Failure, Result},
};
use muster_policy_evaluator::{Bound, FailureAction, Policy, Surroundings, Violation, decide};
use serde_json::Value;

/// What the policies in these files and folders say of the documents.
pub fn judge(documents: &[Document], sources: &[String], namespace: &str, enforce: bool) -> Result<Verdict> {
    let (mut policies, mut faults) = (Vec::new(), Vec::new());
    for document in &documents::read(sources)?.documents {
        let (version, kind) = (document.manifest.api_version(), document.manifest.kind());
        if !Policy::reads(version, kind) {
            faults.push(format!("{}: {version} {kind} is no policy this command can judge by", document.place()));
            continue;
        }
        match Policy::parse(&document.manifest.value) {
            Ok(policy) => policies.push(policy),
            Err(error) => faults.push(format!("{}: {error}", document.place())),
        }
    }
    if !faults.is_empty() {
        return Err(Failure { details: faults, ..Failure::new(Exit::Invalid, "--policy: nothing was judged") });
    }
    let action = enforce.then_some(FailureAction::Enforce);
    let bound: Vec<_> =
        policies.iter().map(|policy| Bound { policy, action, allow_not_evaluated: false, namespaces: &[] }).collect();
    let manifests: Vec<Value> = documents.iter().map(|document| document.manifest.value.clone()).collect();
    let surroundings = Surroundings { default_namespace: namespace.to_owned(), ..Surroundings::default() };
    let decision = decide(&bound, &manifests, &surroundings);
    let enforced = decision.violations.into_iter().map(|violation| finding(violation, true));
    let audited = decision.audited.into_iter().map(|violation| finding(violation, false));
    let mut warnings: Vec<String> = decision
        .not_evaluated
        .iter()
        .map(|entry| format!("{}/{} was not evaluated for {}: {}", entry.policy, entry.rule, entry.resource, entry.message))
        .chain(decision.warnings.iter().map(ToString::to_string))
        .collect();
    warnings.sort();
    warnings.dedup();
    Ok(Verdict { findings: enforced.chain(audited).collect(), warnings })
}

fn finding(violation: Violation, enforced: bool) -> Finding {
    let Violation { manifest, policy, rule, resource, path, message } = violation;
    Finding { document: manifest, policy, rule, subject: resource, path, message, enforced }
}
