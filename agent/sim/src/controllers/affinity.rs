//! Which nodes a pod may run on, whatever room they have: selectors, affinity, taints.

use crate::json;
use serde_json::Value;

/// The sum of the weights of the preferences a node meets.
pub fn preference(spec: &Value, node: &Value) -> i64 {
    json::list(spec, "/affinity/nodeAffinity/preferredDuringSchedulingIgnoredDuringExecution")
        .iter()
        .filter(|term| matches_term(&term["preference"], node))
        .filter_map(|term| json::integer(term, "/weight"))
        .sum()
}

/// `nodeSelector` and required node affinity.
pub fn matches_affinity(spec: &Value, node: &Value) -> bool {
    let labels = node.pointer("/metadata/labels");
    let selector = spec.get("nodeSelector").is_none_or(|wanted| json::labels_contain(labels, wanted));
    let terms = spec.pointer("/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms");
    let affinity = terms.and_then(Value::as_array).is_none_or(|terms| terms.iter().any(|term| matches_term(term, node)));
    selector && affinity
}

fn matches_term(term: &Value, node: &Value) -> bool {
    let expressions = json::list(term, "/matchExpressions");
    let fields = json::list(term, "/matchFields");
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let by_label = expressions.iter().all(|requirement| {
        let key = json::text(requirement, "/key");
        let label = node.pointer("/metadata/labels").and_then(|labels| labels.get(key)).and_then(Value::as_str);
        meets(requirement, label)
    });
    by_label && fields.iter().all(|requirement| meets(requirement, Some(json::name(node))))
}

fn meets(requirement: &Value, label: Option<&str>) -> bool {
    let values = json::list(requirement, "/values");
    let listed = label.is_some_and(|label| values.iter().any(|value| value.as_str() == Some(label)));
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<i64>().ok());
    let bound = number(values.first().and_then(Value::as_str));
    match json::text(requirement, "/operator") {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => label.is_some(),
        "DoesNotExist" => label.is_none(),
        "Gt" => number(label).zip(bound).is_some_and(|(label, bound)| label > bound),
        "Lt" => number(label).zip(bound).is_some_and(|(label, bound)| label < bound),
        _ => false,
    }
}

/// Every taint that keeps pods away is tolerated.
pub fn tolerates(spec: &Value, node: &Value) -> bool {
    json::list(node, "/spec/taints").iter().filter(|taint| json::text(taint, "/effect") != "PreferNoSchedule").all(|taint| {
        json::list(spec, "/tolerations").iter().any(|toleration| {
            let (key, effect) = (json::text(toleration, "/key"), json::text(toleration, "/effect"));
            let any_value = json::text(toleration, "/operator") == "Exists";
            (effect.is_empty() || effect == json::text(taint, "/effect"))
                && ((key.is_empty() && any_value) || key == json::text(taint, "/key"))
                && (any_value || json::text(toleration, "/value") == json::text(taint, "/value"))
        })
    })
}

/// Whether a DaemonSet with this pod spec runs on a node; room does not matter, and cordoning neither.
pub fn daemon_runs_on(spec: &Value, node: &Value) -> bool {
    matches_affinity(spec, node) && tolerates(spec, node)
}
