//! A cluster's audit log: the complete record of what anybody wrote to it, from the outside.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

/// One write to a cluster.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Write {
    /// Its number, from 1, without gaps.
    pub seq: u64,
    /// When.
    pub time: jiff::Timestamp,
    /// The caller's user agent.
    pub user_agent: String,
    /// create, update, patch, apply, delete, deletecollection.
    pub verb: String,
    /// As in `deployments.apps`.
    pub resource: String,
    /// `status`, `scale`, `binding`, or empty.
    pub subresource: String,
    /// The object's namespace, or empty.
    pub namespace: String,
    /// The object's name.
    pub name: String,
    /// A dry run changed nothing.
    pub dry_run: bool,
    /// The HTTP status.
    pub code: u16,
    /// The object is gone after this write.
    pub removed: bool,
    /// The object after the write; absent where it was refused.
    pub object: Option<Value>,
}

impl Write {
    /// It changed something.
    pub fn took_effect(&self) -> bool {
        self.code < 300 && !self.dry_run
    }

    /// The object's label of this name.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.object.as_ref()?.get("metadata")?.get("labels")?.get(name)?.as_str()
    }
}

/// One cluster's log.
#[derive(Debug, Clone)]
pub struct AuditLog {
    file: PathBuf,
    writer: Writer,
}

/// Who writes a log.
#[derive(Debug, Clone, Copy)]
enum Writer {
    /// A simulated cluster.
    Simulator,
    /// A real API server, with the level `RequestResponse`.
    ApiServer,
}

impl AuditLog {
    /// A simulated cluster's log in this file, one JSON object a line.
    pub fn new(file: impl AsRef<Path>) -> Self {
        Self { file: file.as_ref().to_path_buf(), writer: Writer::Simulator }
    }

    /// The log of a real API server in this file, one `audit.k8s.io/v1` event a line.
    pub fn of_kubernetes(file: impl AsRef<Path>) -> Self {
        Self { file: file.as_ref().to_path_buf(), writer: Writer::ApiServer }
    }

    /// Every write so far that took effect, oldest first. A last line that is being written is left out.
    ///
    /// # Errors
    /// The file can't be read, a line is malformed, or a number is missing: then the log isn't complete.
    pub fn writes(&self) -> Result<Vec<Write>> {
        let text = std::fs::read_to_string(&self.file).with_context(|| format!("read {}", self.file.display()))?;
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let mut writes = Vec::new();
        for (index, line) in whole.lines().enumerate() {
            let place = || format!("{}:{}", self.file.display(), index + 1);
            let number = index as u64 + 1;
            let write: Write = match self.writer {
                Writer::Simulator => serde_json::from_str(line).with_context(place)?,
                Writer::ApiServer => serde_json::from_str::<Event>(line).with_context(place)?.write(number),
            };
            anyhow::ensure!(write.seq == number, "{}: write {number} is missing", self.file.display());
            if write.took_effect() {
                writes.push(write);
            }
        }
        Ok(writes)
    }

    /// Whether any write so far mentions this text in its object, as in an image.
    ///
    /// # Errors
    /// As [`AuditLog::writes`].
    pub fn mentions(&self, text: &str) -> Result<bool> {
        Ok(self.writes()?.iter().any(|write| write.object.as_ref().is_some_and(|object| mentions(object, text))))
    }
}

/// Whether a string somewhere in the value contains the text.
pub fn mentions(value: &Value, text: &str) -> bool {
    match value {
        Value::String(string) => string.contains(text),
        Value::Array(items) => items.iter().any(|item| mentions(item, text)),
        Value::Object(fields) => fields.values().any(|field| mentions(field, text)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// An event as an API server writes it, as far as it matters here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    verb: String,
    #[serde(rename = "requestURI")]
    request_uri: String,
    #[serde(default)]
    user_agent: String,
    #[serde(default)]
    object_ref: ObjectRef,
    #[serde(default)]
    response_status: Status,
    response_object: Option<Value>,
    stage_timestamp: jiff::Timestamp,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ObjectRef {
    resource: String,
    namespace: String,
    name: String,
    api_group: String,
    subresource: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    code: u16,
}

impl Event {
    fn write(self, seq: u64) -> Write {
        let ObjectRef { resource, namespace, name, api_group, subresource } = self.object_ref;
        // The garbage collector asks for metadata alone; what it is answered is no state of the object.
        let object =
            self.response_object.filter(|object| object["kind"] != "Status" && object["kind"] != "PartialObjectMetadata");
        let text = |pointer: &str| object.as_ref().and_then(|object| object.pointer(pointer)?.as_str()).unwrap_or("").to_owned();
        // What has no finalizers and no grace left is gone when the answer is given; else a later write says so.
        let lives_on = object.as_ref().is_some_and(|object| {
            let metadata = &object["metadata"];
            metadata["finalizers"].is_array()
                || metadata["deletionGracePeriodSeconds"].as_i64().is_some_and(|seconds| seconds > 0)
        });
        Write {
            seq,
            time: self.stage_timestamp,
            user_agent: self.user_agent,
            removed: self.verb == "delete" && !lives_on,
            // A server-side apply is a patch with a manager's name.
            verb: if self.verb == "patch" && self.request_uri.contains("fieldManager=") { "apply".to_owned() } else { self.verb },
            resource: if api_group.is_empty() { resource } else { format!("{resource}.{api_group}") },
            subresource,
            namespace,
            // A generated name stands only in the answer.
            name: if name.is_empty() { text("/metadata/name") } else { name },
            dry_run: self.request_uri.contains("dryRun="),
            code: self.response_status.code,
            object,
        }
    }
}
