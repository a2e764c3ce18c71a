//! A text as an expression: the first byte says whether it is JMESPath, CEL, a pattern or a list of a `foreach`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use muster_policy_evaluator::{Policy, Request, speed};
use serde_json::json;

fuzz_target!(|input: (u8, &str)| {
    let (language, text) = input;
    let validate = match language % 4 {
        0 => json!({"deny": {"conditions": {"any": [{"key": format!("{{{{ {text} }}}}"), "operator": "AnyIn", "value": text}]}}}),
        1 => json!({"cel": {"expressions": [{"expression": text, "messageExpression": text}]}}),
        2 => json!({"pattern": {"metadata": {"labels": {text: text}}, "spec": {text: [text]}}}),
        _ => json!({"foreach": [{"list": text, "pattern": {"name": text}}]}),
    };
    let document = json!({
        "apiVersion": "kyverno.io/v1", "kind": "ClusterPolicy", "metadata": {"name": "p"},
        "spec": {"rules": [{"name": "r", "match": {"any": [{"resources": {"kinds": ["Pod"]}}]}, "validate": validate}]},
    });
    let Ok(policy) = Policy::parse(&document) else { return };
    for object in speed::pods(2) {
        policy.evaluate(&Request::create(&object));
    }
});
