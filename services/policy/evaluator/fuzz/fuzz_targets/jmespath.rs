//! A text as JMESPath: in a condition, as the list of a `foreach`, in a pattern and in messages.
#![no_main]

use libfuzzer_sys::fuzz_target;
use muster_policy_evaluator::{Extent, Inventory, Policy, Request, speed};
use serde_json::{Value, json};
use std::sync::LazyLock;

static OBJECTS: LazyLock<Vec<Value>> = LazyLock::new(|| speed::pods(2));
static INVENTORY: LazyLock<Inventory> = LazyLock::new(|| Inventory::new(OBJECTS.clone(), Extent::Whole));

fuzz_target!(|text: &str| {
    let variable = format!("{{{{ {text} }}}}");
    let rule = |name: &str, validate: Value| json!({"name": name, "match": {"any": [{"resources": {"kinds": ["Pod"]}}]}, "validate": validate});
    let condition = json!({"key": variable, "operator": "AnyIn", "value": ["a*", variable]});
    let Ok(policy) = Policy::parse(&json!({
        "apiVersion": "kyverno.io/v1", "kind": "ClusterPolicy",
        "metadata": {"name": "p", "annotations": {"pod-policies.kyverno.io/autogen-controllers": "none"}},
        "spec": {"rules": [
            rule("deny", json!({"message": variable, "deny": {"conditions": {"any": [condition]}}})),
            rule("foreach", json!({"message": variable, "foreach": [{"list": text, "pattern": {"name": "?*"}}]})),
            rule("pattern", json!({"message": variable, "pattern": {"metadata": {"name": variable}}})),
        ]},
    })) else {
        return;
    };
    let now = Some("2024-05-06T07:08:09Z".parse().expect("an instant"));
    for object in OBJECTS.iter() {
        policy.evaluate(&Request { inventory: Some(&INVENTORY), now, ..Request::create(object) });
    }
});
