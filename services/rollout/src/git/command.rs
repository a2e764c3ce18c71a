//! One call of the `git` program: hermetic, bounded in time and output, never asking anybody anything.

use super::GitError;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

/// Bytes of output kept of one call: enough for the listing of a tree of a hundred thousand files.
const MAX_OUTPUT: usize = 32 * 1024 * 1024;
/// Bytes of git's own words kept for a message.
const MAX_MESSAGE: usize = 2_000;

/// What opens a repository; its content is in the service's own configuration and never in a row or a log.
#[derive(Clone)]
pub enum Credential {
    /// `https`: user and password or token.
    Basic {
        /// The user; for most hosts any name goes with a token.
        username: String,
        /// The password or token.
        password: String,
    },
    /// `ssh`: a private key file and the hosts that may be trusted.
    SshKey {
        /// The private key.
        key_file: PathBuf,
        /// In the form of `known_hosts`; a host that is not in it is refused.
        known_hosts_file: PathBuf,
    },
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Basic { .. } => "Basic",
            Self::SshKey { .. } => "SshKey",
        })
    }
}

/// How git is called: the program, an identity for commits, a credential, a deadline.
#[derive(Debug, Clone)]
pub struct Git {
    /// The program; `git` is looked up in the service's `PATH`.
    pub program: PathBuf,
    /// Name of the author of Muster's own commits.
    pub author_name: String,
    /// Address of that author.
    pub author_email: String,
    /// What the operator configures of git; none: nothing.
    pub config_file: Option<PathBuf>,
    /// What opens the remote, where it needs to be opened.
    pub credential: Option<Credential>,
    /// For one call.
    pub timeout: Duration,
}

impl Default for Git {
    fn default() -> Self {
        Self {
            program: PathBuf::from("git"),
            author_name: "Muster".to_owned(),
            author_email: "muster@localhost".to_owned(),
            config_file: None,
            credential: None,
            timeout: Duration::from_secs(60),
        }
    }
}

/// One call under construction.
pub(super) struct Call<'a> {
    git: &'a Git,
    directory: &'a Path,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    input: Vec<u8>,
    limit: usize,
}

/// What a call said.
pub(super) struct Output {
    pub success: bool,
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    pub message: String,
}

impl Git {
    /// A call in a repository (or any folder, for one that makes a repository).
    pub(super) fn call<'a>(&'a self, directory: &'a Path, arguments: &[&str]) -> Call<'a> {
        Call {
            git: self,
            directory,
            arguments: arguments.iter().map(OsString::from).collect(),
            environment: Vec::new(),
            input: Vec::new(),
            limit: MAX_OUTPUT,
        }
    }
}

impl Call<'_> {
    pub fn variable(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    pub fn input(mut self, bytes: Vec<u8>) -> Self {
        self.input = bytes;
        self
    }

    pub fn limit(mut self, bytes: usize) -> Self {
        self.limit = bytes;
        self
    }

    /// Runs it; a failure of git itself is an error.
    pub async fn run(self) -> Result<Vec<u8>, GitError> {
        let command = self.name();
        let output = self.output().await?;
        if output.success { Ok(output.stdout) } else { Err(explain(&command, output.message)) }
    }

    /// Runs it and gives its output as one trimmed line of text.
    pub async fn line(self) -> Result<String, GitError> {
        let output = self.run().await?;
        Ok(String::from_utf8_lossy(&output).trim().to_owned())
    }

    fn name(&self) -> String {
        self.arguments.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Runs it and gives whatever came of it; an error only where it could not run, ran too long or said too much.
    pub async fn output(self) -> Result<Output, GitError> {
        let name = self.name();
        let failed = |message: String| GitError::Failed { command: name.clone(), message };
        let mut command = self.command();
        let mut child = command.spawn().map_err(|error| failed(format!("cannot be started: {error}")))?;
        let mut stdin = child.stdin.take().expect("stdin is piped");
        let mut stdout = child.stdout.take().expect("stdout is piped");
        let mut stderr = child.stderr.take().expect("stderr is piped");
        let input = self.input;
        let work = async {
            let write = async {
                // A program that has heard enough closes its end; what it made of it is in its exit status.
                let _ = stdin.write_all(&input).await;
                drop(stdin);
            };
            let ((), out, err) = tokio::join!(write, read(&mut stdout, self.limit), read(&mut stderr, MAX_OUTPUT));
            let status = child.wait().await.map_err(|error| failed(error.to_string()))?;
            Ok::<_, GitError>((status, out.map_err(|e| failed(e.to_string()))?, err.map_err(|e| failed(e.to_string()))?))
        };
        let (status, out, err) =
            tokio::time::timeout(self.git.timeout, work).await.map_err(|_| GitError::Timeout(name.clone()))??;
        let Some(stdout) = out else {
            return Err(GitError::TooLarge { what: format!("the output of git {name}"), limit: self.limit });
        };
        let message: String = String::from_utf8_lossy(&err.unwrap_or_default()).trim().chars().take(MAX_MESSAGE).collect();
        Ok(Output { success: status.success(), code: status.code(), stdout, message })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.git.program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into()))
            .env("HOME", "/nonexistent")
            .env("LC_ALL", "C")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", self.git.config_file.as_deref().unwrap_or(Path::new("/dev/null")))
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "/bin/false")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("GIT_ALLOW_PROTOCOL", "https:http:ssh:file")
            .env("GIT_AUTHOR_NAME", &self.git.author_name)
            .env("GIT_AUTHOR_EMAIL", &self.git.author_email)
            .env("GIT_COMMITTER_NAME", &self.git.author_name)
            .env("GIT_COMMITTER_EMAIL", &self.git.author_email)
            .env("GIT_SSH_COMMAND", self.ssh());
        let mut settings = vec![
            ("core.hooksPath".to_owned(), "/dev/null".to_owned()),
            ("gc.auto".to_owned(), "0".to_owned()),
            ("maintenance.auto".to_owned(), "false".to_owned()),
            ("safe.directory".to_owned(), "*".to_owned()),
            ("http.followRedirects".to_owned(), "initial".to_owned()),
            ("http.lowSpeedLimit".to_owned(), "1000".to_owned()),
            ("http.lowSpeedTime".to_owned(), "30".to_owned()),
            ("commit.gpgSign".to_owned(), "false".to_owned()),
        ];
        if let Some(Credential::Basic { username, password }) = &self.git.credential {
            use base64::Engine as _;
            let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{username}:{password}"));
            settings.push(("http.extraHeader".to_owned(), format!("Authorization: Basic {encoded}")));
        }
        // Settings travel in the environment: arguments can be read by every user of the machine.
        command.env("GIT_CONFIG_COUNT", settings.len().to_string());
        for (index, (key, value)) in settings.into_iter().enumerate() {
            command.env(format!("GIT_CONFIG_KEY_{index}"), key).env(format!("GIT_CONFIG_VALUE_{index}"), value);
        }
        command
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .args(&self.arguments)
            .current_dir(self.directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    fn ssh(&self) -> OsString {
        let mut ssh = OsString::from("ssh -o BatchMode=yes -o ConnectTimeout=10 -o StrictHostKeyChecking=yes -F /dev/null");
        if let Some(Credential::SshKey { key_file, known_hosts_file }) = &self.git.credential {
            let quoted = |path: &Path| format!("'{}'", path.to_string_lossy().replace('\'', "'\\''"));
            ssh.push(format!(
                " -o IdentitiesOnly=yes -i {} -o UserKnownHostsFile={}",
                quoted(key_file),
                quoted(known_hosts_file)
            ));
        }
        ssh
    }
}

/// Reads to the end; none where there is more than `limit`. What is beyond is read and dropped, so that nobody blocks.
async fn read(from: &mut (impl AsyncRead + Unpin), limit: usize) -> std::io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    from.take(limit as u64 + 1).read_to_end(&mut bytes).await?;
    if bytes.len() <= limit {
        return Ok(Some(bytes));
    }
    tokio::io::copy(from, &mut tokio::io::sink()).await?;
    Ok(None)
}

/// Git's words as a cause.
fn explain(command: &str, message: String) -> GitError {
    let unreachable = [
        "Could not resolve host",
        "Failed to connect",
        "Connection refused",
        "Connection timed out",
        "does not appear to be a git repository",
        "Could not read from remote repository",
        "Authentication failed",
        "could not read Username",
        "terminal prompts disabled",
        "Repository not found",
        "unable to access",
        "No such file or directory",
    ];
    if matches!(command, "fetch" | "ls-remote") && unreachable.iter().any(|words| message.contains(words)) {
        return GitError::Unreachable(message);
    }
    GitError::Failed { command: command.to_owned(), message }
}
