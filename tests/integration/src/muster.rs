//! The `muster` command line, as a person types it.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// How it is called: where the services are and with which token.
#[derive(Debug, Clone)]
pub struct Muster {
    pub(crate) program: PathBuf,
    /// The file of contexts, `$MUSTER_CONFIG`.
    pub(crate) config: PathBuf,
    pub(crate) environment: Vec<(String, String)>,
}

/// How a call ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The exit status; -1 where a signal ended it.
    pub status: i32,
    /// Its standard output.
    pub output: String,
    /// Its standard error.
    pub errors: String,
}

impl Muster {
    /// The same, but its spans are sent nowhere.
    pub fn without_spans(mut self) -> Self {
        self.environment.retain(|(name, _)| !name.starts_with("OTEL_"));
        self
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// It can't be started.
    pub async fn call(&self, arguments: &[&str]) -> Result<Outcome> {
        let output = tokio::process::Command::new(&self.program)
            .args(arguments)
            .env("MUSTER_CONFIG", &self.config)
            .env("COLUMNS", "160")
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .with_context(|| format!("run {}", self.program.display()))?;
        Ok(Outcome {
            status: output.status.code().unwrap_or(-1),
            output: String::from_utf8_lossy(&output.stdout).into_owned(),
            errors: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs it and answers its output.
    ///
    /// # Errors
    /// It fails; the message holds what it said.
    pub async fn succeed(&self, arguments: &[&str]) -> Result<String> {
        let outcome = self.call(arguments).await?;
        if outcome.status != 0 {
            bail!("muster {}: exit status {}\n{}{}", arguments.join(" "), outcome.status, outcome.output, outcome.errors);
        }
        Ok(outcome.output)
    }

    /// Runs it with `-o json` and reads what it prints.
    ///
    /// # Errors
    /// It fails, or prints no JSON.
    pub async fn json(&self, arguments: &[&str]) -> Result<Value> {
        let mut arguments = arguments.to_vec();
        arguments.extend(["-o", "json"]);
        let output = self.succeed(&arguments).await?;
        serde_json::from_str(&output).with_context(|| format!("muster {} prints {output:?}", arguments.join(" ")))
    }
}
