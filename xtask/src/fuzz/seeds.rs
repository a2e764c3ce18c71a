//! First corpora out of what people wrote: documents whole, and the expressions and values in them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use muster_core::manifest::parse_documents;
use serde_json::Value;

/// Texts of each kind, each once.
#[derive(Default)]
struct Seeds {
    documents: BTreeSet<String>,
    suites: BTreeSet<String>,
    jmespath: BTreeSet<String>,
    cel: BTreeSet<String>,
    values: BTreeSet<String>,
}

/// Writes a seed a file for every target, none longer than `max_bytes`, and says how many.
///
/// # Errors
/// The folder can't be read, or holds no document.
pub fn write(folder: &Path, corpora: &Path, max_bytes: usize) -> Result<usize> {
    let mut seeds = Seeds::default();
    seeds.read_below(folder)?;
    let Seeds { documents, suites, jmespath, cel, values } = seeds;
    ensure!(!documents.is_empty(), "there is no document below {}", folder.display());
    let mut written = 0;
    for (target, texts) in [
        ("yaml", &documents),
        ("policy", &documents),
        ("suite", &suites),
        ("jmespath", &jmespath),
        ("cel", &cel),
        ("values", &values),
    ] {
        let corpus = corpora.join(target);
        fs::create_dir_all(&corpus).with_context(|| format!("make {}", corpus.display()))?;
        for (number, text) in texts.iter().filter(|text| text.len() <= max_bytes).enumerate() {
            let file = corpus.join(format!("seed-{number}"));
            fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
            written += 1;
        }
    }
    Ok(written)
}

impl Seeds {
    fn read_below(&mut self, folder: &Path) -> Result<()> {
        let mut entries: Vec<_> = fs::read_dir(folder)
            .with_context(|| folder.display().to_string())?
            .collect::<Result<_, _>>()
            .with_context(|| folder.display().to_string())?;
        entries.sort_by_key(fs::DirEntry::path);
        for entry in entries {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.read_below(&path)?;
            } else if path.extension().is_some_and(|end| end == "yaml" || end == "yml") {
                let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
                // What is no document here is a document to whoever reads it nevertheless.
                for manifest in parse_documents(&text).unwrap_or_default() {
                    self.take(&manifest.value);
                }
                let is_suite = path.file_stem().is_some_and(|name| name == "kyverno-test");
                let list = if is_suite { &mut self.suites } else { &mut self.documents };
                list.insert(text);
            }
        }
        Ok(())
    }

    /// Expressions and values by the fields they stand in.
    fn take(&mut self, value: &Value) {
        match value {
            Value::Object(fields) => {
                for (key, value) in fields {
                    if let Value::String(text) = value {
                        match key.as_str() {
                            "expression" | "messageExpression" => self.cel.insert(text.clone()),
                            "jmesPath" | "list" => self.jmespath.insert(text.clone()),
                            _ => false,
                        };
                    }
                    self.take(value);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.take(item)),
            Value::String(text) => {
                let variables = text.split("{{").skip(1).filter_map(|rest| rest.split_once("}}"));
                self.jmespath.extend(variables.map(|(variable, _)| variable.trim().to_owned()));
                if text.len() <= 64 && !text.contains("{{") {
                    self.values.insert(format!("{text}\n{text}"));
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}
