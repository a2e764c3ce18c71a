//! A bare mirror of a repository: fetching, resolving references, reading trees and files at a commit.

use super::{Git, GitError};
use crate::domain::spec::GitReference;
use std::path::{Path, PathBuf};

/// Files of one tree, at most.
const MAX_FILES: usize = 100_000;

/// The mirror of one repository.
#[derive(Debug, Clone)]
pub struct Mirror {
    pub(super) git: Git,
    pub(super) directory: PathBuf,
    pub(super) url: String,
}

/// A commit, as a release shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// 40 hexadecimal digits.
    pub id: String,
    /// The first line of its message.
    pub title: String,
    /// The whole message, trailers included.
    pub message: String,
    /// Its parents' ids.
    pub parents: Vec<String>,
}

/// What a fetch found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// What the reference names now.
    pub commit: Commit,
    /// The reference no longer contains the commit it named before: somebody rewrote history.
    pub rewritten: bool,
}

/// What an entry of a tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A symbolic link; never followed.
    Link,
    /// A folder.
    Folder,
    /// A commit of another repository; never fetched.
    Submodule,
}

/// One entry of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the repository's root.
    pub path: String,
    /// What it is.
    pub kind: EntryKind,
    /// Its object, which names its content.
    pub object: String,
    /// In bytes; 0 for what is no file.
    pub size: usize,
}

impl Mirror {
    /// The mirror in `directory`, made where there is none. Does not reach out.
    pub async fn open(git: Git, directory: impl Into<PathBuf>, url: &str) -> Result<Self, GitError> {
        let directory = directory.into();
        let failed = |error: std::io::Error| GitError::Failed { command: "init".into(), message: error.to_string() };
        tokio::fs::create_dir_all(&directory).await.map_err(failed)?;
        let mirror = Self { git, directory, url: url.to_owned() };
        if !mirror.directory.join("HEAD").exists() {
            mirror.git.call(&mirror.directory, &["init", "--quiet", "--bare", "."]).run().await?;
        }
        Ok(mirror)
    }

    /// Where the mirror lies.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Fetches and says what the reference names, and whether `before` is still in its history.
    pub async fn fetch(&self, reference: &GitReference, before: Option<&str>) -> Result<Fetched, GitError> {
        let (wanted, local) = match reference {
            GitReference::Branch(name) => (format!("refs/heads/{name}"), format!("refs/heads/{name}")),
            GitReference::Tag(name) => (format!("refs/tags/{name}"), format!("refs/tags/{name}")),
            GitReference::Commit(id) => {
                if self.commit(id).await.is_err() {
                    self.fetch_everything(id).await?;
                }
                return Ok(Fetched { commit: self.commit(id).await?, rewritten: false });
            }
        };
        let refspec = format!("+{wanted}:{local}");
        let output = self
            .git
            .call(&self.directory, &["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", &self.url, &refspec])
            .run()
            .await;
        match output {
            Ok(_) => {}
            Err(GitError::Failed { message, .. }) if message.contains("couldn't find remote ref") => {
                return Err(GitError::NoSuchReference(reference.to_string()));
            }
            Err(error) => return Err(error),
        }
        let commit = self.commit(&local).await?;
        let rewritten = match before {
            Some(before) if before != commit.id => !self.contains(&commit.id, before).await?,
            Some(_) | None => false,
        };
        if let Some(before) = before.filter(|_| rewritten) {
            // What was rewritten away stays readable: a rollback may need it.
            let kept = format!("refs/muster/kept/{before}");
            let _ = self.git.call(&self.directory, &["update-ref", &kept, before]).output().await;
        }
        Ok(Fetched { commit, rewritten })
    }

    async fn fetch_everything(&self, id: &str) -> Result<(), GitError> {
        let all =
            ["fetch", "--quiet", "--no-write-fetch-head", &self.url, "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];
        self.git.call(&self.directory, &all).run().await?;
        if self.commit(id).await.is_ok() {
            return Ok(());
        }
        // Most hosts serve a commit by its id alone, also one that no branch holds any more.
        let one = ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", &self.url, id];
        match self.git.call(&self.directory, &one).run().await {
            Ok(_) => Ok(()),
            Err(GitError::Failed { .. }) => Err(GitError::NoSuchReference(format!("commit {id}"))),
            Err(error) => Err(error),
        }
    }

    /// Resolves a full hash, a branch or a tag that the mirror knows, or that a fetch of everything finds.
    pub async fn resolve(&self, reference: &str) -> Result<Commit, GitError> {
        if reference.is_empty() || reference.starts_with('-') || reference.contains([':', '^', '~', ' ', '\n', '@']) {
            return Err(GitError::NoSuchReference(reference.to_owned()));
        }
        if let (true, Ok(commit)) = (is_hash(reference), self.commit(reference).await) {
            return Ok(commit);
        }
        self.fetch_everything(reference).await.or_else(|error| match error {
            GitError::NoSuchReference(_) => Ok(()),
            other => Err(other),
        })?;
        for candidate in [format!("refs/heads/{reference}"), format!("refs/tags/{reference}"), reference.to_owned()] {
            if let Ok(commit) = self.commit(&candidate).await {
                return Ok(commit);
            }
        }
        Err(GitError::NoSuchReference(reference.to_owned()))
    }

    /// A commit that the mirror holds.
    pub async fn commit(&self, revision: &str) -> Result<Commit, GitError> {
        let revision = format!("{revision}^{{commit}}");
        let call = self.git.call(&self.directory, &["log", "-1", "--no-show-signature", "--format=%H%n%P%n%B", &revision]);
        let output = call.run().await.map_err(|error| match error {
            GitError::Failed { .. } => GitError::NoSuchReference(revision.trim_end_matches("^{commit}").to_owned()),
            other => other,
        })?;
        let text = String::from_utf8_lossy(&output);
        let mut lines = text.splitn(3, '\n');
        let id = lines.next().unwrap_or_default().to_owned();
        let parents = lines.next().unwrap_or_default().split_whitespace().map(str::to_owned).collect();
        let message = lines.next().unwrap_or_default().trim_end().to_owned();
        let title = message.lines().next().unwrap_or_default().chars().take(200).collect();
        Ok(Commit { id, title, message, parents })
    }

    /// Whether `ancestor` is in the history of `commit`.
    pub async fn contains(&self, commit: &str, ancestor: &str) -> Result<bool, GitError> {
        let output = self.git.call(&self.directory, &["merge-base", "--is-ancestor", ancestor, commit]).output().await?;
        Ok(output.success)
    }

    /// A file's bytes at a commit.
    pub async fn read(&self, commit: &str, path: &str, limit: usize) -> Result<Vec<u8>, GitError> {
        let name = format!("{commit}:{path}");
        let call = self.git.call(&self.directory, &["cat-file", "blob", &name]).limit(limit);
        match call.run().await {
            Ok(bytes) => Ok(bytes),
            Err(GitError::TooLarge { limit, .. }) => Err(GitError::TooLarge { what: path.to_owned(), limit }),
            Err(GitError::Failed { .. }) => Err(GitError::NoSuchPath { path: path.to_owned(), commit: commit.to_owned() }),
            Err(error) => Err(error),
        }
    }

    /// Every entry of the commit's tree, folders included, in path order.
    pub async fn tree(&self, commit: &str) -> Result<Vec<Entry>, GitError> {
        let tree = format!("{commit}^{{tree}}");
        let output = self.git.call(&self.directory, &["ls-tree", "-r", "-t", "-z", "--long", "--full-tree", &tree]).run().await?;
        let mut entries = vec![Entry {
            path: String::new(),
            kind: EntryKind::Folder,
            object: self.git.call(&self.directory, &["rev-parse", "--verify", &tree]).line().await?,
            size: 0,
        }];
        for record in output.split(|byte| *byte == 0).filter(|record| !record.is_empty()) {
            if entries.len() > MAX_FILES {
                return Err(GitError::TooLarge { what: "the tree".to_owned(), limit: MAX_FILES });
            }
            entries.extend(entry(&String::from_utf8_lossy(record)));
        }
        Ok(entries)
    }

    /// The content of objects, in their order; at most `limit` bytes together.
    pub async fn objects(&self, objects: &[&str], limit: usize) -> Result<Vec<Vec<u8>>, GitError> {
        let input = objects.iter().flat_map(|object| format!("{object}\n").into_bytes()).collect();
        let headers = objects.len() * 128;
        let call = self.git.call(&self.directory, &["cat-file", "--batch"]).input(input).limit(limit + headers);
        let output = call.run().await?;
        let broken = || GitError::Failed { command: "cat-file".into(), message: "an object is missing".into() };
        let mut rest = &output[..];
        let mut contents = Vec::with_capacity(objects.len());
        for _ in objects {
            let end = rest.iter().position(|byte| *byte == b'\n').ok_or_else(broken)?;
            let header = String::from_utf8_lossy(&rest[..end]).into_owned();
            let size: usize = header.rsplit(' ').next().and_then(|size| size.parse().ok()).ok_or_else(broken)?;
            let content = rest.get(end + 1..end + 1 + size).ok_or_else(broken)?;
            contents.push(content.to_vec());
            rest = rest.get(end + 2 + size..).unwrap_or_default();
        }
        Ok(contents)
    }

    /// Commits after `from` up to `to` that touch any of the paths, newest first; at most 100.
    pub async fn log(&self, from: &str, to: &str, paths: &[String]) -> Result<Vec<Commit>, GitError> {
        let range = format!("{from}..{to}");
        let mut arguments = vec!["rev-list", "--max-count=100", "--topo-order", range.as_str(), "--"];
        let literal: Vec<String> = paths
            .iter()
            .map(|path| if path.is_empty() { ":(top)".to_owned() } else { format!(":(top,literal){path}") })
            .collect();
        arguments.extend(literal.iter().map(String::as_str));
        let ids = self.git.call(&self.directory, &arguments).line().await?;
        let mut commits = Vec::new();
        for id in ids.lines() {
            commits.push(self.commit(id).await?);
        }
        Ok(commits)
    }
}

/// Whether the text is a full commit hash.
pub(super) fn is_hash(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// `<mode> <type> <object> <size>\t<path>`, as `ls-tree --long` prints it.
fn entry(record: &str) -> Option<Entry> {
    let (meta, path) = record.split_once('\t')?;
    let mut fields = meta.split_whitespace();
    let (mode, _, object, size) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let kind = match mode {
        "040000" => EntryKind::Folder,
        "120000" => EntryKind::Link,
        "160000" => EntryKind::Submodule,
        _ => EntryKind::File,
    };
    Some(Entry { path: path.to_owned(), kind, object: object.to_owned(), size: size.parse().unwrap_or(0) })
}
