//! Autogen: a rule about Pods is a rule about what makes Pods, too.
//!
//! For every rule about Pods Kyverno adds `autogen-NAME` for the controllers (the pattern under `spec.template`) and
//! `autogen-cronjob-NAME` (under `spec.jobTemplate.spec.template`). A single rule that picks by name, selector or
//! annotation, or that names Pods among other kinds, switches it off for the whole policy.

use crate::{
    matching::{Filter, KindSelector, MatchBlock},
    policy::{BodyKind, Check, Rule},
};
use serde_json::json;

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

/// The rules with those that autogen adds behind them.
pub fn with_generated(mut rules: Vec<Rule>, annotation: Option<&str>) -> Vec<Rule> {
    if !is_supported(&rules) || annotation == Some("none") {
        return rules;
    }
    let every = || CONTROLLERS.iter().map(|(kind, _)| *kind).chain([CRON_JOB]).collect::<Vec<_>>();
    let wanted: Vec<&str> = match annotation {
        None => every(),
        Some(list) => list.split(',').flat_map(|kind| if kind == "all" { every() } else { vec![kind] }).collect(),
    };
    let controllers: Vec<&str> =
        CONTROLLERS.iter().filter(|(kind, _)| wanted.contains(kind)).map(|(_, selector)| *selector).collect();
    let mut generated = Vec::new();
    for rule in rules.iter().filter(|rule| !is_generated_name(&rule.name) && is_about_pods(rule)) {
        if !controllers.is_empty() {
            generated.extend(derive(rule, "autogen", &controllers, |filter| has_kind(filter, "Pod"), wrap_template));
        }
        if wanted.contains(&CRON_JOB) {
            generated.extend(derive(rule, "autogen-cronjob", &["batch/*/CronJob"], |_| true, wrap_job_template));
        }
    }
    if !generated.is_empty() {
        rules.retain(|rule| !is_generated_name(&rule.name));
    }
    rules.extend(generated);
    rules
}

fn is_generated_name(name: &str) -> bool {
    name.starts_with("autogen-")
}

/// Whether nothing in the policy switches autogen off, and a Pod or a controller is named at all.
fn is_supported(rules: &[Rule]) -> bool {
    let mut is_needed = false;
    for rule in rules {
        if rule.body == BodyKind::Generate || rule.patches_json {
            return false;
        }
        for filter in rule.matching.filters().chain(rule.exclude.iter().flat_map(MatchBlock::filters)) {
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
    let excluded: Vec<&Filter> = rule.exclude.iter().flat_map(MatchBlock::filters).collect();
    rule.matching.filters().any(|filter| has_kind(filter, "Pod"))
        && (excluded.iter().all(|filter| filter.kinds.is_empty()) || excluded.iter().any(|filter| has_kind(filter, "Pod")))
}

fn derive(
    rule: &Rule,
    prefix: &str,
    kinds: &[&str],
    is_replaced: impl Fn(&Filter) -> bool,
    wrap: impl Fn(&serde_json::Value) -> serde_json::Value,
) -> Option<Rule> {
    if rule.body == BodyKind::Manifests {
        return None;
    }
    let kinds: Vec<KindSelector> = kinds.iter().filter_map(|kind| KindSelector::parse(kind)).collect();
    let mut derived = rule.clone();
    derived.name = format!("{prefix}-{}", rule.name).chars().take(MAX_NAME).collect();
    replace_kinds(&mut derived.matching, &kinds, &is_replaced, true);
    if let Some(exclude) = &mut derived.exclude {
        replace_kinds(exclude, &kinds, &is_replaced, false);
    }
    if let Check::Patterns(patterns) = &mut derived.check {
        *patterns = patterns.iter().map(wrap).collect();
    }
    Some(derived)
}

fn replace_kinds(block: &mut MatchBlock, kinds: &[KindSelector], is_replaced: &impl Fn(&Filter) -> bool, always: bool) {
    if !block.any.is_empty() || !block.all.is_empty() {
        let filters = if block.any.is_empty() { &mut block.all } else { &mut block.any };
        filters.iter_mut().filter(|filter| is_replaced(filter)).for_each(|filter| filter.kinds = kinds.to_vec());
    } else if always || !block.direct.kinds.is_empty() {
        block.direct.kinds = kinds.to_vec();
    }
}

fn wrap_template(pattern: &serde_json::Value) -> serde_json::Value {
    json!({"spec": {"template": pattern}})
}

fn wrap_job_template(pattern: &serde_json::Value) -> serde_json::Value {
    json!({"spec": {"jobTemplate": wrap_template(pattern)}})
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
