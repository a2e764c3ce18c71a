//! A simulated cluster's audit log: the complete record of what anybody wrote to it, from the outside.

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
}

impl AuditLog {
    /// The log in this file, one JSON object a line.
    pub fn new(file: impl AsRef<Path>) -> Self {
        Self { file: file.as_ref().to_path_buf() }
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
            let write: Write = serde_json::from_str(line).with_context(|| format!("{}:{}", self.file.display(), index + 1))?;
            anyhow::ensure!(write.seq == index as u64 + 1, "{}: write {} is missing", self.file.display(), index + 1);
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
