//! Git repositories through the `git` program: a bare mirror on disk a repository, read by commit, written by pushing.
//!
//! Nothing is trusted: no prompts, no hooks, no configuration but the operator's, every call bounded in time and output.
//! There is never a checkout of a branch; a commit is a tree made in the object store.

mod command;
mod commit;
mod mirror;
mod model;
mod revert;
mod rewrite;

pub use command::{Credential, Git};
pub use mirror::{Commit, Entry, EntryKind, Fetched, Mirror};
pub use model::{ModelChange, ModelCommit, Written};
pub use revert::Reverted;
pub use rewrite::{RewriteError, rewrite_artifact_uri, rewrite_image_tag, rewrite_version};

/// Why git could not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GitError {
    /// The host, the network or the credential; tried again.
    #[error("the repository cannot be reached: {0}")]
    Unreachable(String),
    /// The branch, tag or commit does not exist there (any more).
    #[error("{0} does not exist in the repository")]
    NoSuchReference(String),
    /// There is no such file or folder in the commit.
    #[error("{path} does not exist at commit {commit}")]
    NoSuchPath {
        /// The path.
        path: String,
        /// The commit.
        commit: String,
    },
    /// A file, a listing or git's own output is larger than allowed.
    #[error("{what} is larger than {limit} bytes")]
    TooLarge {
        /// What.
        what: String,
        /// How much is allowed.
        limit: usize,
    },
    /// Took longer than its deadline.
    #[error("git {0} took longer than its deadline")]
    Timeout(String),
    /// The remote refuses what we push, for another reason than a moved branch.
    #[error("the repository refuses the push: {0}")]
    PushRefused(String),
    /// The change cannot be applied on top of what the branch holds now.
    #[error("conflicts with later commits: {0}")]
    Conflict(String),
    /// The branch kept moving for as many attempts as we make.
    #[error("the branch moved {0} times while its change was pushed")]
    Contended(usize),
    /// A file of the repository is not of the shape that must be rewritten.
    #[error("{path}: {reason}")]
    Unwritable {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Anything else git says.
    #[error("git {command}: {message}")]
    Failed {
        /// The subcommand.
        command: String,
        /// Its words, shortened.
        message: String,
    },
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
