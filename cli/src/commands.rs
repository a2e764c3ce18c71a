//! The commands, one file a noun or verb, and what they have in common.

pub mod apply;
pub mod cluster;
pub mod completion;
pub mod config;
pub mod cost;
pub mod delete;
pub mod describe;
pub mod events;
pub mod explain;
pub mod get;
pub mod job;
pub mod logs;
pub mod model;
pub mod policy;
pub mod rollout;
pub mod simulate;
pub mod source;
pub mod submit;
pub mod token;
pub mod what_if;

use crate::{
    args::{Command, Global},
    client::{Manner, Session},
    context::{self, File},
    error::{Failure, Result},
    output::{Printer, table::Titles},
    trace::Trace,
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// One invocation.
pub struct App {
    /// What was said for every command.
    pub global: Global,
    /// Where answers go.
    pub printer: Printer,
    trace: Arc<Trace>,
}

impl App {
    /// Begins the invocation's trace; within a runtime.
    pub fn new(global: Global, command: &'static str) -> Self {
        let titles = if global.no_headers { Titles::Hidden } else { Titles::Shown };
        let printer = Printer { format: global.output, titles };
        Self { global, printer, trace: Arc::new(Trace::start(command)) }
    }

    /// Ends the trace.
    pub fn finish(&self, failure: Option<&Failure>) {
        self.trace.finish(failure.map(|failure| failure.message.clone()));
    }

    /// The context in use, ready for calls. Commands that need no service never ask for it.
    pub fn session(&self) -> Result<Session> {
        let path = Self::config_path()?;
        let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
        let mut target = File::load(&path)?.target(self.global.context.as_deref(), &folder, &variable)?;
        if let Some(namespace) = &self.global.namespace {
            target.namespace = Some(namespace.clone());
        }
        let Global { timeout, attempts, request_id, .. } = self.global;
        Ok(Session::new(target, Manner { timeout, attempts, request_id }, Arc::clone(&self.trace)))
    }

    /// Where the configuration file is, or would be.
    pub fn config_path() -> Result<PathBuf> {
        context::path(&variable)
    }
}

/// A variable of the environment; an empty one is none.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Runs a command.
pub async fn run(command: Command, app: &App) -> Result<()> {
    if !matches!(command, Command::Policy(_)) {
        // Before anything is sent.
        app.global.output.check_general()?;
    }
    match command {
        Command::Apply(args) => apply::run(args, app).await,
        Command::Get(args) => get::run(args, app).await,
        Command::Describe(args) => describe::run(args, app).await,
        Command::Delete(args) => delete::run(args, app).await,
        Command::Submit(args) => submit::run(args, app).await,
        Command::Job(args) => job::run(args, app).await,
        Command::Explain(args) => explain::run(args, app).await,
        Command::Logs(args) => logs::run(args, app).await,
        Command::Events(args) => events::run(args, app).await,
        Command::Cluster(args) => cluster::run(args, app).await,
        Command::Token(args) => token::run(args, app).await,
        Command::Rollout(args) => rollout::run(args, app).await,
        Command::Source(args) => source::run(args, app).await,
        Command::Model(args) => model::run(args, app).await,
        Command::Policy(args) => policy::run(args, app).await,
        Command::Cost(args) => cost::run(args, app).await,
        Command::WhatIf(args) => what_if::run(args, app).await,
        Command::Simulate(args) => simulate::run(args, app).await,
        Command::Config(args) => config::run(args, app),
        Command::Completion(args) => completion::run(args),
    }
}

/// The kind and the name that `KIND NAME` or `KIND/NAME` mean, for as many names as there are.
pub fn kinds_and_names(word: &str, names: &[String]) -> Result<(&'static dyn crate::kinds::Kind, Vec<String>)> {
    match word.split_once('/') {
        Some((kind, name)) if names.is_empty() => Ok((crate::kinds::find(kind)?, vec![name.to_owned()])),
        Some(_) => Err(Failure::usage(format!("{word:?} already names one; write KIND NAME… or KIND/NAME"))),
        None => Ok((crate::kinds::find(word)?, names.to_vec())),
    }
}
