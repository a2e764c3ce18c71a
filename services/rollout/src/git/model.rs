//! The commit that brings a model version: exactly one per digest, however often and from wherever it is written.
//!
//! Git is outside the transaction, so the row is only an intent. Before each push the branch is fetched and looked
//! through for the digest, in trailers and in version files (a squash merge drops trailers); what is found is adopted.

use super::commit::Pushed;
use super::rewrite::{RewriteError, rewrite_artifact_uri, rewrite_image_tag, rewrite_version};
use super::{GitError, Mirror};
use crate::domain::spec::GitReference;

/// Times a moved branch is tried again before the writer comes back later.
const ATTEMPTS: usize = 5;
/// A model's files are small; a larger one is not what it claims to be.
const MAX_FILE: usize = 1024 * 1024;
/// The names kustomize reads, in its order.
const KUSTOMIZATIONS: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// What a commit has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelChange {
    /// The model.
    pub model: String,
    /// The model's folder in the repository.
    pub path: String,
    /// Its new version.
    pub version: String,
    /// `sha256:…` of the artifact.
    pub digest: String,
    /// Where the artifact lies.
    pub uri: String,
    /// A tag, or an image with a tag; none where the image stays.
    pub image: Option<String>,
    /// What names the event, for the trailer.
    pub event: String,
}

/// A branch that Muster may write to, and what to write.
#[derive(Debug)]
pub struct ModelCommit<'a> {
    /// The repository.
    pub mirror: &'a Mirror,
    /// The branch.
    pub branch: &'a str,
    /// The change.
    pub change: &'a ModelChange,
}

/// How the commit came to be in git.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// It was there already.
    Adopted(String),
    /// It has been pushed.
    Pushed(String),
}

impl Written {
    /// The commit.
    pub fn commit(&self) -> &str {
        match self {
            Self::Adopted(commit) | Self::Pushed(commit) => commit,
        }
    }
}

impl ModelCommit<'_> {
    /// Brings the version into git. Safe to repeat at any point, also after a crash between push and record.
    pub async fn write(&self) -> Result<Written, GitError> {
        let branch = GitReference::Branch(self.branch.to_owned());
        for _ in 0..ATTEMPTS {
            let head = self.mirror.fetch(&branch, None).await?.commit.id;
            if let Some(commit) = self.find(&head).await? {
                return Ok(Written::Adopted(commit));
            }
            let files = self.files(&head).await?;
            let commit = self.mirror.commit_files(&head, &files, &self.message()).await?;
            match self.mirror.push(&commit, self.branch).await? {
                Pushed::Done => return Ok(Written::Pushed(commit)),
                Pushed::Moved => {}
            }
        }
        Err(GitError::Contended(ATTEMPTS))
    }

    /// The commit of the branch that brought the digest, by trailer or by version file.
    async fn find(&self, head: &str) -> Result<Option<String>, GitError> {
        let trailer = format!("^Muster-Digest: {}$", self.change.digest);
        let grep = ["log", "--format=%H", "--extended-regexp", "--grep", &trailer, head];
        let found = self.mirror.git.call(&self.mirror.directory, &grep).line().await?;
        for id in found.lines() {
            // A revert quotes the message of what it reverts; only the commit's own trailer counts.
            let commit = self.mirror.commit(id).await?;
            let model = format!("Muster-Model: {}", self.change.model);
            let is_ours = commit.message.lines().any(|line| line == model || line.starts_with(&format!("{model}/")));
            if is_ours && !commit.title.starts_with("Revert ") {
                return Ok(Some(commit.id));
            }
        }
        let file = self.file("version.yaml");
        let pickaxe =
            ["log", "--format=%H", "-S", &self.change.digest, "--reverse", head, "--", &format!(":(top,literal){file}")];
        let found = self.mirror.git.call(&self.mirror.directory, &pickaxe).line().await?;
        Ok(found.lines().next().map(str::to_owned))
    }

    /// The files that change, with their new content.
    async fn files(&self, head: &str) -> Result<Vec<(String, Vec<u8>)>, GitError> {
        let change = self.change;
        let version = self.file("version.yaml");
        let uri = self.file("artifact-uri.txt");
        let unwritable =
            |path: &str, error: RewriteError| GitError::Unwritable { path: path.to_owned(), reason: error.to_string() };
        let mut files = Vec::new();
        let old = self.mirror.read(head, &version, MAX_FILE).await?;
        let new = rewrite_version(&old, &change.version, &change.digest).map_err(|error| unwritable(&version, error))?;
        files.push((version, new));
        let old = self.mirror.read(head, &uri, MAX_FILE).await?;
        let new = rewrite_artifact_uri(&old, &change.uri).map_err(|error| unwritable(&uri, error))?;
        files.push((uri, new));
        if let Some(image) = &change.image {
            let (path, old) = self.kustomization(head).await?;
            let new = rewrite_image_tag(&old, image).map_err(|error| unwritable(&path, error))?;
            files.push((path, new));
        }
        Ok(files)
    }

    async fn kustomization(&self, head: &str) -> Result<(String, Vec<u8>), GitError> {
        for name in KUSTOMIZATIONS {
            let path = self.file(name);
            match self.mirror.read(head, &path, MAX_FILE).await {
                Ok(content) => return Ok((path, content)),
                Err(GitError::NoSuchPath { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(GitError::NoSuchPath { path: self.file(KUSTOMIZATIONS[0]), commit: head.to_owned() })
    }

    fn file(&self, name: &str) -> String {
        if self.change.path.is_empty() { name.to_owned() } else { format!("{}/{name}", self.change.path) }
    }

    fn message(&self) -> String {
        let ModelChange { model, version, digest, uri, event, .. } = self.change;
        format!(
            "{model} {version}\n\nTraining completed: {uri}\n\nMuster-Model: {model}/{version}\nMuster-Digest: {digest}\nMuster-Event: {event}\n"
        )
    }
}
