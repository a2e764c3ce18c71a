//! The verdict without a service: the evaluator that the policy service and the agents use, over policies from files.

use super::{Args, Finding, Verdict};
use crate::{
    documents::{self, Document},
    error::{Exit, Failure, Result},
};
use muster_policy_evaluator::{
    Bound, Decision, Extent, FailureAction, Inventory, Policy, PolicyError, PolicyException, Surroundings, Violation, decide_on,
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

/// Progress is said this often; what takes less says nothing.
const PROGRESS: Duration = Duration::from_secs(2);

/// What the policies in files and folders say of the documents.
pub fn judge(documents: &[Document], args: &Args, namespace: &str) -> Result<Verdict> {
    let policies = policies(&args.policy)?;
    let now = jiff::Timestamp::now();
    let mut exceptions = exceptions(&args.exception)?;
    exceptions.retain(|exception| exception.holds_at(now));
    let manifests: Vec<Value> = documents.iter().map(|document| document.manifest.value.clone()).collect();
    let surroundings = Surroundings {
        default_namespace: namespace.to_owned(),
        exceptions,
        inventory: Some(Arc::new(inventory(&manifests, &args.inventory)?)),
        now: Some(now),
        ..Surroundings::default()
    };
    let action = args.enforce.then_some(FailureAction::Enforce);
    let bound: Vec<_> =
        policies.iter().map(|policy| Bound { policy, action, allow_not_evaluated: false, namespaces: &[] }).collect();
    Ok(verdict(decide(&bound, &manifests, &surroundings)))
}

/// Judges on every core, and says how far it is where that takes long.
fn decide(bound: &[Bound<'_>], manifests: &[Value], surroundings: &Surroundings) -> Decision {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let done = AtomicUsize::new(0);
    let (end, ended) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let done = &done;
        scope.spawn(move || {
            while ended.recv_timeout(PROGRESS) == Err(mpsc::RecvTimeoutError::Timeout) {
                eprintln!("judged {} of {} manifests", done.load(Ordering::Relaxed), manifests.len());
            }
        });
        let judged = |count| {
            done.fetch_add(count, Ordering::Relaxed);
        };
        let decision = decide_on(threads, bound, manifests, surroundings, &judged);
        drop(end);
        decision
    })
}

fn verdict(decision: Decision) -> Verdict {
    let warnings: BTreeSet<String> = decision
        .not_evaluated
        .iter()
        .map(|entry| format!("{}/{} was not evaluated for {}: {}", entry.policy, entry.rule, entry.resource, entry.message))
        .chain(decision.warnings.iter().map(ToString::to_string))
        .collect();
    let enforced = decision.violations.into_iter().map(|violation| finding(violation, true));
    let audited = decision.audited.into_iter().map(|violation| finding(violation, false));
    Verdict { findings: enforced.chain(audited).collect(), warnings: warnings.into_iter().collect() }
}

fn finding(violation: Violation, enforced: bool) -> Finding {
    let Violation { manifest, policy, rule, resource, path, message } = violation;
    Finding { document: manifest, policy, rule, subject: resource, path, message, enforced }
}

/// Policies, those of Kubernetes with their bindings.
fn policies(sources: &[String]) -> Result<Vec<Policy>> {
    let (mut policies, mut bindings, mut faults) = (Vec::new(), BTreeMap::<String, Vec<Document>>::new(), Vec::new());
    for document in documents::read(sources)?.documents {
        let (version, kind) = (document.manifest.api_version(), document.manifest.kind());
        if kind == "ValidatingAdmissionPolicyBinding" {
            let of = document.manifest.value.pointer("/spec/policyName").and_then(Value::as_str).unwrap_or_default();
            bindings.entry(of.to_owned()).or_default().push(document);
        } else if Policy::reads(version, kind) {
            match Policy::parse(&document.manifest.value) {
                Ok(policy) => policies.push(policy),
                Err(error) => faults.push(fault(&document, &error)),
            }
        } else {
            faults.push(format!("{}: {version} {kind} is no policy this command can judge by", document.place()));
        }
    }
    let is_kubernetes = |policy: &Policy| policy.document()["kind"] == "ValidatingAdmissionPolicy";
    for policy in policies.iter_mut().filter(|policy| is_kubernetes(policy)) {
        for binding in bindings.remove(policy.name()).unwrap_or_default() {
            match policy.clone().bound_by(&binding.manifest.value) {
                Ok(bound) => *policy = bound,
                Err(error) => faults.push(fault(&binding, &error)),
            }
        }
    }
    for binding in bindings.into_values().flatten() {
        faults.push(format!("{}: spec.policyName: there is no such policy", binding.place_of("spec.policyName")));
    }
    refused("--policy", faults).map(|()| policies)
}

fn exceptions(sources: &[String]) -> Result<Vec<PolicyException>> {
    if sources.is_empty() {
        return Ok(Vec::new());
    }
    let (mut exceptions, mut faults) = (Vec::new(), Vec::new());
    for document in documents::read(sources)?.documents {
        match PolicyException::parse(&document.manifest.value) {
            Ok(exception) => exceptions.push(exception),
            Err(error) => faults.push(fault(&document, &error)),
        }
    }
    refused("--exception", faults).map(|()| exceptions)
}

/// What rules may ask for: the manifests, and the rest of the cluster where it is given.
fn inventory(manifests: &[Value], sources: &[String]) -> Result<Inventory> {
    let mut objects = manifests.to_vec();
    if sources.is_empty() {
        return Ok(Inventory::new(objects, Extent::Resources(BTreeSet::new())));
    }
    objects.extend(documents::read(sources)?.documents.into_iter().map(|document| document.manifest.value));
    Ok(Inventory::new(objects, Extent::Whole))
}

fn fault(document: &Document, error: &PolicyError) -> String {
    format!("{}: {error}", document.place_of(&error.field))
}

fn refused(option: &str, faults: Vec<String>) -> Result<()> {
    if faults.is_empty() {
        return Ok(());
    }
    Err(Failure { details: faults, ..Failure::new(Exit::Invalid, format!("{option}: nothing was judged")) })
}
