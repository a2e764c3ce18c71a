//! Several policies, several manifests, one decision: what is refused, what is only reported, and what nobody judged.
//!
//! Every manifest is judged as the cluster would judge it: the object itself with the API's defaults and the rules of
//! autogen, and everything it makes (`expand`). So a Volcano Job with limits only passes a rule about requests, since
//! its Pods get them by default, and a Deployment with limits only fails it, since its template does not.

use crate::{
    autogen::base_name,
    body::BodyKind,
    defaults::with_api_defaults,
    evaluate::{Outcome, Request, RuleResult},
    exception::PolicyException,
    expand::{Made, made_by},
    facts::Operation,
    injection::{Warning, covers_all_containers, injection_label},
    inventory::Inventory,
    matching::namespace_matches,
    path::Path,
    policy::{FailureAction, Policy},
};
use jiff::Timestamp;
use muster_core::selector::Labels;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// A policy and what its binding says of it.
#[derive(Debug, Clone, Copy)]
pub struct Bound<'a> {
    /// The policy.
    pub policy: &'a Policy,
    /// Overrides the policy's own action; `None` leaves it to the policy.
    pub action: Option<FailureAction>,
    /// Under *enforce*, lets pass what no one here can judge; without it such a rule refuses.
    pub allow_not_evaluated: bool,
    /// Where the binding holds, as wildcards over namespaces; empty means everywhere.
    pub namespaces: &'a [String],
}

/// What is known of the place the manifests go to.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// Labels of namespaces. Those of Namespaces among the manifests count too and come first.
    pub namespaces: BTreeMap<String, Labels>,
    /// The namespace of namespaced manifests that name none; empty means `default`.
    pub default_namespace: String,
    /// What is done to the manifests.
    pub operation: Operation,
    /// Objects that policies do not ask.
    pub exceptions: Vec<PolicyException>,
    /// What rules may ask the cluster and the registry; `None`: nothing is known of them, and such rules are not
    /// evaluated.
    pub inventory: Option<Arc<Inventory>>,
    /// What time it is, for the rules that ask; `None`: they are not evaluated.
    pub now: Option<Timestamp>,
}

/// One rule's answer to one object of one manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceResult {
    /// Which of the manifests, from 0.
    pub manifest: usize,
    /// The policy's name.
    pub policy: String,
    /// The rule's name, with autogen's prefix.
    pub rule: String,
    /// What the rule is made of.
    pub body: BodyKind,
    /// The object, as `Kind namespace/name`.
    pub resource: String,
    /// Whether a violation refuses.
    pub enforced: bool,
    /// Where in the manifest as it was handed in; `None` where the cluster puts it there, or nothing failed.
    pub path: Option<Path>,
    /// The answer.
    pub outcome: Outcome,
}

/// A reason to refuse or to report.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// Which of the manifests, from 0.
    pub manifest: usize,
    /// The policy's name.
    pub policy: String,
    /// The rule's name, with autogen's prefix.
    pub rule: String,
    /// The object, as `Kind namespace/name`.
    pub resource: String,
    /// Where in the manifest that was handed in, as `spec.tasks[0].template.spec.containers[0].image`; in the made
    /// object where the manifest has no such place; empty where the whole object is at fault.
    pub path: String,
    /// The rule's message, worded as Kyverno words it.
    pub message: String,
}

/// What the policies say of the manifests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decision {
    /// Every answer, manifests in their order.
    pub results: Vec<ResourceResult>,
    /// What refuses the manifests.
    pub violations: Vec<Violation>,
    /// What is only reported.
    pub audited: Vec<Violation>,
    /// Rules that matched and were not judged, enforced or not: the message is the reason.
    pub not_evaluated: Vec<Violation>,
    /// What the verdict cannot cover.
    pub warnings: Vec<Warning>,
}

impl Decision {
    /// Whether nothing stands against the manifests.
    pub fn is_allowed(&self) -> bool {
        self.violations.is_empty()
    }

    fn and(mut self, other: Self) -> Self {
        let Self { results, violations, audited, not_evaluated, warnings } = other;
        self.results.extend(results);
        self.violations.extend(violations);
        self.audited.extend(audited);
        self.not_evaluated.extend(not_evaluated);
        self.warnings.extend(warnings);
        self
    }
}

/// Judges manifests by policies.
pub fn decide(policies: &[Bound<'_>], manifests: &[Value], surroundings: &Surroundings) -> Decision {
    let namespaces = namespaces_known(manifests, surroundings);
    Judge::new(policies, &namespaces, surroundings, Kept::Everything).manifests(manifests, 0)
}

/// As [`decide`], for whoever asks what stands against the manifests and not what every rule answers: `results` is empty.
pub fn objections(policies: &[Bound<'_>], manifests: &[Value], surroundings: &Surroundings) -> Decision {
    let namespaces = namespaces_known(manifests, surroundings);
    Judge::new(policies, &namespaces, surroundings, Kept::Objections).manifests(manifests, 0)
}

/// As [`decide`], on so many threads. `judged` hears of every few manifests that are done, how many they were.
pub fn decide_on(
    threads: usize,
    policies: &[Bound<'_>],
    manifests: &[Value],
    surroundings: &Surroundings,
    judged: &(dyn Fn(usize) + Sync),
) -> Decision {
    /// Manifests a thread takes at a time: few, since some make many objects.
    const SHARE: usize = 16;
    let namespaces = namespaces_known(manifests, surroundings);
    let next = AtomicUsize::new(0);
    let judge_some = || {
        let mut decisions = Vec::new();
        loop {
            let first = next.fetch_add(SHARE, Ordering::Relaxed);
            let Some(rest) = manifests.get(first..).filter(|rest| !rest.is_empty()) else { return decisions };
            let share = &rest[..rest.len().min(SHARE)];
            let judge = Judge::new(policies, &namespaces, surroundings, Kept::Everything);
            decisions.push((first, judge.manifests(share, first)));
            judged(share.len());
        }
    };
    let mut decisions: Vec<(usize, Decision)> = thread::scope(|scope| {
        let running: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(judge_some)).collect();
        running.into_iter().flat_map(|thread| thread.join().expect("judging does not panic")).collect()
    });
    decisions.sort_by_key(|(first, _)| *first);
    decisions.into_iter().fold(Decision::default(), |all, (_, decision)| all.and(decision))
}

/// Labels of the namespaces told, and of those among the manifests.
fn namespaces_known(manifests: &[Value], surroundings: &Surroundings) -> BTreeMap<String, Labels> {
    let mut namespaces = surroundings.namespaces.clone();
    for manifest in manifests.iter().filter(|manifest| manifest["kind"] == "Namespace" && manifest["apiVersion"] == "v1") {
        if let Some(name) = manifest.pointer("/metadata/name").and_then(Value::as_str) {
            namespaces.insert(name.to_owned(), labels_of(manifest));
        }
    }
    for (name, labels) in &mut namespaces {
        labels.entry("kubernetes.io/metadata.name".to_owned()).or_insert_with(|| name.clone());
    }
    namespaces
}

/// What a decision is to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    Everything,
    Objections,
}

struct Judge<'a> {
    policies: &'a [Bound<'a>],
    namespaces: &'a BTreeMap<String, Labels>,
    surroundings: &'a Surroundings,
    kept: Kept,
    /// Which of the manifests is being judged.
    manifest: usize,
    decision: Decision,
    /// (policy, rule without autogen's prefix, place, whether it refuses) already found in this manifest.
    seen: BTreeSet<(String, String, Path, bool)>,
}

impl<'a> Judge<'a> {
    fn new(
        policies: &'a [Bound<'a>],
        namespaces: &'a BTreeMap<String, Labels>,
        surroundings: &'a Surroundings,
        kept: Kept,
    ) -> Self {
        Self { policies, namespaces, surroundings, kept, manifest: 0, decision: Decision::default(), seen: BTreeSet::new() }
    }

    /// The first of the manifests has this number.
    fn manifests(mut self, manifests: &[Value], first: usize) -> Decision {
        let default_namespace = match self.surroundings.default_namespace.as_str() {
            "" => "default",
            namespace => namespace,
        };
        for (index, manifest) in manifests.iter().enumerate() {
            self.manifest = first + index;
            self.seen.clear();
            let manifest = in_a_namespace(manifest, default_namespace);
            self.object(&manifest, None);
            for made in made_by(&manifest) {
                self.object(&made.object, Some(&made));
            }
        }
        self.decision
    }

    fn object(&mut self, object: &Value, made: Option<&Made>) {
        let object = with_api_defaults(object);
        let namespace = object.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or_default().to_owned();
        let labels = self.namespaces.get(&namespace);
        let resource = resource_name(&object);
        let injected = (object["kind"] == "Pod").then(|| injection_label(&object, labels)).flatten();
        let policies = self.policies;
        for bound in policies {
            if !bound.namespaces.is_empty() && !namespace_matches(bound.namespaces, &namespace) {
                continue;
            }
            let request = Request {
                operation: self.surroundings.operation,
                namespace_labels: labels,
                exceptions: &self.surroundings.exceptions,
                inventory: self.surroundings.inventory.as_deref(),
                now: self.surroundings.now,
                ..Request::create(&object)
            };
            for result in bound.policy.evaluate(&request) {
                let is_judged = !matches!(result.outcome, Outcome::NotEvaluated { .. } | Outcome::Skip { .. });
                if let Some(label) = injected.as_ref().filter(|_| is_judged && covers_all_containers(bound.policy, result.rule)) {
                    self.decision.warnings.push(Warning {
                        policy: bound.policy.name().to_owned(),
                        rule: result.rule.to_owned(),
                        resource: resource.clone(),
                        label: label.clone(),
                    });
                }
                self.record(bound, result, &resource, made);
            }
        }
    }

    fn record(&mut self, bound: &Bound<'_>, result: RuleResult<'_>, resource: &str, made: Option<&Made>) {
        if self.kept == Kept::Objections && matches!(result.outcome, Outcome::Pass | Outcome::Skip { .. }) {
            return;
        }
        let enforced = bound.action.unwrap_or(result.action) == FailureAction::Enforce;
        let policy = bound.policy.name().to_owned();
        let mut place = None;
        let manifest = self.manifest;
        let violation = |path: String, message: &str| Violation {
            manifest,
            policy: policy.clone(),
            rule: result.rule.to_owned(),
            resource: resource.to_owned(),
            path,
            message: message.to_owned(),
        };
        match &result.outcome {
            Outcome::Pass | Outcome::Skip { .. } => {}
            Outcome::Fail { path, message, .. } => {
                place = made.map_or_else(|| Some(path.clone()), |made| made.origin_of(path));
                let shown = place.as_ref().unwrap_or(path);
                let base = base_name(result.rule, result.body).to_owned();
                // A Deployment, its ReplicaSet and its Pod fail in one place of the manifest: said once.
                let is_new = place.is_none() || self.seen.insert((policy.clone(), base, shown.clone(), enforced));
                if is_new {
                    let list = if enforced { &mut self.decision.violations } else { &mut self.decision.audited };
                    list.push(violation(shown.to_string(), message));
                }
            }
            Outcome::Error { message } => {
                let list = if enforced { &mut self.decision.violations } else { &mut self.decision.audited };
                list.push(violation(String::new(), message));
            }
            Outcome::NotEvaluated { reason } => {
                let entry = violation(String::new(), reason);
                if enforced && result.body.can_refuse() && !bound.allow_not_evaluated {
                    let message = format!("the rule could not be evaluated: {reason}");
                    self.decision.violations.push(Violation { message, ..entry.clone() });
                }
                self.decision.not_evaluated.push(entry);
            }
        }
        if self.kept == Kept::Objections {
            return;
        }
        let RuleResult { rule, body, outcome, .. } = result;
        self.decision.results.push(ResourceResult {
            manifest,
            policy,
            rule: rule.to_owned(),
            body,
            resource: resource.to_owned(),
            enforced,
            path: place,
            outcome,
        });
    }
}

fn labels_of(object: &Value) -> Labels {
    let Some(Value::Object(entries)) = object.pointer("/metadata/labels") else { return Labels::new() };
    entries.iter().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// `Kind namespace/name`, or `Kind name` without a namespace; a generated name ends with `*`.
fn resource_name(object: &Value) -> String {
    let at = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let name = match at("/metadata/name") {
        "" => format!("{}*", at("/metadata/generateName")),
        name => name.to_owned(),
    };
    match at("/metadata/namespace") {
        "" => format!("{} {name}", at("/kind")),
        namespace => format!("{} {namespace}/{name}", at("/kind")),
    }
}

/// Kinds of the usual API groups that have no namespace.
const CLUSTER_SCOPED: [&str; 22] = [
    "APIService",
    "CSIDriver",
    "CSINode",
    "CertificateSigningRequest",
    "ClusterPolicy",
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "DeviceClass",
    "FlowSchema",
    "IngressClass",
    "MutatingWebhookConfiguration",
    "Namespace",
    "Node",
    "PersistentVolume",
    "PriorityClass",
    "PriorityLevelConfiguration",
    "RuntimeClass",
    "StorageClass",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "ValidatingWebhookConfiguration",
];

/// The manifest in the namespace it will land in: the default one where it names none and its kind has one.
fn in_a_namespace(manifest: &Value, default: &str) -> Value {
    let mut manifest = manifest.clone();
    let kind = manifest.get("kind").and_then(Value::as_str).unwrap_or_default();
    let is_volcano_queue =
        kind == "Queue" && manifest["apiVersion"].as_str().is_some_and(|v| v.starts_with("scheduling.volcano.sh/"));
    if CLUSTER_SCOPED.contains(&kind) || is_volcano_queue {
        return manifest;
    }
    if let Some(metadata) = manifest.get_mut("metadata").and_then(Value::as_object_mut) {
        let namespace = metadata.entry("namespace").or_insert(Value::Null);
        if namespace.as_str().is_none_or(str::is_empty) {
            *namespace = json!(default);
        }
    }
    manifest
}

#[cfg(test)]
#[path = "decision_tests.rs"]
mod tests;
