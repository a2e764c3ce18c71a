//! Autogen: a rule about Pods is a rule about what makes Pods, too.
//!
//! For every rule about Pods Kyverno adds `autogen-NAME` for the controllers (the pattern under `spec.template`) and
//! `autogen-cronjob-NAME` (under `spec.jobTemplate.spec.template`). A single rule that picks by name, selector or
//! annotation, or that names Pods among other kinds, switches it off for the whole policy.

use crate::{
    body::BodyKind,
    field::{Field, PolicyError},
    matching::{Filter, KindSelector, MatchBlock},
    rule::{About, Filters, Rule},
};
use serde_json::{Value, json};

/// The annotation that names the controllers wanted, or `none`.
pub const ANNOTATION: &str = "pod-policies.kyverno.io/autogen-controllers";

const MAX_NAME: usize = 63;
const CRON_JOB: &str = "CronJob";
/// Controllers with a Pod template at `spec.template`, and the kind selector for them. Any version of the group: what
/// comes in by an old one reaches the webhook as the current one (`matchPolicy: Equivalent`).
const CONTROLLERS: [(&str, &str); 6] = [
    ("DaemonSet", "apps/*/DaemonSet"),
    ("Deployment", "apps/*/Deployment"),
    ("Job", "batch/*/Job"),
    ("ReplicaSet", "apps/*/ReplicaSet"),
    ("ReplicationController", "v1/ReplicationController"),
    ("StatefulSet", "apps/*/StatefulSet"),
];

/// The rules with those that autogen adds behind them. `documents` are what the rules were read from.
pub fn with_generated(mut rules: Vec<Rule>, documents: &[Field<'_>], annotation: Option<&str>) -> Result<Vec<Rule>, PolicyError> {
    if !is_supported(&rules) || annotation == Some("none") {
        return Ok(rules);
    }
    let every = || CONTROLLERS.iter().map(|(kind, _)| *kind).chain([CRON_JOB]).collect::<Vec<_>>();
    let wanted: Vec<&str> = match annotation {
        None => every(),
        Some(list) => list.split(',').flat_map(|kind| if kind == "all" { every() } else { vec![kind] }).collect(),
    };
    let controllers: Vec<&str> =
        CONTROLLERS.iter().filter(|(kind, _)| wanted.contains(kind)).map(|(_, selector)| *selector).collect();
    let mut generated = Vec::new();
    for (rule, document) in rules.iter().zip(documents) {
        if is_generated_name(&rule.name) || !is_about_pods(rule) || rule.kind == BodyKind::Manifests {
            continue;
        }
        if !controllers.is_empty() {
            generated.push(derive(document, Template::Controller, &controllers)?);
        }
        if wanted.contains(&CRON_JOB) {
            generated.push(derive(document, Template::CronJob, &["batch/*/CronJob"])?);
        }
    }
    if !generated.is_empty() {
        rules.retain(|rule| !is_generated_name(&rule.name));
    }
    rules.extend(generated);
    Ok(rules)
}

/// A rule's name without what autogen puts before it: a Deployment, its ReplicaSet and its Pod are asked by one rule.
pub fn base_name(rule: &str, body: BodyKind) -> &str {
    let prefixes = match body {
        BodyKind::ValidatingPolicy | BodyKind::MutatingPolicy => ["autogen-cronjobs-", "autogen-defaults-"],
        _ => ["autogen-cronjob-", "autogen-"],
    };
    prefixes.iter().find_map(|prefix| rule.strip_prefix(prefix)).unwrap_or(rule)
}

fn is_generated_name(name: &str) -> bool {
    name.starts_with("autogen-")
}

/// Whether nothing in the policy switches autogen off, and a Pod or a controller is named at all.
fn is_supported(rules: &[Rule]) -> bool {
    let mut is_needed = false;
    for rule in rules {
        if rule.kind == BodyKind::Generate || rule.patches_json {
            return false;
        }
        let About::Filters(filters) = &rule.about else { return false };
        let Filters { matching, exclude } = &**filters;
        for filter in matching.filters().chain(exclude.iter().flat_map(MatchBlock::filters)) {
            let picks = filter.name.is_some()
                || !filter.names.is_empty()
                || filter.selector.is_some()
                || filter.annotations.is_some()
                || (filter.kinds.len() > 1 && has_kind(filter, "Pod"));
            if picks {
                return false;
            }
            is_needed |= filter.kinds.iter().any(|kind| {
                kind.text == "Pod" || kind.text == CRON_JOB || CONTROLLERS.iter().any(|(name, _)| kind.text == *name)
            });
        }
    }
    is_needed
}

fn has_kind(filter: &Filter, wanted: &str) -> bool {
    filter.kinds.iter().any(|kind| kind.kind() == wanted)
}

fn is_about_pods(rule: &Rule) -> bool {
    let About::Filters(filters) = &rule.about else { return false };
    let Filters { matching, exclude } = &**filters;
    let excluded: Vec<&Filter> = exclude.iter().flat_map(MatchBlock::filters).collect();
    matching.filters().any(|filter| has_kind(filter, "Pod"))
        && (excluded.iter().all(|filter| filter.kinds.is_empty()) || excluded.iter().any(|filter| has_kind(filter, "Pod")))
}

/// Where a kind keeps the Pod it makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Template {
    /// `spec.template`
    Controller,
    /// `spec.jobTemplate.spec.template`
    CronJob,
}

impl Template {
    fn prefix(self) -> &'static str {
        match self {
            Self::Controller => "autogen",
            Self::CronJob => "autogen-cronjob",
        }
    }

    /// The path from the object to the template.
    pub fn path(self) -> &'static str {
        match self {
            Self::Controller => "spec.template",
            Self::CronJob => "spec.jobTemplate.spec.template",
        }
    }

    fn wrap(self, pattern: Value) -> Value {
        let template = json!({"spec": {"template": pattern}});
        match self {
            Self::Controller => template,
            Self::CronJob => json!({"spec": {"jobTemplate": template}}),
        }
    }
}

/// A rule's document as it is for what makes Pods: patterns are wrapped, and texts that name the Pod's `spec` and
/// `metadata` name the template's. The kinds stay as they are.
pub fn rewritten(document: &Field<'_>, template: Template) -> Value {
    let mut value = document.value().cloned().unwrap_or_default();
    let is_cel = document.get("validate").get("cel").value().is_some();
    let replaced: Vec<(String, String)> = ["spec", "metadata"]
        .into_iter()
        .flat_map(|field| {
            let roots = if is_cel { ["object", "oldObject"] } else { ["request.object", "request.oldObject"] };
            roots.map(|root| (format!("{root}.{field}"), format!("{root}.{}.{field}", template.path())))
        })
        .collect();
    replace_texts(&mut value, &replaced);
    if let Some(Value::Object(validate)) = value.get_mut("validate") {
        if let Some(pattern) = validate.get_mut("pattern") {
            *pattern = template.wrap(pattern.take());
        }
        if let Some(Value::Array(patterns)) = validate.get_mut("anyPattern") {
            patterns.iter_mut().for_each(|pattern| *pattern = template.wrap(pattern.take()));
        }
    }
    if let Some(Value::Object(mutate)) = value.get_mut("mutate") {
        if let Some(patch) = mutate.get_mut("patchStrategicMerge") {
            *patch = template.wrap(patch.take());
        }
        for each in mutate.get_mut("foreach").and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(patch) = each.get_mut("patchStrategicMerge") {
                *patch = template.wrap(patch.take());
            }
        }
    }
    value
}

/// The rule as it is for what makes Pods, read anew from its document.
fn derive(document: &Field<'_>, template: Template, kinds: &[&str]) -> Result<Rule, PolicyError> {
    let mut rule = Rule::parse(&document.with_value(&rewritten(document, template)))?;
    rule.name = format!("{}-{}", template.prefix(), rule.name).chars().take(MAX_NAME).collect();
    rule.template = Some(template);
    let kinds: Vec<KindSelector> = kinds.iter().filter_map(|kind| KindSelector::parse(kind)).collect();
    let is_replaced = |filter: &Filter| template == Template::CronJob || has_kind(filter, "Pod");
    if let About::Filters(filters) = &mut rule.about {
        let Filters { matching, exclude } = &mut **filters;
        replace_kinds(matching, &kinds, &is_replaced, WithoutKinds::Given);
        if let Some(exclude) = exclude {
            replace_kinds(exclude, &kinds, &is_replaced, WithoutKinds::Left);
        }
    }
    Ok(rule)
}

/// Replaces in every text of a document; keys stay as they are.
pub fn replace_texts(value: &mut Value, replaced: &[(String, String)]) {
    match value {
        Value::String(text) => {
            for (from, to) in replaced {
                if text.contains(from.as_str()) {
                    *text = text.replace(from.as_str(), to);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| replace_texts(item, replaced)),
        Value::Object(fields) => fields.values_mut().for_each(|field| replace_texts(field, replaced)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// What becomes of a block of the old form that names no kinds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WithoutKinds {
    Given,
    Left,
}

fn replace_kinds(block: &mut MatchBlock, kinds: &[KindSelector], is_replaced: &impl Fn(&Filter) -> bool, without: WithoutKinds) {
    if !block.any.is_empty() || !block.all.is_empty() {
        let filters = if block.any.is_empty() { &mut block.all } else { &mut block.any };
        filters.iter_mut().filter(|filter| is_replaced(filter)).for_each(|filter| filter.kinds = kinds.to_vec());
    } else if without == WithoutKinds::Given || !block.direct.kinds.is_empty() {
        block.direct.kinds = kinds.to_vec();
    }
}

#[cfg(test)]
mod tests {
    use crate::Policy;
    use serde_json::{Value, json};

    fn names(rule: &Value, annotation: Option<&str>) -> Vec<String> {
        let mut document = json!({
            "apiVersion": "kyverno.io/v1", "kind": "ClusterPolicy", "metadata": {"name": "p"},
            "spec": {"rules": [rule]},
        });
        if let Some(annotation) = annotation {
            document["metadata"]["annotations"] = json!({super::ANNOTATION: annotation});
        }
        Policy::parse(&document).expect("a policy").rules().map(|(name, _, _)| name.to_owned()).collect()
    }

    fn rule(matching: Value) -> Value {
        json!({"name": "r", "match": matching, "validate": {"pattern": {"spec": {"a": "?*"}}}})
    }

    const ALL: [&str; 3] = ["r", "autogen-r", "autogen-cronjob-r"];

    #[test]
    fn a_rule_about_pods_is_one_about_their_controllers() {
        for matching in [
            json!({"any": [{"resources": {"kinds": ["Pod"]}}]}),
            json!({"all": [{"resources": {"kinds": ["Pod"], "namespaces": ["ml"]}}]}),
            json!({"resources": {"kinds": ["Pod"]}}),
        ] {
            assert_eq!(names(&rule(matching.clone()), None), ALL, "{matching}");
        }
    }

    #[test]
    fn picking_by_name_selector_annotation_or_other_kinds_switches_it_off() {
        for resources in [
            json!({"kinds": ["Pod", "Service"]}),
            json!({"kinds": ["Pod"], "name": "a"}),
            json!({"kinds": ["Pod"], "names": ["a"]}),
            json!({"kinds": ["Pod"], "selector": {"matchLabels": {"a": "b"}}}),
            json!({"kinds": ["Pod"], "annotations": {"a": "b"}}),
            json!({"kinds": ["Service"]}),
            json!({"kinds": ["v1/Pod"]}),
        ] {
            assert_eq!(names(&rule(json!({"any": [{"resources": resources}]})), None), ["r"], "{resources}");
        }
        let mut excluded = rule(json!({"any": [{"resources": {"kinds": ["Pod"]}}]}));
        excluded["exclude"] = json!({"any": [{"resources": {"names": ["a"]}}]});
        assert_eq!(names(&excluded, None), ["r"]);
    }

    #[test]
    fn the_annotation_names_the_controllers() {
        let pods = rule(json!({"any": [{"resources": {"kinds": ["Pod"]}}]}));
        for (annotation, expected) in [
            ("none", &["r"][..]),
            ("Deployment,Job", &["r", "autogen-r"]),
            ("CronJob", &["r", "autogen-cronjob-r"]),
            ("Deployment,CronJob", &ALL),
            ("all", &ALL),
            ("", &["r"]),
        ] {
            assert_eq!(names(&pods, Some(annotation)), expected, "{annotation:?}");
        }
    }

    #[test]
    fn a_long_name_is_cut_to_what_kyverno_allows() {
        let mut long = rule(json!({"any": [{"resources": {"kinds": ["Pod"]}}]}));
        long["name"] = json!("n".repeat(60));
        let names = names(&long, None);
        assert_eq!(names[1].len(), 63);
        assert!(names[2].starts_with("autogen-cronjob-n"));
    }
}
