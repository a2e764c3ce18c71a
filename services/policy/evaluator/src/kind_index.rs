//! Which policies may be about an object of some kind, so that the others cost it nothing.
//!
//! Never leaves out a policy that has an answer: what a rule asks that no word says (a wildcard, a resource of any name)
//! counts as every kind.

use crate::{inventory::plural, policy::Policy};
use std::collections::HashMap;

/// Policies by the kinds that their rules name. They are known by their position.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KindIndex {
    by_kind: HashMap<String, Vec<usize>>,
    /// By plural, as the kinds that follow Kubernetes name them.
    by_resource: HashMap<String, Vec<usize>>,
    of_every_kind: Vec<usize>,
    twins: Twins,
}

/// Policies that have the name of another before them, each with the first of that name. Mostly there are none.
pub(crate) type Twins = HashMap<usize, usize>;

/// Kinds that a rule is about, at most.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kinds<'r> {
    Every,
    Named(Vec<&'r str>),
    /// As `pods`.
    Resources(Vec<&'r str>),
}

impl Kinds<'_> {
    /// What either is about.
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Named(mut kinds), Self::Named(others)) => {
                kinds.extend(others);
                Self::Named(kinds)
            }
            _ => Self::Every,
        }
    }
}

impl KindIndex {
    /// Reads what the policies name.
    pub fn of<'p>(policies: impl Iterator<Item = &'p Policy> + Clone) -> Self {
        let mut index = Self { twins: twins_of(policies.clone()), ..Self::default() };
        for (position, policy) in policies.enumerate() {
            let rules: Vec<Kinds<'_>> = policy.all_rules().iter().map(|rule| rule.about.kinds()).collect();
            if rules.contains(&Kinds::Every) {
                index.of_every_kind.push(position);
                continue;
            }
            for rule in rules {
                match rule {
                    Kinds::Every => {}
                    Kinds::Named(kinds) => kinds.into_iter().for_each(|kind| note(&mut index.by_kind, kind, position)),
                    Kinds::Resources(names) => names.into_iter().for_each(|name| note(&mut index.by_resource, name, position)),
                }
            }
        }
        index
    }

    /// Policies of the same name.
    pub(crate) fn twins(&self) -> &Twins {
        &self.twins
    }

    /// Positions of the policies that may be about an object of this kind, in their order.
    pub(crate) fn about(&self, kind: &str) -> Vec<usize> {
        let named = self.by_kind.get(kind).into_iter().flatten();
        let resources = self.by_resource.get(&plural(kind)).into_iter().flatten();
        let mut positions: Vec<usize> = self.of_every_kind.iter().chain(named).chain(resources).copied().collect();
        positions.sort_unstable();
        positions.dedup();
        positions
    }
}

/// Policies of the same name among these.
pub(crate) fn twins_of<'p>(policies: impl Iterator<Item = &'p Policy>) -> Twins {
    let mut names = HashMap::new();
    let first = |(position, policy): (usize, &'p Policy)| (position, *names.entry(policy.name()).or_insert(position));
    policies.enumerate().map(first).filter(|(position, first)| position != first).collect()
}

fn note(index: &mut HashMap<String, Vec<usize>>, name: &str, position: usize) {
    let positions = index.entry(name.to_owned()).or_default();
    if positions.last() != Some(&position) {
        positions.push(position);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Request, speed};
    use serde_json::{Value, json};

    fn classic(name: &str, rule: Value) -> Policy {
        let mut rule = rule;
        rule["name"] = json!("r");
        rule["validate"] = json!({"pattern": {"metadata": {"name": "?*"}}});
        Policy::parse(&json!({
            "apiVersion": "kyverno.io/v1", "kind": "ClusterPolicy", "metadata": {"name": name}, "spec": {"rules": [rule]},
        }))
        .expect("a policy")
    }

    fn in_cel(group: &str, resources: Value) -> Policy {
        Policy::parse(&json!({
            "apiVersion": "policies.kyverno.io/v1", "kind": "ValidatingPolicy", "metadata": {"name": "cel"},
            "spec": {
                "matchConstraints": {"resourceRules": [{"apiGroups": [group], "apiVersions": ["v1"], "resources": resources}]},
                "validations": [{"expression": "true"}],
            },
        }))
        .expect("a policy")
    }

    fn kinds(kinds: Value) -> Value {
        json!({"resources": {"kinds": kinds}})
    }

    fn policies() -> Vec<Policy> {
        vec![
            classic("words", json!({"match": {"any": [kinds(json!(["Service"])), kinds(json!(["apps/v1/Deployment"]))]}})),
            classic("wildcard", json!({"match": {"any": [kinds(json!(["Deploy*"]))]}})),
            classic("every", json!({"match": {"any": [{"resources": {"namespaces": ["team-?*"]}}]}})),
            classic("all", json!({"match": {"all": [kinds(json!(["Job"])), {"resources": {"namespaces": ["*"]}}]}})),
            classic("direct", json!({"match": kinds(json!(["CronJob"]))})),
            classic("pods", json!({"match": {"any": [kinds(json!(["Pod"]))]}})),
            in_cel("apps", json!(["statefulsets"])),
            in_cel("*", json!(["*/*"])),
            in_cel("", json!(["pods"])),
        ]
    }

    #[test]
    fn policies_are_found_by_the_kinds_they_name_and_those_of_every_kind_always() {
        let policies = policies();
        let index = KindIndex::of(policies.iter());
        let every = [1, 2, 7];
        for (kind, others) in [
            ("Service", vec![0]),
            ("ConfigMap", vec![]),
            ("Deployment", vec![0, 5, 8]),
            ("Job", vec![3, 5, 8]),
            ("StatefulSet", vec![5, 6, 8]),
        ] {
            let mut expected: Vec<usize> = every.into_iter().chain(others).collect();
            expected.sort_unstable();
            assert_eq!(index.about(kind), expected, "{kind}");
        }
    }

    #[test]
    fn whatever_is_left_out_has_no_answer() {
        let policies = policies();
        let index = KindIndex::of(policies.iter());
        for object in speed::workloads(12) {
            let about = index.about(object["kind"].as_str().expect("a kind"));
            for (position, policy) in policies.iter().enumerate().filter(|(position, _)| !about.contains(position)) {
                assert_eq!(policy.evaluate(&Request::create(&object)), [], "{position} on {object}");
            }
        }
    }
}
