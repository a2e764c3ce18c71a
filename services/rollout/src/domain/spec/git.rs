//! Git repositories, in the shape of `source.toolkit.fluxcd.io GitRepository` and of Muster's own kind.
//!
//! Flux's fields that change *what* is fetched and that Muster does not do (`verify`, `include`, submodules, `semver`) are
//! refused by name: to pass over them would release something else than the person asked for.

use super::SpecError;
use super::document::{self, Reference, Zero};
use muster_core::Manifest;
use serde::Deserialize;
use std::time::Duration;

/// How often a repository is asked for new commits unless it says otherwise.
const INTERVAL: Duration = Duration::from_secs(60);
/// How long one fetch may take unless the repository says otherwise; Flux's default.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A repository document: its name and what it says.
#[derive(Debug, Clone, PartialEq)]
pub struct GitRepositoryDocument {
    /// `metadata.namespace`; empty where the document has none.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// Its specification.
    pub spec: GitRepositorySpec,
}

/// Where commits come from.
#[derive(Debug, Clone, PartialEq)]
pub struct GitRepositorySpec {
    /// `https://`, `http://` (loopback only), `ssh://`, `git@host:path` or `file://`.
    pub url: String,
    /// Which commit of it.
    pub reference: GitReference,
    /// Between two looks.
    pub interval: Duration,
    /// For one look.
    pub timeout: Duration,
    /// The name of the credential in the service's own configuration; its content is never in a document.
    pub secret: Option<String>,
    /// True stops looking, until a person says otherwise.
    pub suspend: bool,
}

/// Which commit a repository stands at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GitReference {
    /// The head of a branch.
    Branch(String),
    /// What a tag names.
    Tag(String),
    /// One commit, for ever: 40 hexadecimal digits.
    Commit(String),
}

impl std::fmt::Display for GitReference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Branch(name) => write!(f, "branch {name}"),
            Self::Tag(name) => write!(f, "tag {name}"),
            Self::Commit(id) => write!(f, "commit {id}"),
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawGitRepository {
    url: String,
    #[serde(rename = "ref")]
    reference: Option<RawReference>,
    interval: Option<String>,
    timeout: Option<String>,
    secret_ref: Option<Reference>,
    #[serde(default)]
    suspend: bool,
    /// Flux keeps files out of its artifact by it; Muster exports only what an overlay needs, so that it changes nothing.
    #[serde(default, rename = "ignore")]
    _ignore: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawReference {
    branch: Option<String>,
    tag: Option<String>,
    commit: Option<String>,
}

/// Reads a GitRepository document.
pub fn parse_git_repository(manifest: &Manifest) -> Result<GitRepositoryDocument, SpecError> {
    match (manifest.group(), manifest.kind()) {
        ("source.toolkit.fluxcd.io" | "muster.dev", "GitRepository") => {}
        (group, kind) => return Err(SpecError::new("kind", format!("{group}/{kind} is not a GitRepository"))),
    }
    let document = document::read::<RawGitRepository>(manifest)?;
    Ok(GitRepositoryDocument {
        namespace: document.metadata.namespace,
        name: document.metadata.name,
        spec: document.spec.check("spec")?,
    })
}

impl RawGitRepository {
    pub(super) fn check(self, at: &str) -> Result<GitRepositorySpec, SpecError> {
        check_url(&format!("{at}.url"), &self.url)?;
        let time = |name: &str, text: Option<String>, default| {
            text.map_or(Ok(default), |text| document::duration(&format!("{at}.{name}"), &text, Zero::Refused))
        };
        let secret = self.secret_ref.map(|secret| secret.name);
        if let Some(secret) = &secret {
            document::check_name(&format!("{at}.secretRef.name"), secret)?;
        }
        Ok(GitRepositorySpec {
            reference: self
                .reference
                .map_or_else(|| Ok(GitReference::Branch("main".to_owned())), |reference| reference.check(&format!("{at}.ref")))?,
            url: self.url,
            interval: time("interval", self.interval, INTERVAL)?,
            timeout: time("timeout", self.timeout, TIMEOUT)?,
            secret,
            suspend: self.suspend,
        })
    }
}

impl RawReference {
    fn check(self, at: &str) -> Result<GitReference, SpecError> {
        // Flux prefers the commit and uses the branch only to make the clone shallow.
        if let Some(commit) = self.commit {
            if commit.len() != 40 || !commit.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(SpecError::new(format!("{at}.commit"), "must be 40 hexadecimal digits"));
            }
            return Ok(GitReference::Commit(commit.to_ascii_lowercase()));
        }
        match (self.branch, self.tag) {
            (None, Some(tag)) => check_reference(&format!("{at}.tag"), tag).map(GitReference::Tag),
            (Some(branch), None) => check_reference(&format!("{at}.branch"), branch).map(GitReference::Branch),
            (None, None) => Err(SpecError::new(at, "must have branch, tag or commit")),
            (Some(_), Some(_)) => Err(SpecError::new(at, "may have only one of branch and tag")),
        }
    }
}

/// The rules of `git check-ref-format` that matter for a name that becomes an argument.
fn check_reference(field: &str, name: String) -> Result<String, SpecError> {
    let bad = name.is_empty()
        || name.len() > 255
        || name.starts_with(['-', '/', '.'])
        || name.ends_with(['/', '.'])
        || name.ends_with(".lock")
        || name.contains("..")
        || name.contains("//")
        || name.contains("@{")
        || name.chars().any(|c| c.is_control() || " ~^:?*[\\".contains(c));
    if bad { Err(SpecError::new(field, format!("{name:?} is not a name that git allows"))) } else { Ok(name) }
}

fn check_url(field: &str, url: &str) -> Result<(), SpecError> {
    if url.is_empty() || url.len() > 2_048 || url.chars().any(|c| c.is_control() || c == ' ') || url.starts_with('-') {
        return Err(SpecError::new(field, "is not a URL"));
    }
    if let Some(rest) = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")) {
        let authority = rest.split('/').next().unwrap_or_default();
        if authority.contains('@') {
            return Err(SpecError::new(field, "must not carry a credential; name one in secretRef"));
        }
        if authority.is_empty() {
            return Err(SpecError::new(field, "has no host"));
        }
        let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
        if url.starts_with("http://") && !matches!(host, "localhost" | "127.0.0.1" | "[::1]") {
            return Err(SpecError::new(field, "must be https: over plain http anybody on the way decides what runs"));
        }
        return Ok(());
    }
    let scp_like = url.split_once(':').is_some_and(|(host, path)| host.contains('@') && !path.starts_with("//"));
    if url.starts_with("ssh://") || url.starts_with("file:///") || scp_like {
        return Ok(());
    }
    Err(SpecError::new(field, "must begin with https://, ssh:// or file:///"))
}
