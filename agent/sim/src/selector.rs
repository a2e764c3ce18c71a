//! Label and field selectors, as they stand in a query and in an object.

use crate::{json, status::ApiError};
use serde_json::Value;

/// One condition on labels.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
}

/// A set of conditions on labels, all of which must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
}

impl LabelSelector {
    /// Reads the form of a query: `app=web,tier in (a,b),!canary`.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        let mut requirements = Vec::new();
        for part in split(text) {
            let part = part.trim();
            if part.is_empty() {
                continue;
            }
            requirements.push(requirement(part).ok_or_else(|| {
                ApiError::bad_request(format!("unable to parse requirement: found '{part}' in label selector {text:?}"))
            })?);
        }
        Ok(Self { requirements })
    }

    /// Reads a `metav1.LabelSelector` object.
    pub fn of_object(selector: &Value) -> Self {
        let mut requirements: Vec<Requirement> = json::entries(selector, "/matchLabels")
            .map(|(key, value)| Requirement::In(key.clone(), vec![value.as_str().unwrap_or("").to_owned()]))
            .collect();
        for expression in json::list(selector, "/matchExpressions") {
            let key = json::text(expression, "/key").to_owned();
            let values = json::list(expression, "/values").iter().filter_map(|value| value.as_str().map(str::to_owned)).collect();
            requirements.push(match json::text(expression, "/operator") {
                "In" => Requirement::In(key, values),
                "NotIn" => Requirement::NotIn(key, values),
                "Exists" => Requirement::Exists(key),
                _ => Requirement::Absent(key),
            });
        }
        Self { requirements }
    }

    /// True when it has no conditions, which selects everything.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// True when the labels satisfy every condition.
    pub fn selects(&self, labels: Option<&Value>) -> bool {
        let label = |key: &str| labels.and_then(|labels| labels.get(key)).and_then(Value::as_str);
        self.requirements.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => label(key).is_some_and(|label| values.iter().any(|value| value == label)),
            Requirement::NotIn(key, values) => label(key).is_none_or(|label| values.iter().all(|value| value != label)),
            Requirement::Exists(key) => label(key).is_some(),
            Requirement::Absent(key) => label(key).is_none(),
        })
    }
}

/// Splits at commas outside parentheses.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0_i32, 0);
    for (at, letter) in text.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn requirement(part: &str) -> Option<Requirement> {
    let key = |text: &str| {
        let text = text.trim();
        let legal = !text.is_empty() && text.chars().all(|letter| letter.is_ascii_alphanumeric() || "-._/".contains(letter));
        legal.then(|| text.to_owned())
    };
    if let Some((name, values)) = part.split_once("!=") {
        return Some(Requirement::NotIn(key(name)?, vec![values.trim().to_owned()]));
    }
    if let Some((name, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return Some(Requirement::In(key(name)?, vec![value.trim().to_owned()]));
    }
    if let Some((head, values)) = part.split_once('(') {
        let values = values.strip_suffix(')')?.split(',').map(|value| value.trim().to_owned()).collect();
        let mut words = head.split_whitespace();
        return match (words.next(), words.next(), words.next()) {
            (Some(name), Some("in"), None) => Some(Requirement::In(key(name)?, values)),
            (Some(name), Some("notin"), None) => Some(Requirement::NotIn(key(name)?, values)),
            _ => None,
        };
    }
    match part.strip_prefix('!') {
        Some(name) => Some(Requirement::Absent(key(name)?)),
        None => Some(Requirement::Exists(key(part)?)),
    }
}

/// Conditions on a few fields: `metadata.name=web,spec.nodeName!=node-1`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSelector {
    requirements: Vec<(String, bool, String)>,
}

impl FieldSelector {
    /// Reads the form of a query; a field this kind cannot be selected by is refused, as the API server does.
    pub fn parse(text: &str, resource: &str) -> Result<Self, ApiError> {
        let mut requirements = Vec::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (field, equal, value) = match part.split_once("!=") {
                Some((field, value)) => (field, false, value),
                None => {
                    let (field, value) = part
                        .split_once("==")
                        .or_else(|| part.split_once('='))
                        .ok_or_else(|| ApiError::bad_request(format!("invalid selector: '{text}'; can't understand '{part}'")))?;
                    (field, true, value)
                }
            };
            let field = field.trim();
            let known = matches!(field, "metadata.name" | "metadata.namespace")
                || match resource {
                    "pods" => matches!(
                        field,
                        "spec.nodeName"
                            | "spec.restartPolicy"
                            | "spec.schedulerName"
                            | "spec.serviceAccountName"
                            | "status.phase"
                            | "status.podIP"
                    ),
                    "events" => field.starts_with("involvedObject.") || matches!(field, "reason" | "type" | "source"),
                    "secrets" => field == "type",
                    "namespaces" => field == "status.phase",
                    "nodes" => field == "spec.unschedulable",
                    "jobs.batch" => field == "status.successful",
                    "replicasets.apps" => field == "status.replicas",
                    _ => false,
                };
            if !known {
                return Err(ApiError::bad_request(format!("field label not supported: {field}")));
            }
            requirements.push((format!("/{}", field.replace('.', "/")), equal, value.trim().to_owned()));
        }
        Ok(Self { requirements })
    }

    /// True when it has no conditions.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// True when the object satisfies every condition.
    pub fn selects(&self, object: &Value) -> bool {
        self.requirements.iter().all(|(pointer, equal, wanted)| {
            let found = match object.pointer(pointer) {
                Some(Value::String(text)) => text.clone(),
                Some(Value::Bool(flag)) => flag.to_string(),
                Some(Value::Number(number)) => number.to_string(),
                Some(Value::Null | Value::Array(_) | Value::Object(_)) | None if pointer == "/spec/unschedulable" => {
                    "false".to_owned()
                }
                Some(Value::Null | Value::Array(_) | Value::Object(_)) | None => String::new(),
            };
            (found == *wanted) == *equal
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn label_selectors_select() {
        let labels = json!({"app": "web", "tier": "front"});
        for (text, expected) in [
            ("app=web", true),
            ("app==web,tier in (front, back)", true),
            ("app!=web", false),
            ("missing!=x", true),
            ("!missing,app", true),
            ("tier notin (front)", false),
            ("", true),
        ] {
            assert_eq!(LabelSelector::parse(text).unwrap().selects(Some(&labels)), expected, "{text}");
        }
        assert_eq!(LabelSelector::parse("a b").unwrap_err().code, 400);
    }
}
