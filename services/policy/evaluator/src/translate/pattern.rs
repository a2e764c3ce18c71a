//! A plain pattern as an expression: mappings, lists of mappings, texts with wildcards and alternatives, the anchors `=()`
//! and `X()`. What compares as a number, a quantity or a duration is refused: a pattern asks the value for its type, and an
//! expression cannot.

use super::{Refusal, refuse};
use crate::{
    anchor::{self, Kind},
    scalar, wildcard,
};
use muster_core::{duration, quantity::Quantity};
use serde_json::{Map, Value};

/// Fields that hold lists in Kubernetes' own kinds: a text asked of one is asked of every element.
const LISTS: [&str; 34] = [
    "accessModes",
    "add",
    "apiGroups",
    "args",
    "command",
    "containers",
    "drop",
    "egress",
    "env",
    "envFrom",
    "ephemeralContainers",
    "externalIPs",
    "finalizers",
    "from",
    "hostAliases",
    "hosts",
    "imagePullSecrets",
    "ingress",
    "initContainers",
    "loadBalancerSourceRanges",
    "ownerReferences",
    "policyTypes",
    "ports",
    "resourceNames",
    "rules",
    "subjects",
    "supplementalGroups",
    "sysctls",
    "tls",
    "to",
    "tolerations",
    "verbs",
    "volumeMounts",
    "volumes",
];
/// Mappings whose values are texts, so that `true` is one.
const TEXTS: [&str; 6] = ["annotations", "data", "labels", "matchLabels", "nodeSelector", "stringData"];
/// Fields with quantities, or with what is a number or a text. The API server's check of types does not know them, and warns of
/// them unless the type of what they stand in is said to be unknown.
const UNTYPED: [&str; 15] = [
    "allocatable",
    "capacity",
    "default",
    "defaultRequest",
    "divisor",
    "hard",
    "limits",
    "max",
    "maxSurge",
    "maxUnavailable",
    "min",
    "overhead",
    "requests",
    "sizeLimit",
    "targetPort",
];
/// Words of CEL that are no names of fields.
const RESERVED: [&str; 18] = [
    "as", "break", "const", "continue", "else", "false", "for", "function", "if", "import", "in", "let", "loop", "null",
    "package", "return", "true", "var",
];

/// The pattern as one expression about `object`; `field` is where the pattern stands.
pub fn expression(pattern: &Value, field: &str) -> Result<String, Refusal> {
    let Value::Object(fields) = pattern else { return refuse(field, "is no mapping") };
    let terms = Writer::default().map("object", fields, field, "")?;
    Ok(all(terms))
}

/// A wildcard as a regular expression (RE2).
pub fn regular(pattern: &str) -> String {
    pattern
        .chars()
        .map(|c| match c {
            '*' => "(?s:.*)".to_owned(),
            '?' => "(?s:.)".to_owned(),
            c if c.is_ascii_alphanumeric() || c == '_' || c == '-' || c == '/' || c == ':' || !c.is_ascii() => c.to_string(),
            c => format!("\\{c}"),
        })
        .collect()
}

/// A text as CEL writes it.
pub fn quoted(text: &str) -> String {
    let escaped: String = text
        .chars()
        .map(|c| match c {
            '\'' | '\\' => format!("\\{c}"),
            '\n' => "\\n".to_owned(),
            '\r' => "\\r".to_owned(),
            '\t' => "\\t".to_owned(),
            c => c.to_string(),
        })
        .collect();
    format!("'{escaped}'")
}

fn all(terms: Vec<String>) -> String {
    match terms.as_slice() {
        [] => "true".to_owned(),
        terms => terms.join(" && "),
    }
}

fn is_identifier(key: &str) -> bool {
    key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !RESERVED.contains(&key)
}

/// Counts the names of elements.
#[derive(Default)]
struct Writer {
    elements: usize,
}

impl Writer {
    fn map(&mut self, at: &str, fields: &Map<String, Value>, path: &str, inside: &str) -> Result<Vec<String>, Refusal> {
        let mut terms = Vec::new();
        let mut keys: Vec<&String> = fields.keys().collect();
        keys.sort();
        for key in keys {
            let (kind, name) = anchor::parse(key).map_or((None, key.as_str()), |(kind, name)| (Some(kind), name));
            let path = format!("{path}.{key}");
            if wildcard::is_pattern(name) {
                return refuse(path, "a wildcard among keys has no counterpart");
            }
            let at = &if UNTYPED.contains(&name) { format!("dyn({at})") } else { at.to_owned() };
            let (has, place) = match is_identifier(name) {
                true => (format!("has({at}.{name})"), format!("{at}.{name}")),
                false => (format!("{} in {at}", quoted(name)), format!("{at}[{}]", quoted(name))),
            };
            let value = &fields[key];
            match kind {
                None if value == "*" => terms.push(has),
                None => {
                    terms.push(has);
                    terms.extend(self.value(&place, value, &path, name, inside)?);
                }
                Some(Kind::Negation) => terms.push(format!("!({has})")),
                Some(Kind::Equality) => {
                    let below = self.value(&place, value, &path, name, inside)?;
                    if !below.is_empty() {
                        terms.push(format!("(!({has}) || ({}))", all(below)));
                    }
                }
                Some(Kind::Condition | Kind::Global | Kind::Existence | Kind::AddIfAbsent) => {
                    return refuse(path, "this anchor has no counterpart here");
                }
            }
        }
        Ok(terms)
    }

    fn value(&mut self, at: &str, value: &Value, path: &str, name: &str, inside: &str) -> Result<Vec<String>, Refusal> {
        let asks_list = LISTS.contains(&name);
        match value {
            Value::Object(fields) => self.map(at, fields, path, name),
            Value::Array(items) => {
                let [item] = items.as_slice() else { return refuse(path, "only a list of one pattern has a counterpart") };
                self.elements += 1;
                let element = format!("e{}", self.elements);
                let below = match item {
                    Value::Object(fields) => self.map(&element, fields, &format!("{path}[0]"), name)?,
                    Value::Array(_) => return refuse(path, "a list of lists has no counterpart"),
                    scalar => vec![leaf(&element, scalar, path, inside)?],
                };
                Ok(if below.is_empty() { Vec::new() } else { vec![format!("{at}.all({element}, {})", all(below))] })
            }
            _ if asks_list => refuse(path, "a text asked of a list has no counterpart here"),
            scalar => Ok(vec![leaf(at, scalar, path, inside)?]),
        }
    }
}

/// One comparison with a scalar.
fn leaf(at: &str, scalar: &Value, path: &str, inside: &str) -> Result<String, Refusal> {
    match scalar {
        Value::Bool(wanted) => Ok(format!("{at} == {wanted}")),
        Value::String(text) => {
            let mut alternatives = Vec::new();
            for alternative in text.split('|') {
                let conditions: Result<Vec<String>, Refusal> = alternative
                    .trim_matches(' ')
                    .split('&')
                    .map(|each| condition(at, each.trim_matches(' '), path, inside))
                    .collect();
                alternatives.push(all(conditions?));
            }
            Ok(match alternatives.as_slice() {
                [one] if !one.contains(" && ") => one.clone(),
                several => format!("({})", several.iter().map(|each| format!("({each})")).collect::<Vec<_>>().join(" || ")),
            })
        }
        Value::Null => refuse(path, "null also fits what is empty, which depends on the type"),
        Value::Number(_) => refuse(path, "a number also fits a text, which depends on the type"),
        Value::Array(_) | Value::Object(_) => refuse(path, "is no scalar"),
    }
}

fn condition(at: &str, text: &str, path: &str, inside: &str) -> Result<String, Refusal> {
    if text.starts_with(['<', '>']) || scalar::is_range(text) {
        return refuse(path, "comparing numbers depends on the type");
    }
    let (negated, wanted) = match text.strip_prefix('!').filter(|_| text.len() > 1) {
        Some(rest) => (true, rest.trim()),
        None => (false, text),
    };
    if wanted.parse::<Quantity>().is_ok() || duration::parse_nanos(wanted).is_ok() {
        return refuse(path, format!("{wanted:?} compares as a quantity or duration, which depends on the type"));
    }
    if wanted.is_empty() && !negated {
        return refuse(path, "an empty text also fits what is missing");
    }
    let is_flag = matches!(wanted, "true" | "false") && !TEXTS.contains(&inside) && !at.ends_with(".value");
    let fits = match (wanted, wildcard::is_pattern(wanted)) {
        ("*", _) => return Ok(if negated { "false".to_owned() } else { "true".to_owned() }),
        ("?*", _) => return Ok(if negated { format!("{at} == ''") } else { format!("{at} != ''") }),
        (wanted, true) => format!("{at}.matches({})", quoted(&format!("^{}$", regular(wanted)))),
        (wanted, false) if is_flag => return Ok(format!("{at} {} {wanted}", if negated { "!=" } else { "==" })),
        (wanted, false) => return Ok(format!("{at} {} {}", if negated { "!=" } else { "==" }, quoted(wanted))),
    };
    Ok(if negated { format!("!{fits}") } else { fits })
}
