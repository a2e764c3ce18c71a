//! What real controllers make of workloads, beside what the policy evaluator says they will make: the verdicts on the one have
//! to be the verdicts on the other.
//!
//! The one thing to know: an object is taken as admission saw it, without its status and its node. Two objects of a kind that a
//! workload makes have to be judged alike, since one stands for all of them in the evaluator.

mod controllers;
mod pod;
mod shape;
mod workloads;

use std::collections::{BTreeMap, BTreeSet};

use muster_core::selector::Labels;
use muster_policy_evaluator::{Bound, Decision, Policy, Request, Surroundings, decide, landed};
use serde_json::Value;

pub use controllers::{Family, Schedules, make};
pub use workloads::{built_in, other};

/// Policy, rule, and the word for the outcome.
type Answer = (String, String, &'static str);
/// By kind of object.
type Answers = BTreeMap<String, BTreeSet<Answer>>;

/// What came of a comparison.
#[derive(Debug, Default)]
pub struct Compared {
    /// Objects in the cluster.
    pub objects: usize,
    /// Answers of single rules about them.
    pub answers: usize,
    /// Of these, *fail*.
    pub failed: usize,
    /// Of these, what nobody judged here, there as little.
    pub not_evaluated: usize,
    /// Every difference of verdicts, for people.
    pub verdicts: Vec<String>,
    /// Places where an object is another than the evaluator says, with how many are and an example.
    pub shapes: BTreeMap<String, (usize, String)>,
    /// Everything that the evaluator said beforehand about an object in the cluster: policy, rule, `Kind name` and outcome.
    pub foretold: BTreeSet<(String, String, String, String)>,
}

/// Compares what the evaluator says of a workload's manifest with what it says of everything that came of it.
pub fn compare(policies: &[Policy], namespace: (&str, &Labels), families: &[Family], compared: &mut Compared) {
    let bound: Vec<Bound<'_>> = policies.iter().map(bound).collect();
    let (name, labels) = namespace;
    let surroundings = Surroundings { namespaces: [(name.to_owned(), labels.clone())].into(), ..Surroundings::default() };
    for family in families {
        let decision = decide(&bound, std::slice::from_ref(&family.manifest), &surroundings);
        let foretold = by_kind(&decision);
        let objects = landed(std::slice::from_ref(&family.manifest), name, None);
        for live in &family.live {
            let kind = text(&live["kind"]);
            let called = text(&live["metadata"]["name"]);
            let found = answers_about(policies, live, labels);
            let expected = foretold.get(kind).cloned().unwrap_or_default();
            let whose = |answer| if found.contains(answer) { "there" } else { "foretold" };
            compared.verdicts.extend(
                expected
                    .symmetric_difference(&found)
                    .map(|answer| format!("{kind} {called}: {answer:?} ({} only)", whose(answer))),
            );
            compared.objects += 1;
            for (policy, rule, outcome) in expected {
                compared.answers += 1;
                compared.failed += usize::from(outcome == "fail");
                compared.not_evaluated += usize::from(outcome == "not evaluated");
                compared.foretold.insert((policy, rule, format!("{kind} {called}"), outcome.to_owned()));
            }
            let Some(made) = objects.iter().find(|made| made.object()["kind"] == kind) else { continue };
            for (place, example) in shape::differences(made.object(), live) {
                let entry = compared.shapes.entry(format!("{kind} {place}")).or_insert((0, format!("{called}: {example}")));
                entry.0 += 1;
            }
        }
    }
}

fn bound(policy: &Policy) -> Bound<'_> {
    Bound { policy, action: None, allow_not_evaluated: true, namespaces: &[] }
}

fn by_kind(decision: &Decision) -> Answers {
    let mut answers = Answers::new();
    for result in &decision.results {
        let kind = result.resource.split(' ').next().unwrap_or_default().to_owned();
        answers.entry(kind).or_default().insert((result.policy.clone(), result.rule.clone(), result.outcome.word()));
    }
    answers
}

fn answers_about(policies: &[Policy], object: &Value, labels: &Labels) -> BTreeSet<Answer> {
    let request = Request { namespace_labels: Some(labels), ..Request::create(object) };
    let about = |policy: &Policy| -> Vec<Answer> {
        let results = policy.evaluate(&request);
        results.iter().map(|result| (policy.name().to_owned(), result.rule.to_owned(), result.outcome.word())).collect()
    };
    policies.iter().flat_map(about).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
