//! Several policies, several manifests, one decision: what is refused, what is only reported, and what nobody judged.
//!
//! Every manifest is judged as the cluster would judge it: the object itself with the API's defaults and the rules of
//! autogen, and everything it makes (`expand`). So a Volcano Job with limits only passes a rule about requests, since
//! its Pods get them by default, and a Deployment with limits only fails it, since its template does not.

mod judge;

use crate::{
    body::BodyKind,
    evaluate::{Details, Outcome},
    exception::PolicyException,
    facts::Operation,
    injection::Warning,
    inventory::Inventory,
    kind_index::KindIndex,
    landing::{Landed, landed_some, namespaces_known},
    path::Path,
    policy::{FailureAction, Policy},
};
use jiff::Timestamp;
use judge::{Answer, Judge};
use muster_core::selector::Labels;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    ops::Range,
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

/// Something that stands against a manifest, or that nobody judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Objection<'a> {
    /// Which of the manifests, from 0.
    pub manifest: usize,
    /// The policy's name.
    pub policy: &'a str,
    /// The rule's name, with autogen's prefix.
    pub rule: &'a str,
    /// The object, as `Kind namespace/name`.
    pub resource: &'a str,
    /// Whether it refuses.
    pub refuses: bool,
    /// What.
    pub what: Objected,
}

/// What stands against a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Objected {
    /// A rule is broken, or cannot be applied.
    Broken {
        /// As [`Violation::path`].
        path: String,
        /// The rule's message, worded as Kyverno words it.
        message: String,
    },
    /// A rule matched and was not judged.
    NotEvaluated {
        /// Why.
        reason: String,
    },
}

/// Judges manifests by policies.
pub fn decide(policies: &[Bound<'_>], manifests: &[Value], surroundings: &Surroundings) -> Decision {
    let namespaces = namespaces_known(manifests.iter(), &surroundings.namespaces);
    decide_some(&Judge::new(policies, None, &namespaces, surroundings, Details::Told), 0..manifests.len(), manifests)
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
    let namespaces = namespaces_known(manifests.iter(), &surroundings.namespaces);
    let index = KindIndex::of(policies.iter().map(|bound| bound.policy));
    let judge = Judge::new(policies, Some(&index), &namespaces, surroundings, Details::Told);
    let next = AtomicUsize::new(0);
    let judge_some = || {
        let mut decisions = Vec::new();
        loop {
            let first = next.fetch_add(SHARE, Ordering::Relaxed);
            if first >= manifests.len() {
                return decisions;
            }
            let share = first..manifests.len().min(first + SHARE);
            decisions.push((first, decide_some(&judge, share.clone(), manifests)));
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

fn decide_some(judge: &Judge<'_>, some: Range<usize>, manifests: &[Value]) -> Decision {
    let Surroundings { default_namespace, inventory, .. } = judge.surroundings;
    let objects = landed_some(some, manifests, default_namespace, inventory.as_deref());
    let mut decision = Decision::default();
    let warnings = judge.objects(&objects, |answer| decision.add(answer));
    decision.warnings = warnings;
    decision
}

/// What stands against objects ([`crate::landed`]), each made into what the caller wants of it: for whoever does not ask what every
/// rule answers. Of the surroundings the default namespace counts no more. `index` is of these policies; without one each is
/// asked about every object. Much work is shared by so many threads, policy by policy; what is found is in the order of the
/// policies then, so far as one thread would have found it so.
pub fn objections<T: Send>(
    threads: usize,
    policies: &[Bound<'_>],
    index: Option<&KindIndex>,
    objects: &[Landed],
    surroundings: &Surroundings,
    made: impl Fn(Objection<'_>) -> T + Sync,
) -> (Vec<T>, Vec<Warning>) {
    /// Questions below which a thread costs more than it saves.
    const FEW: usize = 512;
    /// Shares of a thread: policies differ in what they cost.
    const SHARES: usize = 4;
    let namespaces = namespaces_known(objects.iter().map(|landed| &landed.object), &surroundings.namespaces);
    let judge = Judge::new(policies, index, &namespaces, surroundings, Details::Untold);
    let ask = |share: Range<usize>| {
        let mut found = Vec::new();
        let warnings = judge.objects_by(share, objects, |answer| found.extend(objection(answer).map(&made)));
        (found, warnings)
    };
    if threads < 2 || policies.len() * objects.len() < FEW {
        return ask(0..policies.len());
    }
    let next = AtomicUsize::new(0);
    let shares = threads * SHARES;
    let ask_some = || {
        let mut asked = Vec::new();
        loop {
            let share = next.fetch_add(1, Ordering::Relaxed);
            if share >= shares {
                return asked;
            }
            let position = |share: usize| policies.len() * share / shares;
            asked.push((share, ask(position(share)..position(share + 1))));
        }
    };
    let mut asked: Vec<_> = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(ask_some)).collect();
        let mut asked = ask_some();
        asked.extend(others.into_iter().flat_map(|thread| thread.join().expect("judging does not panic")));
        asked
    });
    asked.sort_by_key(|(share, _)| *share);
    let (mut found, mut warnings) = (Vec::new(), Vec::new());
    for (_, (of_share, warned)) in asked {
        found.extend(of_share);
        warnings.extend(warned);
    }
    (found, warnings)
}

fn objection(answer: Answer<'_>) -> Option<Objection<'_>> {
    let refuses = answer.refuses();
    let Answer { object, bound, rule, body: _, enforced: _, place, is_known, outcome } = answer;
    let what = match outcome {
        Outcome::Pass | Outcome::Skip { .. } => return None,
        Outcome::Fail { .. } if is_known => return None,
        Outcome::Fail { path, message, .. } => Objected::Broken { path: place.unwrap_or(path).to_string(), message },
        Outcome::Error { message } => Objected::Broken { path: String::new(), message },
        Outcome::NotEvaluated { reason } => Objected::NotEvaluated { reason },
    };
    Some(Objection { manifest: object.manifest, policy: bound.policy.name(), rule, resource: &object.resource, refuses, what })
}

impl Decision {
    fn add(&mut self, answer: Answer<'_>) {
        let refuses = answer.refuses();
        let Answer { object, bound, rule, body, enforced, place, is_known, outcome } = answer;
        let violation = |path: String, message: &str| Violation {
            manifest: object.manifest,
            policy: bound.policy.name().to_owned(),
            rule: rule.to_owned(),
            resource: object.resource.clone(),
            path,
            message: message.to_owned(),
        };
        let list = if refuses { &mut self.violations } else { &mut self.audited };
        match &outcome {
            Outcome::Pass | Outcome::Skip { .. } => {}
            Outcome::Fail { path, message, .. } => {
                if !is_known {
                    list.push(violation(place.as_ref().unwrap_or(path).to_string(), message));
                }
            }
            Outcome::Error { message } => list.push(violation(String::new(), message)),
            Outcome::NotEvaluated { reason } => {
                if refuses {
                    list.push(violation(String::new(), &unjudged(reason)));
                }
                self.not_evaluated.push(violation(String::new(), reason));
            }
        }
        self.results.push(ResourceResult {
            manifest: object.manifest,
            policy: bound.policy.name().to_owned(),
            rule: rule.to_owned(),
            body,
            resource: object.resource.clone(),
            enforced,
            path: place,
            outcome,
        });
    }
}

/// The message of a rule that refuses because nobody judged it.
pub fn unjudged(reason: &str) -> String {
    format!("the rule could not be evaluated: {reason}")
}

#[cfg(test)]
#[path = "decision_tests.rs"]
mod tests;
