//! A real repository on disk for tests, worked on as its users would: by commits on a branch.

use super::{Git, Mirror};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A bare repository with a working copy beside it.
pub(crate) struct Repository {
    folder: TempDir,
    git: Git,
}

impl Repository {
    /// A repository whose first commit on `main` holds the files.
    pub async fn with(files: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().unwrap();
        let git = Git { author_name: "Ada".into(), author_email: "ada@example.com".into(), ..Git::default() };
        let repository = Self { folder, git };
        std::fs::create_dir_all(repository.bare()).unwrap();
        std::fs::create_dir_all(repository.work()).unwrap();
        repository.run(&repository.bare(), &["init", "-q", "--bare", "-b", "main", "."]).await;
        repository.run(&repository.work(), &["init", "-q", "-b", "main", "."]).await;
        repository.commit("first", files).await;
        repository
    }

    pub fn url(&self) -> String {
        format!("file://{}", self.bare().display())
    }

    pub fn bare(&self) -> PathBuf {
        self.folder.path().join("bare.git")
    }

    fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    pub async fn run(&self, at: &Path, arguments: &[&str]) -> String {
        self.git.call(at, arguments).line().await.unwrap_or_else(|error| panic!("git {arguments:?}: {error}"))
    }

    /// Writes files (an empty text removes one), commits and pushes; gives the commit.
    pub async fn commit(&self, message: &str, files: &[(&str, &str)]) -> String {
        for (path, content) in files {
            let path = self.work().join(path);
            if content.is_empty() {
                std::fs::remove_file(path).unwrap();
                continue;
            }
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        self.run(&self.work(), &["add", "-A", "."]).await;
        self.run(&self.work(), &["commit", "-q", "--allow-empty", "-m", message]).await;
        self.push().await
    }

    async fn push(&self) -> String {
        let url = self.url();
        self.run(&self.work(), &["push", "-q", "--force", &url, "HEAD:refs/heads/main"]).await;
        self.run(&self.work(), &["rev-parse", "HEAD"]).await
    }

    /// Takes into the working copy what others have pushed.
    pub async fn pull(&self) -> String {
        let url = self.url();
        self.run(&self.work(), &["fetch", "-q", &url, "main"]).await;
        self.run(&self.work(), &["reset", "-q", "--hard", "FETCH_HEAD"]).await;
        self.run(&self.work(), &["rev-parse", "HEAD"]).await
    }

    /// Throws the last commit away and puts another in its place.
    pub async fn rewrite(&self, files: &[(&str, &str)]) -> String {
        self.run(&self.work(), &["reset", "-q", "--hard", "HEAD~1"]).await;
        self.commit("rewritten", files).await
    }

    pub async fn log(&self) -> Vec<String> {
        self.run(&self.bare(), &["log", "--format=%s", "main"]).await.lines().map(str::to_owned).collect()
    }

    pub async fn show(&self, path: &str) -> String {
        let bytes = self.git.call(&self.bare(), &["show", &format!("main:{path}")]).run().await.unwrap();
        String::from_utf8(bytes).unwrap()
    }

    pub async fn mirror(&self) -> (TempDir, Mirror) {
        let folder = TempDir::new().unwrap();
        let mirror = Mirror::open(Git::default(), folder.path().join("mirror"), &self.url()).await.unwrap();
        (folder, mirror)
    }
}
