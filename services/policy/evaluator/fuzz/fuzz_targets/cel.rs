//! A text as CEL: as an expression, a message and a variable.
#![no_main]

use libfuzzer_sys::fuzz_target;
use muster_policy_evaluator::{Extent, Inventory, Policy, Request, speed};
use serde_json::{Value, json};
use std::sync::LazyLock;

static OBJECTS: LazyLock<Vec<Value>> = LazyLock::new(|| speed::pods(2));
static INVENTORY: LazyLock<Inventory> = LazyLock::new(|| Inventory::new(OBJECTS.clone(), Extent::Whole));

fuzz_target!(|text: &str| {
    let mut variables = vec![json!({"name": "v", "expression": text})];
    // Those that expressions of suites ask for.
    variables.extend(
        ["ctnrs", "allContainers", "containers"]
            .map(|name| json!({"name": name, "expression": "object.spec.containers + object.spec.?initContainers.orValue([])"})),
    );
    let Ok(policy) = Policy::parse(&json!({
        "apiVersion": "policies.kyverno.io/v1", "kind": "ValidatingPolicy", "metadata": {"name": "p"},
        "spec": {
            "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]},
            "variables": variables,
            "validations": [
                {"expression": "!(variables.v == variables.v) || variables.v != true", "messageExpression": text},
                {"expression": text, "messageExpression": "string(variables.v)"},
            ],
        },
    })) else {
        return;
    };
    let now = Some("2024-05-06T07:08:09Z".parse().expect("an instant"));
    for object in OBJECTS.iter() {
        policy.evaluate(&Request { inventory: Some(&INVENTORY), now, ..Request::create(object) });
    }
});
