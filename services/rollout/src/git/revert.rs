//! The commit that takes a failed release's change back, written the way `git revert` would and pushed without force.

use super::commit::Pushed;
use super::{GitError, Mirror};
use crate::domain::spec::GitReference;

/// Times a moved branch is tried again before the writer comes back later.
const ATTEMPTS: usize = 5;

/// How the revert came to be in git.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reverted {
    /// It has been pushed.
    Pushed(String),
    /// Somebody has reverted it already, or the branch never held it.
    Adopted(String),
}

impl Mirror {
    /// Takes commits (newest first) back on a branch, in one commit; conflicts are [`GitError::Conflict`].
    ///
    /// `cause` is said in the message. Safe to repeat: a revert that is there is found by its trailer and adopted.
    pub async fn revert(&self, branch: &str, commits: &[String], cause: &str) -> Result<Reverted, GitError> {
        let reference = GitReference::Branch(branch.to_owned());
        let Some(newest) = commits.first() else { return Err(GitError::NoSuchReference("a commit to revert".into())) };
        for _ in 0..ATTEMPTS {
            let head = self.fetch(&reference, None).await?.commit.id;
            if !self.contains(&head, newest).await? {
                // The branch was rewritten: what is to be reverted is not in it any more.
                return Ok(Reverted::Adopted(head));
            }
            if let Some(commit) = self.find_revert(&head, newest).await? {
                return Ok(Reverted::Adopted(commit));
            }
            let tree = self.reverted_tree(&head, commits).await?;
            let current = self.git.call(&self.directory, &["rev-parse", "--verify", &format!("{head}^{{tree}}")]).line().await?;
            if tree == current {
                return Ok(Reverted::Adopted(head));
            }
            let commit = self.commit_tree(&tree, &head, &self.revert_message(commits, cause).await?).await?;
            match self.push(&commit, branch).await? {
                Pushed::Done => return Ok(Reverted::Pushed(commit)),
                Pushed::Moved => {}
            }
        }
        Err(GitError::Contended(ATTEMPTS))
    }

    /// A commit after `reverted` that says it takes it back, in git's words or in ours.
    async fn find_revert(&self, head: &str, reverted: &str) -> Result<Option<String>, GitError> {
        let range = format!("{reverted}..{head}");
        let pattern = format!("^(This reverts commit |Muster-Reverts: ){reverted}");
        let grep = ["log", "-1", "--format=%H", "--extended-regexp", "--grep", &pattern, &range];
        let found = self.git.call(&self.directory, &grep).line().await?;
        Ok(found.lines().next().map(str::to_owned))
    }

    async fn revert_message(&self, commits: &[String], cause: &str) -> Result<String, GitError> {
        let title = self.commit(&commits[0]).await?.title;
        let cause: String = cause.chars().filter(|c| !c.is_control()).take(500).collect();
        let mut message = format!("Revert \"{title}\"\n\n{cause}\n\n");
        for commit in commits {
            message.push_str(&format!("This reverts commit {commit}.\n"));
        }
        message.push('\n');
        for commit in commits {
            message.push_str(&format!("Muster-Reverts: {commit}\n"));
        }
        Ok(message)
    }

    /// The tree of `head` without what the commits brought.
    async fn reverted_tree(&self, head: &str, commits: &[String]) -> Result<String, GitError> {
        let failed = |error: std::io::Error| GitError::Failed { command: "worktree".into(), message: error.to_string() };
        let folder = tempfile::tempdir().map_err(failed)?;
        let path = folder.path().join("tree");
        let shown = path.to_string_lossy().into_owned();
        self.git.call(&self.directory, &["worktree", "add", "--quiet", "--detach", &shown, head]).run().await?;
        let tree = async {
            for commit in commits {
                let mut arguments = vec!["revert", "--no-commit"];
                if self.commit(commit).await?.parents.len() > 1 {
                    arguments.extend(["-m", "1"]);
                }
                arguments.push(commit);
                let output = self.git.call(&path, &arguments).output().await?;
                if !output.success {
                    let message = output.message.lines().take(3).collect::<Vec<_>>().join("; ");
                    return Err(GitError::Conflict(message));
                }
            }
            self.git.call(&path, &["write-tree"]).line().await
        }
        .await;
        let remove = ["worktree", "remove", "--force", &shown];
        let removed = self.git.call(&self.directory, &remove).output().await;
        if removed.is_err() {
            // The folder goes with the temporary one; the mirror forgets it here.
            let _ = self.git.call(&self.directory, &["worktree", "prune"]).output().await;
        }
        tree
    }
}
