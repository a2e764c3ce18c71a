//! Manifests without kustomize: every YAML and JSON file below a folder, in path order.

use super::{Closure, RenderError};
use crate::git::Mirror;
use muster_core::manifest::parse_documents_strictly;
use serde_json::Value;

/// Bytes of files below one folder.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// The objects of the closure's files; other files are passed over.
pub(super) async fn read(mirror: &Mirror, closure: &Closure) -> Result<Vec<Value>, RenderError> {
    let files: Vec<(&String, &String)> = closure
        .files
        .iter()
        .filter(|(path, _)| [".yaml", ".yml", ".json"].iter().any(|ending| path.ends_with(ending)))
        .map(|(path, (object, _))| (path, object))
        .collect();
    let objects: Vec<&str> = files.iter().map(|(_, object)| object.as_str()).collect();
    let contents = mirror.objects(&objects, MAX_BYTES).await?;
    let mut manifests = Vec::new();
    for ((path, _), content) in files.into_iter().zip(contents) {
        let text = String::from_utf8(content)
            .map_err(|_| RenderError::Malformed { file: path.clone(), message: "is not UTF-8".to_owned() })?;
        manifests.extend(documents(path, &text)?);
    }
    Ok(manifests)
}

/// The objects of a text, each of which must have a kind and a name.
pub(super) fn documents(file: &str, text: &str) -> Result<Vec<Value>, RenderError> {
    let malformed = |message: String| RenderError::Malformed { file: file.to_owned(), message };
    let manifests = parse_documents_strictly(text).map_err(|error| malformed(error.to_string()))?;
    for manifest in &manifests {
        if manifest.name().is_empty() {
            return Err(malformed(format!("line {}: metadata.name is missing", manifest.line)));
        }
    }
    Ok(manifests.into_iter().map(|manifest| manifest.value).collect())
}
