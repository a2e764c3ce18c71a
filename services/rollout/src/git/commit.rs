//! Making a commit in the object store and pushing it: never a checkout, never force.

use super::{GitError, Mirror};
use std::path::Path;

/// How a push ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pushed {
    /// The branch is at our commit.
    Done,
    /// Somebody was faster; fetch and look again.
    Moved,
}

impl Mirror {
    /// A commit on top of `parent` with some files' content replaced or added.
    pub(super) async fn commit_files(
        &self,
        parent: &str,
        files: &[(String, Vec<u8>)],
        message: &str,
    ) -> Result<String, GitError> {
        let index = tempfile::NamedTempFile::new()
            .map_err(|error| GitError::Failed { command: "read-tree".into(), message: error.to_string() })?;
        let index_path = index.path().with_extension("index");
        let result = self.commit_with_index(parent, files, message, &index_path).await;
        let _ = tokio::fs::remove_file(&index_path).await;
        result
    }

    async fn commit_with_index(
        &self,
        parent: &str,
        files: &[(String, Vec<u8>)],
        message: &str,
        index: &Path,
    ) -> Result<String, GitError> {
        let git = |arguments: &[&str]| self.git.call(&self.directory, arguments).variable("GIT_INDEX_FILE", index);
        git(&["read-tree", parent]).run().await?;
        for (path, content) in files {
            let object = git(&["hash-object", "-w", "--stdin"]).input(content.clone()).line().await?;
            let mode = self.mode(parent, path).await?;
            git(&["update-index", "--add", "--cacheinfo", &format!("{mode},{object},{path}")]).run().await?;
        }
        let tree = git(&["write-tree"]).line().await?;
        self.commit_tree(&tree, parent, message).await
    }

    /// A commit of a tree on top of `parent`.
    pub(super) async fn commit_tree(&self, tree: &str, parent: &str, message: &str) -> Result<String, GitError> {
        let call = self.git.call(&self.directory, &["commit-tree", tree, "-p", parent, "-F", "-"]);
        call.input(message.as_bytes().to_vec()).line().await
    }

    async fn mode(&self, commit: &str, path: &str) -> Result<String, GitError> {
        let literal = format!(":(top,literal){path}");
        let listed = self.git.call(&self.directory, &["ls-tree", commit, "--", &literal]).line().await?;
        match listed.split_whitespace().next() {
            None => Ok("100644".to_owned()),
            Some(mode @ ("100644" | "100755")) => Ok(mode.to_owned()),
            Some(_) => Err(GitError::Unwritable { path: path.to_owned(), reason: "is not a regular file".to_owned() }),
        }
    }

    /// Pushes a commit to the branch, as a fast-forward only.
    pub(super) async fn push(&self, commit: &str, branch: &str) -> Result<Pushed, GitError> {
        let refspec = format!("{commit}:refs/heads/{branch}");
        let output = self.git.call(&self.directory, &["push", "--porcelain", &self.url, &refspec]).output().await?;
        if output.success {
            return Ok(Pushed::Done);
        }
        let said = format!("{}\n{}", String::from_utf8_lossy(&output.stdout), output.message);
        let moved = ["non-fast-forward", "fetch first", "cannot lock ref", "failed to update ref", "incorrect old value"];
        if moved.iter().any(|words| said.contains(words)) {
            return Ok(Pushed::Moved);
        }
        let unreachable = ["Could not resolve", "Connection", "Could not read from remote", "does not appear to be"];
        let message: String = said.trim().chars().take(1_000).collect();
        if unreachable.iter().any(|words| said.contains(words)) && output.code == Some(128) {
            return Err(GitError::Unreachable(message));
        }
        Err(GitError::PushRefused(message))
    }
}
