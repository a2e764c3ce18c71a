//! Every policy about every object, answer by answer. What becomes of an answer is for whoever asks.

use super::{Bound, Surroundings};
use crate::{
    autogen::base_name,
    body::BodyKind,
    evaluate::{Details, Outcome, Request, RuleResult},
    injection::{Warning, covers_all_containers, injection_label},
    kind_index::{KindIndex, Twins, twins_of},
    landing::Landed,
    matching::namespace_matches,
    path::Path,
    policy::FailureAction,
};
use muster_core::selector::Labels;
use serde_json::Value;
use std::{borrow::Cow, collections::BTreeMap, ops::Range};

/// What is asked, of whatever objects.
pub struct Judge<'a> {
    policies: &'a [Bound<'a>],
    /// Of these policies; `None`: each is asked about every object.
    index: Option<&'a KindIndex>,
    namespaces: &'a BTreeMap<String, Labels>,
    pub surroundings: &'a Surroundings,
    details: Details,
    twins: Cow<'a, Twins>,
}

/// A rule's answer to one object.
pub struct Answer<'a> {
    pub object: &'a Landed,
    pub bound: &'a Bound<'a>,
    /// The rule's name, with autogen's prefix.
    pub rule: &'a str,
    pub body: BodyKind,
    /// Whether a violation refuses.
    pub enforced: bool,
    /// Where in the manifest it fails; `None` where the cluster puts it there, or nothing failed.
    pub place: Option<Path>,
    /// Whether the same rule failed in the same place before: a Deployment, its ReplicaSet and its Pod do so together.
    pub is_known: bool,
    pub outcome: Outcome,
}

impl Answer<'_> {
    /// Whether it stands against the manifest.
    pub fn refuses(&self) -> bool {
        match self.outcome {
            Outcome::Pass | Outcome::Skip { .. } => false,
            Outcome::Fail { .. } | Outcome::Error { .. } => self.enforced,
            Outcome::NotEvaluated { .. } => self.enforced && self.body.can_refuse() && !self.bound.allow_not_evaluated,
        }
    }
}

/// What failed about a manifest so far, by the policy's position: rule without autogen's prefix, place, and whether it refuses.
#[derive(Default)]
struct Seen<'a>(Vec<Vec<(&'a str, Path, bool)>>);

impl<'a> Seen<'a> {
    /// Whether it failed before; from now on it did.
    fn before(&mut self, position: usize, failed: (&'a str, &Path, bool)) -> bool {
        let (rule, place, enforced) = failed;
        if self.0.len() <= position {
            self.0.resize_with(position + 1, Vec::new);
        }
        let known = &mut self.0[position];
        let is_known = known.iter().any(|known| (known.0, &known.1, known.2) == failed);
        if !is_known {
            known.push((rule, place.clone(), enforced));
        }
        is_known
    }
}

impl<'a> Judge<'a> {
    pub fn new(
        policies: &'a [Bound<'a>],
        index: Option<&'a KindIndex>,
        namespaces: &'a BTreeMap<String, Labels>,
        surroundings: &'a Surroundings,
        details: Details,
    ) -> Self {
        let twins = match index {
            Some(index) => Cow::Borrowed(index.twins()),
            None => Cow::Owned(twins_of(policies.iter().map(|bound| bound.policy))),
        };
        Self { policies, index, namespaces, surroundings, details, twins }
    }

    /// Judges objects, those of one manifest beside each other. Says what the verdict can't cover.
    pub fn objects(&self, objects: &'a [Landed], said: impl FnMut(Answer<'a>)) -> Vec<Warning> {
        self.objects_by(0..self.policies.len(), objects, said)
    }

    /// The same by a share of the policies.
    pub fn objects_by(&self, share: Range<usize>, objects: &'a [Landed], mut said: impl FnMut(Answer<'a>)) -> Vec<Warning> {
        let mut warnings = Vec::new();
        for of_one_manifest in objects.chunk_by(|one, next| one.manifest == next.manifest) {
            let mut seen = Seen::default();
            for object in of_one_manifest {
                self.object(&share, object, &mut seen, &mut warnings, &mut said);
            }
        }
        warnings
    }

    fn object(
        &self,
        share: &Range<usize>,
        landed: &'a Landed,
        seen: &mut Seen<'a>,
        warnings: &mut Vec<Warning>,
        said: &mut impl FnMut(Answer<'a>),
    ) {
        let (object, namespace) = (&landed.object, landed.namespace());
        let labels = self.namespaces.get(namespace);
        let injected = (object["kind"] == "Pod").then(|| injection_label(object, labels)).flatten();
        let request = Request {
            operation: self.surroundings.operation,
            namespace_labels: labels,
            exceptions: &self.surroundings.exceptions,
            inventory: self.surroundings.inventory.as_deref(),
            now: self.surroundings.now,
            details: self.details,
            ..Request::create(object)
        };
        let facts = request.facts();
        self.each_policy_about(share, object, |position| {
            let bound = &self.policies[position];
            if !bound.namespaces.is_empty() && !namespace_matches(bound.namespaces, namespace) {
                return;
            }
            bound.policy.each_answer(&request, &facts, |mut result| {
                if let Some(reason) = &landed.unknown {
                    result.outcome = Outcome::NotEvaluated { reason: reason.clone() };
                }
                let is_judged = !matches!(result.outcome, Outcome::NotEvaluated { .. } | Outcome::Skip { .. });
                if let Some(label) = injected.as_ref().filter(|_| is_judged && covers_all_containers(bound.policy, result.rule)) {
                    warnings.push(Warning {
                        policy: bound.policy.name().to_owned(),
                        rule: result.rule.to_owned(),
                        resource: landed.resource.clone(),
                        label: label.clone(),
                    });
                }
                let first = self.twins.get(&position).copied().filter(|first| share.contains(first)).unwrap_or(position);
                said(answer(landed, bound, first - share.start, result, seen));
            });
        });
    }

    fn each_policy_about(&self, share: &Range<usize>, object: &Value, ask: impl FnMut(usize)) {
        match self.index {
            None => share.clone().for_each(ask),
            Some(index) => {
                let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
                index.about(kind).into_iter().filter(|position| share.contains(position)).for_each(ask);
            }
        }
    }
}

/// `position` is that of the first policy of its name, in the share that is asked.
fn answer<'a>(
    object: &'a Landed,
    bound: &'a Bound<'a>,
    position: usize,
    result: RuleResult<'a>,
    seen: &mut Seen<'a>,
) -> Answer<'a> {
    let RuleResult { rule, body, action, outcome } = result;
    let enforced = bound.action.unwrap_or(action) == FailureAction::Enforce;
    let (mut place, mut is_known) = (None, false);
    if let Outcome::Fail { path, .. } = &outcome {
        place = object.place_of(path);
        is_known = place.as_ref().is_some_and(|place| seen.before(position, (base_name(rule, body), place, enforced)));
    }
    Answer { object, bound, rule, body, enforced, place, is_known, outcome }
}
