//! `matchConstraints` of `ValidatingPolicy` and Kubernetes' admission policies: resources instead of kinds.

use crate::{
    facts::{Facts, Operation, Truth},
    field::{Field, PolicyError},
    inventory::plural,
    kind_index::Kinds,
    matching::selector,
};
use muster_core::selector::{LabelSelector, Labels};

/// One entry of `resourceRules` or `excludeResourceRules`.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct ResourceRule {
    groups: Vec<String>,
    versions: Vec<String>,
    resources: Vec<String>,
    names: Vec<String>,
    operations: Vec<Operation>,
    /// `Namespaced` or `Cluster`; anything else is both.
    scope: String,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Constraints {
    rules: Vec<ResourceRule>,
    excluded: Vec<ResourceRule>,
    namespace_selector: Option<LabelSelector>,
    object_selector: Option<LabelSelector>,
}

impl ResourceRule {
    fn parse(rule: &Field<'_>) -> Result<Self, PolicyError> {
        let mut operations = Vec::new();
        for operation in rule.get("operations").list()? {
            match operation.required_text()?.as_str() {
                "*" => operations.clear(),
                text => {
                    operations.push(Operation::parse(text).ok_or_else(|| operation.error(format!("{text:?} is no operation")))?)
                }
            }
        }
        Ok(Self {
            groups: rule.get("apiGroups").texts()?,
            versions: rule.get("apiVersions").texts()?,
            resources: rule.get("resources").texts()?,
            names: rule.get("resourceNames").texts()?,
            operations,
            scope: rule.get("scope").text()?.unwrap_or_default(),
        })
    }

    fn matches(&self, facts: &Facts<'_>) -> bool {
        let (group, version) = facts.group_and_version();
        let named = |list: &[String], text: &str| list.iter().any(|entry| entry == "*" || entry == text);
        let has_namespace = !facts.namespace().is_empty() && facts.kind() != "Namespace";
        named(&self.groups, group)
            && named(&self.versions, version)
            && {
                let resource = plural(facts.kind());
                self.resources.iter().any(|entry| resource_matches(entry, &resource, facts.subresource))
            }
            && (self.names.is_empty() || self.names.iter().any(|name| name == facts.name()))
            && (self.operations.is_empty() || self.operations.contains(&facts.operation))
            && match self.scope.as_str() {
                "Namespaced" => has_namespace,
                "Cluster" => !has_namespace,
                _ => true,
            }
    }

    /// Whether it is about Pods and nothing else, so that autogen applies.
    fn is_pods_only(&self) -> bool {
        self.groups == [""] && self.versions == ["v1"] && self.resources == ["pods"] && self.names.is_empty()
    }
}

/// `pods`, `*`, `pods/exec`, `pods/*`, `*/scale` or `*/*`.
fn resource_matches(entry: &str, resource: &str, subresource: &str) -> bool {
    let (wanted, below) = entry.split_once('/').unwrap_or((entry, ""));
    (wanted == "*" || wanted == resource) && (below == "*" || below == subresource)
}

impl Constraints {
    pub fn parse(constraints: &Field<'_>) -> Result<Self, PolicyError> {
        let rules = |name: &str| constraints.get(name).list()?.iter().map(ResourceRule::parse).collect::<Result<Vec<_>, _>>();
        let is_set = |selector: &LabelSelector| !selector.is_empty();
        Ok(Self {
            rules: rules("resourceRules")?,
            excluded: rules("excludeResourceRules")?,
            namespace_selector: selector(&constraints.get("namespaceSelector"))?.filter(is_set),
            object_selector: selector(&constraints.get("objectSelector"))?.filter(is_set),
        })
    }

    /// Reads a binding's `matchResources`: where it names no resources it is about all of the policy's.
    pub fn parse_for_binding(resources: &Field<'_>) -> Result<Self, PolicyError> {
        let mut constraints = Self::parse(resources)?;
        if constraints.rules.is_empty() {
            let every = || vec!["*".to_owned()];
            let resources = vec!["*/*".to_owned()];
            constraints.rules.push(ResourceRule { groups: every(), versions: every(), resources, ..ResourceRule::default() });
        }
        Ok(constraints)
    }

    /// Resources outside of which it is about nothing.
    pub fn kinds(&self) -> Kinds<'_> {
        let resources = self.rules.iter().flat_map(|rule| &rule.resources);
        let names: Vec<&str> = resources.map(|entry| entry.split_once('/').map_or(entry.as_str(), |(name, _)| name)).collect();
        if names.contains(&"*") { Kinds::Every } else { Kinds::Resources(names) }
    }

    pub fn match_object(&self, facts: &Facts<'_>) -> Truth {
        let known = self.rules.iter().any(|rule| rule.matches(facts))
            && !self.excluded.iter().any(|rule| rule.matches(facts))
            && self.object_selector.as_ref().is_none_or(|selector| selector.matches(&facts.labels()));
        let namespace = match (&self.namespace_selector, facts.namespace_labels) {
            (None, _) => Truth::Yes,
            (Some(wanted), _) if facts.kind() == "Namespace" => Truth::of(wanted.matches(&facts.labels())),
            (Some(wanted), Some(labels)) => Truth::of(wanted.matches(labels)),
            // What has no namespace is never left out by it.
            (Some(_), None) if facts.namespace().is_empty() => Truth::Yes,
            (Some(_), None) => Truth::Unknown,
        };
        Truth::of(known).and(namespace)
    }

    /// The constraint on controllers in place of Pods; `None` where autogen does not apply.
    pub fn for_controllers(&self, controllers: &[(&str, &str)]) -> Option<Self> {
        let [rule] = self.rules.as_slice() else { return None };
        let is_plain = self.excluded.is_empty() && self.namespace_selector.is_none() && self.object_selector.is_none();
        if !is_plain || !rule.is_pods_only() {
            return None;
        }
        let rules = controllers.iter().map(|(group, resource)| ResourceRule {
            groups: vec![(*group).to_owned()],
            resources: vec![(*resource).to_owned()],
            ..rule.clone()
        });
        Some(Self { rules: rules.collect(), ..Self::default() })
    }
}

impl Facts<'_> {
    fn labels(&self) -> Labels {
        self.texts("/metadata/labels")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn facts<'a>(object: &'a Value, subresource: &'a str) -> Facts<'a> {
        Facts { subresource, ..Facts::of(object) }
    }

    fn constraints(rule: Value) -> Constraints {
        let document = json!({"resourceRules": [rule]});
        Constraints::parse(&Field::root(&document)).expect("constraints")
    }

    #[test]
    fn resources_are_those_of_the_kind_and_their_subresources() {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "b"}});
        for (resources, subresource, expected) in [
            (json!(["pods"]), "", Truth::Yes),
            (json!(["pods"]), "exec", Truth::No),
            (json!(["pods/exec"]), "exec", Truth::Yes),
            (json!(["pods/*"]), "exec", Truth::Yes),
            (json!(["*"]), "", Truth::Yes),
            (json!(["*/*"]), "exec", Truth::Yes),
            (json!(["deployments"]), "", Truth::No),
        ] {
            let rule = json!({"apiGroups": [""], "apiVersions": ["v1"], "resources": resources, "operations": ["*"]});
            assert_eq!(constraints(rule).match_object(&facts(&pod, subresource)), expected, "{resources} {subresource}");
        }
    }

    #[test]
    fn operations_groups_names_and_scopes_narrow_it() {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "b"}});
        let base = json!({"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]});
        for (key, value, expected) in [
            ("operations", json!(["UPDATE"]), Truth::No),
            ("operations", json!(["CREATE", "UPDATE"]), Truth::Yes),
            ("apiGroups", json!(["apps"]), Truth::No),
            ("resourceNames", json!(["z"]), Truth::No),
            ("scope", json!("Cluster"), Truth::No),
            ("scope", json!("Namespaced"), Truth::Yes),
        ] {
            let mut rule = base.clone();
            rule[key] = value;
            assert_eq!(constraints(rule).match_object(&facts(&pod, "")), expected, "{key}");
        }
    }
}
