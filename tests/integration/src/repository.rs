//! A git repository that releases come from: a bare one that the services read and write, and a person's clone.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use tokio::process::Command;

use crate::parts::git::GitServer;
use crate::parts::ssh;
use crate::platform::Git;

/// The branch that is released.
pub const BRANCH: &str = "main";

/// The bare repository, in its folder.
const NAME: &str = "repository.git";

/// A bare repository and a clone of it to work in.
#[derive(Debug)]
pub struct Repository {
    bare: PathBuf,
    clone: PathBuf,
    served: Served,
}

/// Where the services find it.
#[derive(Debug)]
enum Served {
    Folder,
    Http(GitServer),
    Ssh(ssh::Access),
}

/// A repository that is not where its URL points.
#[derive(Debug)]
#[must_use]
pub struct Vanished {
    from: PathBuf,
    to: PathBuf,
}

impl Vanished {
    /// Puts it back.
    ///
    /// # Errors
    /// It can't be moved.
    pub fn come_back(self) -> Result<()> {
        std::fs::rename(&self.to, &self.from).context("bring the repository back")
    }
}

/// A commit, as `git log` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Full hash.
    pub hash: String,
    /// First line of its message.
    pub title: String,
    /// The whole message, trailers included.
    pub message: String,
}

impl Repository {
    /// Makes both in `folder`, with the content of `tree` (path, text) as the first commit.
    ///
    /// # Errors
    /// Git fails.
    pub async fn create(folder: &Path, tree: &[(String, String)]) -> Result<Self> {
        let repository = Self { bare: folder.join(NAME), clone: folder.join("clone"), served: Served::Folder };
        std::fs::create_dir_all(folder)?;
        let (bare, clone) = (display(&repository.bare), display(&repository.clone));
        git(folder, &["init", "--quiet", "--bare", "--initial-branch", BRANCH, &bare]).await?;
        git(folder, &["clone", "--quiet", &bare, &clone]).await?;
        repository.git(&["checkout", "--quiet", "-B", BRANCH]).await?;
        repository.commit("The first tree", tree).await?;
        Ok(repository)
    }

    /// From now on the services reach it so; its URL is another then.
    ///
    /// # Errors
    /// No port can be opened, or git fails.
    pub async fn serve(&mut self, git_access: &Git) -> Result<()> {
        self.served = match git_access {
            Git::Folder => Served::Folder,
            Git::Password(password) => {
                let folder = self.bare.parent().context("the repository stands in a folder")?;
                // Git's server takes a push only where the repository says so.
                git(&self.bare, &["config", "http.receivepack", "true"]).await?;
                Served::Http(GitServer::start(folder, password).await?)
            }
            Git::Ssh(access) => Served::Ssh(access.clone()),
        };
        Ok(())
    }

    /// What a GitRepository document names.
    pub fn url(&self) -> String {
        match &self.served {
            Served::Folder => format!("file://{}", self.bare.display()),
            Served::Http(server) => server.url(NAME),
            Served::Ssh(access) => format!("{}{}", access.origin, self.bare.display()),
        }
    }

    /// Writes files on top of the branch as it is now, commits, and pushes; answers the commit.
    ///
    /// # Errors
    /// Git fails.
    pub async fn commit(&self, message: &str, files: &[(String, String)]) -> Result<String> {
        self.pull().await?;
        self.write(files)?;
        self.push(message).await
    }

    /// Removes files on top of the branch as it is now, commits, and pushes; answers the commit.
    ///
    /// # Errors
    /// Git fails.
    pub async fn remove(&self, message: &str, paths: &[&str]) -> Result<String> {
        self.pull().await?;
        for path in paths {
            std::fs::remove_file(self.clone.join(path)).with_context(|| format!("remove {path}"))?;
        }
        self.push(message).await
    }

    /// Writes files, and puts the commit in the place of the branch's newest, which is then in no history any more.
    ///
    /// # Errors
    /// Git fails.
    pub async fn rewrite(&self, message: &str, files: &[(String, String)]) -> Result<String> {
        self.pull().await?;
        self.write(files)?;
        self.git(&["add", "--all"]).await?;
        self.git(&["commit", "--quiet", "--amend", "--message", message]).await?;
        self.git(&["push", "--quiet", "--force", "origin", BRANCH]).await?;
        self.head().await
    }

    /// Takes the repository away from where its URL points.
    ///
    /// # Errors
    /// It can't be moved.
    pub fn vanish(&self) -> Result<Vanished> {
        let vanished = Vanished { from: self.bare.clone(), to: self.bare.with_extension("hidden") };
        std::fs::rename(&vanished.from, &vanished.to).context("hide the repository")?;
        Ok(vanished)
    }

    /// The content of a file on the branch as it is now.
    ///
    /// # Errors
    /// There is no such file.
    pub async fn read(&self, path: &str) -> Result<String> {
        git(&self.bare, &["show", &format!("{BRANCH}:{path}")]).await
    }

    /// The branch's commits, newest first.
    ///
    /// # Errors
    /// Git fails.
    pub async fn log(&self) -> Result<Vec<Commit>> {
        let text = git(&self.bare, &["log", "--format=%H%x1f%s%x1f%B%x1e", BRANCH]).await?;
        text.split('\u{1e}')
            .map(str::trim)
            .filter(|entry| !entry.is_empty())
            .map(|entry| {
                let mut parts = entry.splitn(3, '\u{1f}');
                match (parts.next(), parts.next(), parts.next()) {
                    (Some(hash), Some(title), Some(message)) => {
                        Ok(Commit { hash: hash.to_owned(), title: title.to_owned(), message: message.to_owned() })
                    }
                    _ => bail!("git log answers {entry:?}"),
                }
            })
            .collect()
    }

    /// The branch's newest commit.
    ///
    /// # Errors
    /// Git fails.
    pub async fn head(&self) -> Result<String> {
        Ok(git(&self.bare, &["rev-parse", BRANCH]).await?.trim().to_owned())
    }

    fn write(&self, files: &[(String, String)]) -> Result<()> {
        for (path, content) in files {
            let file = self.clone.join(path);
            if let Some(folder) = file.parent() {
                std::fs::create_dir_all(folder)?;
            }
            std::fs::write(&file, content).with_context(|| format!("write {path}"))?;
        }
        Ok(())
    }

    async fn pull(&self) -> Result<()> {
        let heads = git(&self.bare, &["for-each-ref", "--format=%(refname)"]).await?;
        if !heads.trim().is_empty() {
            self.git(&["fetch", "--quiet", "origin", BRANCH]).await?;
            self.git(&["reset", "--quiet", "--hard", "FETCH_HEAD"]).await?;
        }
        Ok(())
    }

    async fn push(&self, message: &str) -> Result<String> {
        self.git(&["add", "--all"]).await?;
        self.git(&["commit", "--quiet", "--message", message]).await?;
        self.git(&["push", "--quiet", "origin", BRANCH]).await?;
        self.head().await
    }

    async fn git(&self, arguments: &[&str]) -> Result<String> {
        git(&self.clone, arguments).await
    }
}

/// Git as nobody in particular: neither the machine's nor the user's configuration counts.
async fn git(folder: &Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new("git")
        .args(arguments)
        .current_dir(folder)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0")
        .envs(["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_NAME"), "Ada")))
        .envs(["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_EMAIL"), "ada@example.com")))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .context("run git")?;
    if !output.status.success() {
        bail!("git {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn display(path: &Path) -> String {
    path.display().to_string()
}
