//! Where two objects differ in what can be known beforehand.

use serde_json::Value;

/// What nobody knows before the object is there: times, numbers, and names that a cluster draws.
const UNKNOWABLE: [&str; 11] = [
    "metadata.creationTimestamp",
    "metadata.generation",
    "metadata.managedFields",
    "metadata.name",
    "metadata.generateName",
    "metadata.ownerReferences[].uid",
    "metadata.ownerReferences[].name",
    "metadata.resourceVersion",
    "metadata.selfLink",
    "metadata.uid",
    "status",
];
/// Labels that hold a hash or a UID wherever labels stand; that they are there can be known.
const DRAWN: [&str; 4] =
    ["pod-template-hash", "controller-revision-hash", "controller-uid", "batch.kubernetes.io/controller-uid"];

/// Places (`spec.containers[].image`) with what is here and what is there.
pub fn differences(foretold: &Value, live: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    between(foretold, live, String::new(), &mut found);
    found
}

fn between(foretold: &Value, live: &Value, place: String, found: &mut Vec<(String, String)>) {
    if UNKNOWABLE.contains(&place.as_str()) {
        return;
    }
    match (foretold, live) {
        (Value::Object(here), Value::Object(there)) => {
            let keys = here.keys().chain(there.keys().filter(|key| !here.contains_key(*key)));
            for key in keys {
                let place = if place.is_empty() { key.clone() } else { format!("{place}.{key}") };
                match (here.get(key), there.get(key)) {
                    (Some(_), Some(_)) if DRAWN.contains(&key.as_str()) => {}
                    (here, there) => {
                        between(here.unwrap_or(&Value::Null), there.unwrap_or(&Value::Null), place, found);
                    }
                }
            }
        }
        (Value::Array(here), Value::Array(there)) if here.len() == there.len() => {
            for (here, there) in here.iter().zip(there) {
                between(here, there, format!("{place}[]"), found);
            }
        }
        (here, there) if here == there => {}
        (here, there) => found.push((place, format!("{here} foretold, {there} there"))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_can_be_known_is_compared() {
        let one = json!({"metadata": {"uid": "a", "labels": {"controller-uid": "x", "app": "a"}}, "spec": {"list": [{"a": 1}]}});
        let other = json!({"metadata": {"uid": "b", "labels": {"controller-uid": "y", "app": "b"}}, "spec": {"list": [{"a": 1, "b": 2}]}});
        let places: Vec<String> = differences(&one, &other).into_iter().map(|(place, _)| place).collect();
        assert_eq!(places, ["metadata.labels.app", "spec.list[].b"]);
        assert_eq!(differences(&one, &one), []);
    }
}
