//! Mirrors of the repositories: opened where needed, one git at a time in each.

use crate::domain::spec::{GitReference, GitRepositorySpec, parse_git_repository};
use crate::git::{Credential, Git, Mirror};
use crate::store::repository::Repository;
use muster_core::{Digest, manifest::parse_one};
use muster_kit::{Error, Result};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Opens mirrors.
#[derive(Clone)]
pub struct Sources {
    git: Git,
    directory: PathBuf,
    credentials: Arc<BTreeMap<String, Credential>>,
    turns: Arc<Mutex<BTreeMap<PathBuf, Arc<Semaphore>>>>,
}

/// A mirror that nobody else works on for as long as this lives.
pub struct OpenMirror {
    /// The mirror.
    pub mirror: Mirror,
    /// What the document says.
    pub spec: GitRepositorySpec,
    _turn: OwnedSemaphorePermit,
}

impl OpenMirror {
    /// The branch that may be written to; none where the document names a tag or a commit.
    pub fn branch(&self) -> Option<&str> {
        match &self.spec.reference {
            GitReference::Branch(branch) => Some(branch),
            GitReference::Tag(_) | GitReference::Commit(_) => None,
        }
    }
}

impl Sources {
    /// Mirrors below a folder.
    pub fn new(git: Git, directory: PathBuf, credentials: BTreeMap<String, Credential>) -> Self {
        Self { git, directory, credentials: Arc::new(credentials), turns: Arc::default() }
    }

    /// The mirror of a repository, once it is free.
    pub async fn open(&self, repository: &Repository) -> Result<OpenMirror> {
        let spec = spec(&repository.manifest)?;
        let mut git = self.git.clone();
        git.timeout = spec.timeout;
        if let Some(secret) = &spec.secret {
            let credential = self.credentials.get(secret);
            git.credential = Some(credential.cloned().ok_or_else(|| {
                Error::precondition(
                    "NO_CREDENTIAL",
                    format!("spec.secretRef.name: {secret} is not among the service's git_credentials"),
                )
            })?);
        }
        let directory = self.directory.join(&Digest::of(spec.url.as_bytes()).hex()[..24]);
        let turn = {
            let mut turns = self.turns.lock().expect("nothing panics while it is held");
            Arc::clone(turns.entry(directory.clone()).or_insert_with(|| Arc::new(Semaphore::new(1))))
        };
        let permit = turn.acquire_owned().await.map_err(Error::internal)?;
        let mirror = Mirror::open(git, directory, &spec.url).await?;
        Ok(OpenMirror { mirror, spec, _turn: permit })
    }
}

/// What a stored document says; it was checked when it was stored.
pub fn spec(manifest: &str) -> Result<GitRepositorySpec> {
    let manifest = parse_one(manifest).map_err(Error::internal)?;
    Ok(parse_git_repository(&manifest).map_err(Error::internal)?.spec)
}
