//! What a target's folder leads to: every folder and file that its kustomization names, and those name in turn.
//!
//! The objects git names these by are the cache's key, the export's content and the paths a revert looks at.

use super::RenderError;
use crate::git::{Entry, EntryKind, GitError, Mirror};
use muster_core::Digest;
use muster_core::manifest::parse_value;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The names kustomize reads, in its order.
const KUSTOMIZATIONS: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];
/// Folders and files one target may lead to.
const MAX_PATHS: usize = 1_000;
/// A kustomization file, at most.
const MAX_KUSTOMIZATION: usize = 1024 * 1024;
/// Lists of folders or files that kustomize loads as resources.
const RESOURCES: [&str; 3] = ["resources", "bases", "components"];
/// Lists of files, or of texts written in place.
const FILES: [&str; 5] = ["crds", "configurations", "patchesStrategicMerge", "transformers", "validators"];
/// What runs programs or reaches out.
const REFUSED: [&str; 5] = ["helmCharts", "helmChartInflationGenerator", "helmGlobals", "generators", "openapi"];

/// The files of a commit that a target needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closure {
    /// Whether the target's folder has a kustomization.
    pub kustomized: bool,
    /// Every regular file, with its object and size, by path.
    pub files: BTreeMap<String, (String, usize)>,
    /// The folders and files that were named, shortest first; a folder stands for everything below it.
    pub paths: Vec<String>,
    /// Over the names and the objects of the paths: equal keys mean equal renderings.
    pub key: Digest,
}

/// The closure of a folder (or of one file) at a commit.
pub async fn closure(mirror: &Mirror, commit: &str, path: &str) -> Result<Closure, RenderError> {
    let tree = mirror.tree(commit).await?;
    let by_path: BTreeMap<&str, &Entry> = tree.iter().map(|entry| (entry.path.as_str(), entry)).collect();
    let missing = || GitError::NoSuchPath { path: path.to_owned(), commit: commit.to_owned() };
    let root = by_path.get(path).ok_or_else(missing)?;
    let kustomization = (root.kind == EntryKind::Folder).then(|| kustomization(&by_path, path)).flatten();
    let mut named: BTreeSet<String> = BTreeSet::from([path.to_owned()]);
    let mut open: Vec<String> = kustomization.iter().map(|entry| entry.path.clone()).collect();
    let kustomized = !open.is_empty();
    while let Some(file) = open.pop() {
        let content = mirror.read(commit, &file, MAX_KUSTOMIZATION).await?;
        let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
        for reference in references(&file, &content)? {
            let Some(target) = join(folder, &reference) else {
                return Err(refused(&file, format!("{reference} leads out of the repository")));
            };
            let Some(entry) = by_path.get(target.as_str()) else {
                return Err(refused(
                    &file,
                    format!("{reference} does not exist at commit {commit}; nothing is fetched from elsewhere"),
                ));
            };
            if !named.insert(target.clone()) {
                continue;
            }
            if named.len() > MAX_PATHS {
                return Err(refused(&file, format!("the target leads to more than {MAX_PATHS} folders and files")));
            }
            if entry.kind == EntryKind::Folder {
                let Some(next) = self::kustomization(&by_path, &target) else {
                    return Err(refused(&file, format!("{reference} is a folder without a kustomization")));
                };
                open.push(next.path.clone());
            }
        }
    }
    assemble(&tree, &by_path, named, kustomized)
}

fn assemble(
    tree: &[Entry],
    by_path: &BTreeMap<&str, &Entry>,
    named: BTreeSet<String>,
    kustomized: bool,
) -> Result<Closure, RenderError> {
    let mut paths: Vec<String> = Vec::new();
    for path in named {
        if !paths.iter().any(|outer| is_within(&path, outer)) {
            paths.push(path);
        }
    }
    let mut files = BTreeMap::new();
    for entry in tree.iter().filter(|entry| paths.iter().any(|path| is_within(&entry.path, path))) {
        match entry.kind {
            EntryKind::File => {
                files.insert(entry.path.clone(), (entry.object.clone(), entry.size));
            }
            EntryKind::Link => {
                return Err(refused(&entry.path, "is a symbolic link, which may lead out of the repository".to_owned()));
            }
            EntryKind::Submodule => return Err(refused(&entry.path, "is a submodule, which is not fetched".to_owned())),
            EntryKind::Folder => {}
        }
    }
    let hashed: Vec<String> = paths.iter().map(|path| format!("{path}\0{}", by_path[path.as_str()].object)).collect();
    Ok(Closure { kustomized, files, key: Digest::of(hashed.join("\n").as_bytes()), paths })
}

fn is_within(path: &str, folder: &str) -> bool {
    folder.is_empty() || path == folder || path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

fn kustomization<'a>(by_path: &BTreeMap<&str, &'a Entry>, folder: &str) -> Option<&'a Entry> {
    KUSTOMIZATIONS.iter().find_map(|name| {
        let path = join(folder, name)?;
        by_path.get(path.as_str()).copied().filter(|entry| entry.kind == EntryKind::File)
    })
}

/// A path relative to a folder of the repository; none where it leaves the repository.
fn join(folder: &str, relative: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    if relative.starts_with('/') {
        return None;
    }
    for part in relative.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Everything a kustomization names by path.
fn references(file: &str, content: &[u8]) -> Result<Vec<String>, RenderError> {
    let text = std::str::from_utf8(content).map_err(|_| refused(file, "is not UTF-8".to_owned()))?;
    let value =
        parse_value(text).map_err(|error| RenderError::Malformed { file: file.to_owned(), message: error.to_string() })?;
    if let Some(field) = REFUSED.iter().find(|field| value.get(**field).is_some_and(|value| !value.is_null())) {
        return Err(refused(file, format!("{field} runs programs or reaches out, and is not supported")));
    }
    let mut found = Vec::new();
    for field in RESOURCES {
        found.extend(strings(&value[field]));
    }
    for field in FILES {
        found.extend(strings(&value[field]).filter(|text| !is_inline(text)));
    }
    for field in ["patches", "patchesJson6902", "replacements"] {
        let entries = value[field].as_array().into_iter().flatten();
        found.extend(entries.filter_map(|entry| entry["path"].as_str().map(str::to_owned)));
    }
    for field in ["configMapGenerator", "secretGenerator"] {
        for generator in value[field].as_array().into_iter().flatten() {
            found.extend(strings(&generator["files"]).map(|text| match text.split_once('=') {
                Some((_, path)) => path.to_owned(),
                None => text,
            }));
            found.extend(strings(&generator["envs"]));
            found.extend(generator["env"].as_str().map(str::to_owned));
        }
    }
    match found.iter().find(|text| text.contains("://") || text.starts_with("git@")) {
        Some(remote) => Err(refused(file, format!("{remote} lies outside of the repository, and is not fetched"))),
        None => Ok(found),
    }
}

/// A patch or a transformer may stand in the kustomization itself.
fn is_inline(text: &str) -> bool {
    text.contains('\n') || text.contains(": ")
}

fn strings(value: &Value) -> impl Iterator<Item = String> {
    value.as_array().into_iter().flatten().filter_map(|entry| entry.as_str().map(str::to_owned))
}

fn refused(file: &str, reason: String) -> RenderError {
    RenderError::Refused { file: file.to_owned(), reason }
}
