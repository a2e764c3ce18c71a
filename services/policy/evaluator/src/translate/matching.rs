//! `match` and `exclude` as `matchConstraints` and `matchConditions`.

use super::{Refusal, refuse};
use crate::{
    inventory::plural,
    matching::{Filter, KindSelector, MatchBlock},
    rule::{About, Filters, Rule},
    wildcard,
};
use serde_json::{Map, Value, json};

/// Kinds of Kubernetes' own groups that rules name without a group: group, kinds.
const BUILTIN: [(&str, &[&str]); 7] = [
    (
        "",
        &[
            "ConfigMap",
            "Endpoints",
            "LimitRange",
            "Namespace",
            "Node",
            "PersistentVolume",
            "PersistentVolumeClaim",
            "Pod",
            "ReplicationController",
            "ResourceQuota",
            "Secret",
            "Service",
            "ServiceAccount",
        ],
    ),
    ("apps", &["DaemonSet", "Deployment", "ReplicaSet", "StatefulSet"]),
    ("batch", &["CronJob", "Job"]),
    ("networking.k8s.io", &["Ingress", "IngressClass", "NetworkPolicy"]),
    ("policy", &["PodDisruptionBudget"]),
    ("rbac.authorization.k8s.io", &["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"]),
    ("storage.k8s.io", &["StorageClass"]),
];

/// What a policy is about.
#[derive(Default)]
pub struct Scope {
    /// `matchConstraints`.
    pub constraints: Value,
    /// `matchConditions`.
    pub conditions: Vec<Value>,
    /// A kind that is none of Kubernetes' own.
    foreign: Option<String>,
}

impl Scope {
    /// As a policy says it itself.
    pub fn written(constraints: Value, conditions: Vec<Value>) -> Self {
        Self { constraints, conditions, foreign: None }
    }

    /// A pattern fits any type; an expression has to know the field's.
    pub fn check_builtin(&self) -> Result<(), Refusal> {
        match &self.foreign {
            None => Ok(()),
            Some(kind) => {
                refuse("match", format!("the types of {kind}'s fields are not known, and a pattern does not ask for them"))
            }
        }
    }
}

/// What the rule is about; `document` is the rule as it is written, or as autogen writes it.
pub fn scope(rule: &Rule, document: &Value) -> Result<Scope, Refusal> {
    let About::Filters(filters) = &rule.about else { return refuse("match", "is not that of a ClusterPolicy") };
    let Filters { matching, exclude } = &**filters;
    let mut scope = Scope::default();
    let (parsed, written) = chosen(matching, &document["match"], "match")?;
    let is_single = parsed.len() == 1;
    let mut resource_rules = Vec::new();
    let mut constraints = Map::new();
    for (filter, (field, written)) in parsed.iter().zip(&written) {
        let operations = match written["resources"]["operations"].as_array() {
            Some(operations) if !operations.is_empty() => json!(operations),
            _ => json!(["CREATE", "UPDATE"]),
        };
        if filter.kinds.is_empty() {
            return refuse(format!("{field}.resources.kinds"), "names no kinds");
        }
        for kind in &filter.kinds {
            resource_rules.push(resource_rule(kind, &operations, field, &mut scope)?);
        }
        for key in asked(written, field)? {
            if !is_single {
                return refuse(format!("{field}.resources.{key}"), "is one of several alternatives");
            }
            let value = &written["resources"][key];
            match key {
                "selector" | "namespaceSelector" => {
                    let mut labels = value["matchLabels"].as_object().into_iter().flatten();
                    let is_wild = |(key, value): (&String, &Value)| {
                        wildcard::is_pattern(key) || value.as_str().is_some_and(wildcard::is_pattern)
                    };
                    if labels.any(is_wild) {
                        return refuse(format!("{field}.resources.{key}"), "a selector of Kubernetes' knows no wildcards");
                    }
                    let name = if key == "selector" { "objectSelector" } else { "namespaceSelector" };
                    constraints.insert(name.to_owned(), value.clone());
                }
                key => scope.conditions.push(json!({"name": format!("match-{key}"), "expression": one_of(key, value)})),
            }
        }
    }
    constraints.insert("resourceRules".to_owned(), resource_rules.into());
    scope.constraints = constraints.into();
    if let Some(exclude) = exclude {
        let (_, written) = chosen(exclude, &document["exclude"], "exclude")?;
        for (index, (field, written)) in written.iter().enumerate() {
            let mut all = Vec::new();
            for key in asked(written, field)? {
                if matches!(key, "selector" | "namespaceSelector") {
                    return refuse(format!("{field}.resources.{key}"), "cannot be left out by constraints");
                }
                all.push(one_of(key, &written["resources"][key]));
            }
            if ["kinds", "operations"].iter().any(|key| !written["resources"][*key].is_null()) || all.is_empty() {
                return refuse(format!("{field}.resources"), "only names and namespaces can be left out");
            }
            scope.conditions.push(json!({"name": format!("exclude-{index}"), "expression": format!("!({})", all.join(" && "))}));
        }
    }
    Ok(scope)
}

/// A `match` as an expression about the request; `None` where it asks nothing.
pub fn holds(block: &Value, field: &str) -> Result<Option<String>, Refusal> {
    let mut alternatives = Vec::new();
    for (key, joint) in [("any", " || "), ("all", " && ")] {
        let mut filters = Vec::new();
        for (index, filter) in block[key].as_array().into_iter().flatten().enumerate() {
            let field = format!("{field}.{key}[{index}]");
            filters.push(format!("({})", filter_holds(filter, &field)?));
        }
        if !filters.is_empty() {
            alternatives.push(format!("({})", filters.join(joint)));
        }
    }
    if alternatives.is_empty() && !block["resources"].is_null() {
        alternatives.push(filter_holds(block, field)?);
    }
    Ok((!alternatives.is_empty()).then(|| alternatives.join(" && ")))
}

fn filter_holds(filter: &Value, field: &str) -> Result<String, Refusal> {
    let resources = &filter["resources"];
    let mut terms = Vec::new();
    for key in asked(filter, field)? {
        match key {
            "namespaceSelector" => return refuse(format!("{field}.resources.{key}"), "has no counterpart"),
            "selector" => terms.push(super::selector::labelled(&resources[key], &format!("{field}.resources.{key}"))?),
            key => terms.push(one_of(key, &resources[key])),
        }
    }
    let mut kinds = Vec::new();
    for text in resources["kinds"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let Some(kind) = KindSelector::parse(text) else { return refuse(format!("{field}.resources.kinds"), "is no kind") };
        let [group, version, kind, subresource] = kind.parts();
        let parts = [("kind.group", group), ("kind.version", version), ("kind.kind", kind), ("subResource", subresource)];
        let asked = parts.iter().filter(|(_, pattern)| *pattern != "*").map(|(part, pattern)| {
            let pattern = super::pattern::quoted(&format!("^({})$", super::pattern::regular(pattern)));
            format!("request.{part}.matches({pattern})")
        });
        let asked: Vec<String> = asked.collect();
        kinds.push(if asked.is_empty() { "true".to_owned() } else { format!("({})", asked.join(" && ")) });
    }
    if !kinds.is_empty() {
        terms.push(format!("({})", kinds.join(" || ")));
    }
    if let Some(operations) = resources["operations"].as_array().filter(|list| !list.is_empty()) {
        let names: Vec<String> = operations.iter().filter_map(Value::as_str).map(super::pattern::quoted).collect();
        terms.push(format!("request.operation in [{}]", names.join(", ")));
    }
    Ok(if terms.is_empty() { "true".to_owned() } else { terms.join(" && ") })
}

/// Filters as they are written, with their fields.
type Written<'a> = Vec<(String, &'a Value)>;

/// The filters of a block as they were read and as they are written, with their fields.
fn chosen<'a>(block: &'a MatchBlock, written: &'a Value, field: &str) -> Result<(Vec<&'a Filter>, Written<'a>), Refusal> {
    let listed = |key: &str| {
        let items = written[key].as_array().into_iter().flatten().enumerate();
        items.map(|(index, value)| (format!("{field}.{key}[{index}]"), value)).collect()
    };
    match (block.any.as_slice(), block.all.as_slice()) {
        ([], []) => Ok((vec![&block.direct], vec![(field.to_owned(), written)])),
        (any @ [_, ..], []) => Ok((any.iter().collect(), listed("any"))),
        ([], all @ [_]) => Ok((all.iter().collect(), listed("all"))),
        _ => refuse(format!("{field}.all"), "several filters at once have no counterpart"),
    }
}

/// What a filter asks beside kinds and operations.
fn asked(written: &Value, field: &str) -> Result<Vec<&'static str>, Refusal> {
    for key in ["subjects", "roles", "clusterRoles"] {
        if written[key].as_array().is_some_and(|list| !list.is_empty()) {
            return refuse(format!("{field}.{key}"), "who asks has no counterpart here");
        }
    }
    if !written["resources"]["annotations"].is_null() {
        return refuse(format!("{field}.resources.annotations"), "has no counterpart");
    }
    let keys = ["name", "names", "namespaces", "selector", "namespaceSelector"];
    Ok(keys.into_iter().filter(|key| !written["resources"][*key].is_null()).collect())
}

fn resource_rule(kind: &KindSelector, operations: &Value, field: &str, scope: &mut Scope) -> Result<Value, Refusal> {
    let [group, version, name, subresource] = kind.parts();
    let at = || format!("{field}.resources.kinds");
    if wildcard::is_pattern(name) || [group, version, subresource].iter().any(|part| *part != "*" && wildcard::is_pattern(part)) {
        return refuse(at(), format!("{:?} names kinds by a wildcard", kind.text));
    }
    let builtin = BUILTIN.iter().find(|(known, kinds)| (group == "*" || group == *known) && kinds.contains(&name));
    let (group, version) = match builtin {
        Some((group, _)) => (*group, if version == "*" && !group.contains('.') { "v1" } else { version }),
        None if group == "*" => return refuse(at(), format!("the group of {name} is not said")),
        None => {
            scope.foreign = Some(name.to_owned());
            (group, version)
        }
    };
    let resource = match subresource {
        "" => plural(name),
        below => format!("{}/{below}", plural(name)),
    };
    Ok(json!({"apiGroups": [group], "apiVersions": [version], "operations": operations, "resources": [resource]}))
}

/// Whether the object's name, or its namespace, is like one of these.
fn one_of(key: &str, value: &Value) -> String {
    let patterns: Vec<&str> = match value {
        Value::String(text) => vec![text],
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let subject = if key == "namespaces" {
        "(request.kind.kind == 'Namespace' ? object.metadata.name : request.namespace)"
    } else {
        "(has(object.metadata.name) ? object.metadata.name : object.metadata.generateName)"
    };
    let alternatives: Vec<String> = patterns.iter().map(|pattern| super::pattern::regular(pattern)).collect();
    format!("{subject}.matches({})", super::pattern::quoted(&format!("^({})$", alternatives.join("|"))))
}
