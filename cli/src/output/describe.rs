//! Everything about one resource, for people: fields aligned, lists of like things as tables, times with their age, the
//! manifest last.

use super::{
    human,
    table::{Table, Titles},
};
use jiff::Timestamp;
use serde_json::{Map, Value};

/// The text of a resource's proto3 JSON.
pub fn describe(value: &Value, now: Timestamp) -> String {
    let mut text = String::new();
    let Some(fields) = value.as_object() else { return scalar(value, now) };
    section(&mut text, fields, 0, now);
    if let Some(manifest) = fields.get("manifest").and_then(Value::as_str) {
        text.push_str("\nManifest:\n");
        for line in manifest.trim_end().lines() {
            text.push_str(format!("  {line}").trim_end());
            text.push('\n');
        }
    }
    text
}

/// Fields of one level: what fits on a line first, then the lists and maps in their order.
fn section(text: &mut String, fields: &Map<String, Value>, indent: usize, now: Timestamp) {
    let pad = " ".repeat(indent);
    let hidden = |key: &str| matches!(key, "manifest" | "etag" | "secret");
    let lines: Vec<_> = fields.iter().filter(|(key, value)| !hidden(key) && fits_a_line(value)).collect();
    let width = lines.iter().map(|(key, _)| title(key).chars().count()).max().unwrap_or(0);
    for (key, value) in lines {
        let title = format!("{}:", title(key));
        text.push_str(format!("{pad}{title:<0$}  {1}", width + 1, scalar(value, now)).trim_end());
        text.push('\n');
    }
    for (key, value) in fields.iter().filter(|(key, value)| !hidden(key) && !fits_a_line(value)) {
        match value {
            Value::Array(items) if items.is_empty() => {}
            Value::Array(items) => {
                text.push_str(&format!("{pad}{}:\n", title(key)));
                list(text, items, indent + 2, now);
            }
            Value::Object(inner) if inner.is_empty() => {}
            Value::Object(inner) => {
                text.push_str(&format!("{pad}{}:\n", title(key)));
                section(text, inner, indent + 2, now);
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

/// A list of objects as a table where its cells fit on lines, else one after the other.
fn list(text: &mut String, items: &[Value], indent: usize, now: Timestamp) {
    let pad = " ".repeat(indent);
    let objects: Vec<_> = items.iter().filter_map(Value::as_object).collect();
    if objects.len() < items.len() {
        for item in items {
            text.push_str(&format!("{pad}- {}\n", scalar(item, now)));
        }
    } else if objects.iter().all(|object| object.values().all(fits_a_line)) {
        let mut keys: Vec<&String> = Vec::new();
        for key in objects.iter().flat_map(|object| object.keys()) {
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        let mut table = Table::new(keys.iter().map(|key| title(key).to_uppercase()));
        for object in objects {
            table.row(keys.iter().map(|key| object.get(*key).map_or_else(String::new, |value| cell(value, now))));
        }
        text.push_str(&table.render(Titles::Shown, indent));
    } else {
        for object in objects {
            text.push_str(&format!("{pad}-\n"));
            section(text, object, indent + 2, now);
        }
    }
}

/// Scalars, and maps and lists of a few scalars.
fn fits_a_line(value: &Value) -> bool {
    let short = |value: &Value| match value {
        Value::String(text) => text.len() <= 40 && !text.contains('\n'),
        Value::Null | Value::Bool(_) | Value::Number(_) => true,
        Value::Array(_) | Value::Object(_) => false,
    };
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
        Value::Array(items) => !items.is_empty() && items.len() <= 4 && items.iter().all(short),
        Value::Object(fields) => !fields.is_empty() && fields.len() <= 4 && fields.values().all(short),
    }
}

fn scalar(value: &Value, now: Timestamp) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => words(text, now),
        Value::Array(items) => items.iter().map(|item| scalar(item, now)).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => {
            fields.iter().map(|(key, value)| format!("{key}={}", scalar(value, now))).collect::<Vec<_>>().join(" ")
        }
    }
}

/// In a table a digest is shown by its beginning, which tells it from others.
fn cell(value: &Value, now: Timestamp) -> String {
    match value.as_str() {
        Some(text) if text.starts_with("sha256:") => text.chars().take("sha256:".len() + 12).collect(),
        _ => scalar(value, now),
    }
}

/// Times get their age, enum values become words.
fn words(text: &str, now: Timestamp) -> String {
    let looks_like_a_time = text.len() >= 20 && text.as_bytes().get(10) == Some(&b'T');
    if let Some(time) = looks_like_a_time.then(|| text.parse::<Timestamp>().ok()).flatten() {
        let time = muster_proto::Timestamp { seconds: time.as_second(), nanos: 0 };
        let shown = human::moment(&time).map_or_else(|| text.to_owned(), |time| time.to_string());
        return format!("{shown} ({})", human::expiry(Some(&time), now));
    }
    let is_enum = text.len() > 2
        && text.contains(|letter: char| letter.is_ascii_uppercase())
        && text.chars().all(|letter| letter.is_ascii_uppercase() || letter == '_');
    // A currency is three capitals and stays.
    if is_enum && text.len() > 3 { human::state(text) } else { text.to_owned() }
}

/// `lastSeenTime` as `Last seen time`.
fn title(key: &str) -> String {
    let mut title = String::new();
    for (index, letter) in key.chars().enumerate() {
        if index == 0 {
            title.extend(letter.to_uppercase());
        } else if letter.is_ascii_uppercase() {
            title.push(' ');
            title.extend(letter.to_lowercase());
        } else {
            title.push(letter);
        }
    }
    // Abbreviations keep their capitals.
    const ABBREVIATIONS: [(&str, &str); 6] =
        [("gpu", "GPU"), ("gpus", "GPUs"), ("api", "API"), ("crds", "CRDs"), ("uid", "UID"), ("uri", "URI")];
    let word = |word: &str| {
        let known = ABBREVIATIONS.iter().find(|(plain, _)| word.eq_ignore_ascii_case(plain));
        known.map_or_else(|| word.to_owned(), |(_, right)| (*right).to_owned())
    };
    title.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_resource_reads_as_fields_tables_and_its_manifest() {
        let now = "2026-01-01T01:00:00Z".parse().expect("legal");
        let value = json!({
            "name": "namespaces/ml/jobs/a",
            "etag": "7",
            "state": "QUEUED",
            "createTime": "2026-01-01T00:00:00.123Z",
            "requests": {"cpu": "8", "nvidia.com/gpu": "4"},
            "history": [
                {"state": "QUEUED", "time": "2026-01-01T00:00:00Z", "apiDigest": "sha256:0123456789abcdef"},
                {"state": "PLACED", "time": "2026-01-01T00:30:00Z", "reason": "fits"}
            ],
            "usage": {"currency": "EUR", "gpuSeconds": 1.5},
            "manifest": "kind: Job\nspec: {}\n"
        });
        let expected = "\
Name:         namespaces/ml/jobs/a
State:        Queued
Create time:  2026-01-01T00:00:00Z (1h ago)
Requests:     cpu=8 nvidia.com/gpu=4
Usage:        currency=EUR gpuSeconds=1.5
History:
  STATE    TIME                             API DIGEST            REASON
  Queued   2026-01-01T00:00:00Z (1h ago)    sha256:0123456789ab
  Placed   2026-01-01T00:30:00Z (30m ago)                         fits

Manifest:
  kind: Job
  spec: {}
";
        let normal =
            |text: &str| text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>();
        assert_eq!(normal(&describe(&value, now)), normal(expected));
    }

    #[test]
    fn nested_things_are_indented_and_secrets_never_shown() {
        let value =
            json!({"secret": "s3cret", "nodes": [{"name": "n1", "labels": {"a": "1", "b": "2", "c": "3", "d": "4", "e": "5"}}]});
        let text = describe(&value, Timestamp::UNIX_EPOCH);
        assert!(text.starts_with("Nodes:\n  -\n    Name:  n1\n    Labels:\n"), "{text}");
        assert!(!text.contains("s3cret"));
    }
}
