//! Manifests as people write them: YAML or JSON, several documents to a text, read by Kubernetes' YAML rules.
//!
//! YAML 1.1 scalars as Kubernetes reads them (`0644` is 420, `yes` is true), merge keys, the last of two equal keys. What
//! people hand in is read strictly, as Kubernetes' strict field validation does: the same field twice is refused. Every
//! error has a line; a strict reading also has the field.

mod json;
mod places;

pub use places::Places;

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_saphyr::DuplicateKeyPolicy;

/// Texts larger than this are refused before they are read: 4 MiB.
pub const MAX_BYTES: usize = 4 * 1024 * 1024;
/// Documents of one text, at most.
pub const MAX_DOCUMENTS: usize = 2_000;

/// One Kubernetes-shaped document with the text it was read from.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// The whole document.
    pub value: Value,
    /// The text of this document alone.
    pub text: String,
    /// The line of the whole input on which this document's text begins, from 1.
    pub line: usize,
}

/// Why a text is refused, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct ManifestError {
    /// From 1.
    pub line: usize,
    /// From 1; 1 where only the line is known.
    pub column: usize,
    /// What is wrong; names the field where one is at fault.
    pub message: String,
}

/// Reads every document of a text; empty documents are passed over, a `List` is taken apart.
pub fn parse_documents(text: &str) -> Result<Vec<Manifest>, ManifestError> {
    documents(text, DuplicateKeyPolicy::LastWins)
}

/// As [`parse_documents`], and refuses a document that says a field twice.
pub fn parse_documents_strictly(text: &str) -> Result<Vec<Manifest>, ManifestError> {
    documents(text, DuplicateKeyPolicy::Error)
}

fn documents(text: &str, twice: DuplicateKeyPolicy) -> Result<Vec<Manifest>, ManifestError> {
    let mut manifests = Vec::new();
    for (line, text) in split(text)? {
        match value_of(&text, line, twice)? {
            Value::Null => continue,
            Value::Object(ref fields) if fields.get("kind").and_then(Value::as_str) == Some("List") => {
                let items = fields.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
                for value in items {
                    let text = serde_json::to_string(&value).expect("a JSON value always serialises");
                    manifests.push(checked(Manifest { value, text, line })?);
                }
            }
            value => manifests.push(checked(Manifest { value, text, line })?),
        }
        if manifests.len() > MAX_DOCUMENTS {
            return Err(ManifestError { line, column: 1, message: format!("more than {MAX_DOCUMENTS} documents") });
        }
    }
    Ok(manifests)
}

/// JSON is read as JSON, as Kubernetes does: many times as fast. What is no JSON, or says a field twice where it may not, is read
/// as YAML, which has the better errors.
fn value_of(text: &str, line: usize, twice: DuplicateKeyPolicy) -> Result<Value, ManifestError> {
    let may_be_json = text.trim_start().starts_with('{');
    let json = may_be_json.then(|| match twice {
        DuplicateKeyPolicy::LastWins => serde_json::from_str(text),
        _ => serde_json::from_str(text).map(|json::SaidOnce(value)| value),
    });
    match json {
        Some(Ok(value)) => Ok(value),
        Some(Err(_)) | None => read(text, line, twice),
    }
}

/// Reads a text that must hold exactly one document.
pub fn parse_one(text: &str) -> Result<Manifest, ManifestError> {
    only(parse_documents(text)?)
}

/// As [`parse_one`], and refuses a document that says a field twice.
pub fn parse_one_strictly(text: &str) -> Result<Manifest, ManifestError> {
    only(parse_documents_strictly(text)?)
}

fn only(mut manifests: Vec<Manifest>) -> Result<Manifest, ManifestError> {
    match (manifests.pop(), manifests.is_empty()) {
        (Some(manifest), true) => Ok(manifest),
        (None, _) => Err(ManifestError { line: 1, column: 1, message: "the manifest is empty".to_owned() }),
        (Some(second), false) => {
            Err(ManifestError { line: second.line, column: 1, message: "one document is expected".to_owned() })
        }
    }
}

/// Any YAML or JSON text as a value, by the same rules.
pub fn parse_value(text: &str) -> Result<Value, ManifestError> {
    value_of(text, 1, DuplicateKeyPolicy::LastWins)
}

fn options(twice: DuplicateKeyPolicy) -> serde_saphyr::Options {
    serde_saphyr::options! {
        legacy_octal_numbers: true,
        duplicate_keys: twice,
    }
}

fn read<T: DeserializeOwned>(text: &str, first_line: usize, twice: DuplicateKeyPolicy) -> Result<T, ManifestError> {
    serde_saphyr::from_str_with_options(text, options(twice)).map_err(|error| {
        let location = error.location();
        let line = location.map_or(1, |location| usize::try_from(location.line()).unwrap_or(1)).max(1);
        let column = location.map_or(1, |location| usize::try_from(location.column()).unwrap_or(1)).max(1);
        let message = error.without_snippet().to_string();
        let message = message.lines().next().unwrap_or_default();
        // The place stands in fields of its own.
        let message = message.rfind(" at line ").map_or(message, |at| &message[..at]).to_owned();
        ManifestError { line: line + first_line - 1, column, message }
    })
}

/// Cuts a text at its document markers; a marker at the start of a line ends any YAML document.
fn split(text: &str) -> Result<Vec<(usize, String)>, ManifestError> {
    if text.len() > MAX_BYTES {
        return Err(ManifestError { line: 1, column: 1, message: format!("the text is larger than {MAX_BYTES} bytes") });
    }
    let mut documents = vec![(1, String::new())];
    for (index, line) in text.lines().enumerate() {
        let rest = line.strip_prefix("---");
        if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r'])) {
            documents.push((index + 1, String::new()));
            if rest.is_some_and(|rest| rest.trim_start().is_empty() || rest.trim_start().starts_with('#')) {
                let (_, document) = documents.last_mut().expect("just pushed");
                document.push('\n');
                continue;
            }
        }
        let (_, document) = documents.last_mut().expect("starts with one");
        document.push_str(line);
        document.push('\n');
    }
    documents.retain(|(_, text)| text.lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#')));
    Ok(documents)
}

fn checked(manifest: Manifest) -> Result<Manifest, ManifestError> {
    let fault = |message: &str| Err(ManifestError { line: manifest.line, column: 1, message: message.to_owned() });
    if !manifest.value.is_object() {
        return fault("a manifest is a mapping");
    }
    for (pointer, field) in [("/apiVersion", "apiVersion"), ("/kind", "kind")] {
        match manifest.value.pointer(pointer) {
            Some(Value::String(text)) if !text.is_empty() => {}
            Some(_) => return fault(&format!("{field}: must be a non-empty string")),
            None => return fault(&format!("{field}: is missing")),
        }
    }
    Ok(manifest)
}

impl Manifest {
    /// A manifest from a value, with the value's JSON as its text.
    pub fn from_value(value: Value) -> Result<Self, ManifestError> {
        let text = serde_json::to_string(&value).expect("a JSON value always serialises");
        checked(Self { value, text, line: 1 })
    }

    /// Reads the document into a type, with line and column of what does not fit; with `deny_unknown_fields` on the
    /// type an unknown field is refused by name.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, ManifestError> {
        read(&self.text, self.line, DuplicateKeyPolicy::LastWins)
    }

    /// `apiVersion`, as in `batch/v1`.
    pub fn api_version(&self) -> &str {
        self.text_at("/apiVersion")
    }

    /// The API group, empty for the core group.
    pub fn group(&self) -> &str {
        self.api_version().rsplit_once('/').map_or("", |(group, _)| group)
    }

    /// `kind`.
    pub fn kind(&self) -> &str {
        self.text_at("/kind")
    }

    /// `metadata.name`, empty where absent.
    pub fn name(&self) -> &str {
        self.text_at("/metadata/name")
    }

    /// `metadata.generateName`, empty where absent.
    pub fn generate_name(&self) -> &str {
        self.text_at("/metadata/generateName")
    }

    /// `metadata.namespace`, empty where absent.
    pub fn namespace(&self) -> &str {
        self.text_at("/metadata/namespace")
    }

    fn text_at(&self, pointer: &str) -> &str {
        self.value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::json;

    #[test]
    fn yaml_reads_as_kubernetes_reads_it() {
        let text = "apiVersion: v1\nkind: ConfigMap\ndata:\n  mode: 0644\n  on: yes\n  twice: 1\n  twice: 2\n";
        let manifest = parse_one(text).expect("legal");
        assert_eq!(manifest.value["data"], json!({"mode": 420, "on": true, "twice": 2}));
    }

    #[test]
    fn the_same_field_twice_is_refused_by_name_where_people_hand_it_in() {
        let text = "apiVersion: v1\nkind: A\n---\napiVersion: v1\nkind: B\nspec:\n  weight: 1\n  weight: 2\n";
        let error = parse_documents_strictly(text).expect_err("weight twice");
        assert_eq!(error.line, 8, "{error}");
        assert!(error.message.contains("weight"), "{error}");
        let json = "{\"apiVersion\": \"v1\", \"kind\": \"A\",\n\"spec\": [{\"weight\": 1,\n\"weight\": 1.5}]}";
        let error = parse_one_strictly(json).expect_err("weight twice in JSON");
        assert_eq!(error.line, 3, "{error}");
        assert!(error.message.contains("weight"), "{error}");
        let sound =
            r#"{"apiVersion": "v1", "kind": "A", "n": [1, -2, 1.50, null, true, "\ud83d\ude00", 18446744073709551615, {}]}"#;
        assert_eq!(parse_one_strictly(sound), parse_one(sound), "what says nothing twice reads the same");
        let merged = "apiVersion: v1\nkind: A\nbase: &base {cpu: 1}\nspec: {<<: *base, cpu: 2}\n";
        assert_eq!(parse_one_strictly(merged).expect("a merge is no repetition").value["spec"], json!({"cpu": 2}));
    }

    #[test]
    fn json_is_read_as_json_and_anything_else_in_braces_as_yaml() {
        let json = parse_one(r#"{"apiVersion":"v1","kind":"A","n":1.50,"text":"\ud83d\ude00","n":2}"#).expect("JSON");
        assert_eq!(json.value, json!({"apiVersion": "v1", "kind": "A", "n": 2, "text": "\u{1f600}"}));
        let yaml = parse_one("{apiVersion: v1, kind: A, mode: 0644}").expect("YAML");
        assert_eq!(yaml.value["mode"], 420);
        let error = parse_one("{\"apiVersion\": \"v1\",\n\"kind\": [}").expect_err("neither");
        assert_eq!(error.line, 2, "{error}");
        let deep =
            format!("{{\"apiVersion\": \"v1\", \"kind\": \"A\", \"deep\": {}1{}}}", "[".repeat(20_000), "]".repeat(20_000));
        parse_one(&deep).expect_err("twenty thousand lists in each other");
    }

    #[test]
    fn documents_and_lists_come_apart() {
        let text = "# first\n---\napiVersion: v1\nkind: A\n---\n\n---\napiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: B}\n- {apiVersion: v1, kind: C}\n";
        let kinds: Vec<_> = parse_documents(text).expect("legal").iter().map(|manifest| manifest.kind().to_owned()).collect();
        assert_eq!(kinds, ["A", "B", "C"]);
    }

    #[test]
    fn an_error_names_the_line_of_the_whole_text() {
        let text = "apiVersion: v1\nkind: A\n---\napiVersion: v1\nkind: B\nspec: [1, 2\n";
        let error = parse_documents(text).expect_err("malformed");
        assert!(error.line >= 6, "{error}");
        let error = parse_documents("apiVersion: v1\n---\nkind: B\n").expect_err("no kind");
        assert_eq!(error.to_string(), "line 1, column 1: kind: is missing");
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    struct Strict {
        #[serde(rename = "apiVersion")]
        _api_version: String,
        #[serde(rename = "kind")]
        _kind: String,
    }

    #[test]
    fn an_unknown_field_is_refused_by_name_with_its_place() {
        let manifest = &parse_documents("apiVersion: v1\nkind: A\n---\napiVersion: v1\nkind: B\nspek: {}\n").expect("yaml")[1];
        let error = manifest.read::<Strict>().expect_err("unknown field");
        assert_eq!(error.line, 6);
        assert!(error.message.contains("spek"), "{error}");
    }
}
