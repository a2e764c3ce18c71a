//! The command line: what is common to all commands, and the list of them. Each command's own arguments stand beside it.

use crate::{
    commands::{
        apply, cluster, completion, config, cost, delete, describe, events, explain, get, job, logs, model, policy, rollout,
        simulate, source, submit, token, what_if,
    },
    output::Format,
};
use clap::{Args, Parser, Subcommand};
use std::time::Duration;
use uuid::Uuid;

const EXIT_STATUSES: &str = "\
Exit status:
  0 ok            3 not found          6 a service is unavailable
  1 failure       4 refused by policy  7 a wait or a deadline ran out
  2 usage         5 conflict           8 not permitted    9 invalid manifest or field

Examples:
  muster apply -f platform/
  muster get jobs -A
  muster explain resnet50-train -n ml
  muster rollout status resnet50-serving -n kurator-system -w";

/// Fleets of Kubernetes clusters that train and serve models: one place for jobs, releases, policy and cost.
#[derive(Debug, Parser)]
#[command(name = "muster", version, about, after_help = EXIT_STATUSES, max_term_width = 110)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Common options")]
pub struct Global {
    /// Context of the configuration file to use
    #[arg(long, global = true, env = "MUSTER_CONTEXT", value_name = "NAME")]
    pub context: Option<String>,
    /// How the answer is written
    #[arg(short, long, global = true, value_enum, default_value = "table", value_name = "FORMAT")]
    pub output: Format,
    /// Tables without titles
    #[arg(long, global = true)]
    pub no_headers: bool,
    /// Namespace of names that have none; the context's otherwise
    #[arg(short, long, global = true, env = "MUSTER_NAMESPACE", value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Deadline of each call, repetitions included
    #[arg(long, global = true, default_value = "30s", value_parser = parse_duration, value_name = "DURATION")]
    pub timeout: Duration,
    /// Calls at most while a service is unavailable
    #[arg(long, global = true, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=20), value_name = "N")]
    pub attempts: u32,
    /// Identifies a change: the same command with the same id happens once
    #[arg(long, global = true, value_name = "UUID")]
    pub request_id: Option<Uuid>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    Apply(apply::Args),
    Get(get::Args),
    Describe(describe::Args),
    Delete(delete::Args),
    Submit(submit::Args),
    Job(job::Args),
    Explain(explain::Args),
    Logs(logs::Args),
    Events(events::Args),
    Cluster(cluster::Args),
    Token(token::Args),
    Rollout(rollout::Args),
    Source(source::Args),
    Model(model::Args),
    Policy(policy::Args),
    Cost(cost::Args),
    WhatIf(what_if::Args),
    Simulate(simulate::Args),
    Config(config::Args),
    Completion(completion::Args),
}

impl Command {
    /// Its word, for the trace.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Apply(_) => "apply",
            Self::Get(_) => "get",
            Self::Describe(_) => "describe",
            Self::Delete(_) => "delete",
            Self::Submit(_) => "submit",
            Self::Job(_) => "job",
            Self::Explain(_) => "explain",
            Self::Logs(_) => "logs",
            Self::Events(_) => "events",
            Self::Cluster(_) => "cluster",
            Self::Token(_) => "token",
            Self::Rollout(_) => "rollout",
            Self::Source(_) => "source",
            Self::Model(_) => "model",
            Self::Policy(_) => "policy",
            Self::Cost(_) => "cost",
            Self::WhatIf(_) => "what-if",
            Self::Simulate(_) => "simulate",
            Self::Config(_) => "config",
            Self::Completion(_) => "completion",
        }
    }
}

/// A duration as in `90s` or `1h30m`; days (`7d`) too, since people keep reports and tokens for days.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    if let Some(days) = text.strip_suffix('d').and_then(|days| days.parse::<u32>().ok()) {
        return Ok(Duration::from_secs(u64::from(days) * 86_400));
    }
    muster_core::duration::parse(text).map_err(|error| error.to_string())
}

/// `key=value`.
pub fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("must be KEY=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, error::ErrorKind};

    /// Splits a line of shell that has words, quotes and a pipe.
    fn words(line: &str) -> Vec<String> {
        let (mut words, mut word, mut quote, mut any) = (vec![], String::new(), None, false);
        for letter in line.chars() {
            match (quote, letter) {
                (Some(open), letter) if letter == open => quote = None,
                (None, '\'' | '"') => (quote, any) = (Some(letter), true),
                (None, '|' | '>' | '#' | '&') => break,
                (None, ' ') if any || !word.is_empty() => {
                    words.push(std::mem::take(&mut word));
                    any = false;
                }
                (None, ' ') => {}
                (_, letter) => word.push(letter),
            }
        }
        if any || !word.is_empty() {
            words.push(word);
        }
        words
    }

    /// The `muster` command lines within a text; a pipe's right side counts.
    fn muster_lines(text: &str) -> Vec<&str> {
        text.lines()
            .filter_map(|line| {
                let line = line.trim();
                let line = line.rsplit_once("| muster ").map_or(line, |(left, _)| &line[left.len() + 2..]);
                line.starts_with("muster ").then_some(line)
            })
            .collect()
    }

    fn parses(line: &str) {
        if let Err(error) = Cli::try_parse_from(words(line)) {
            assert!(matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion), "{line}\n{error}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    fn leaves(command: &clap::Command, path: &str, found: &mut Vec<(String, String)>) {
        let path = format!("{path} {}", command.get_name());
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        found.push((path.clone(), help));
        for child in command.get_subcommands() {
            leaves(child, &path, found);
        }
    }

    #[test]
    fn every_command_has_examples_and_every_example_parses() {
        let mut found = Vec::new();
        leaves(&Cli::command(), "", &mut found);
        assert!(found.len() > 40, "{}", found.len());
        for (path, help) in found {
            let examples = help.split_once("Examples:\n").map_or("", |(_, examples)| examples);
            let lines = muster_lines(examples);
            assert!(!lines.is_empty(), "{path} has no example");
            for line in lines {
                parses(line);
                let words: Vec<_> = path.split_whitespace().skip(1).collect();
                assert!(path.trim() == "muster" || line.contains(&words.join(" ")), "{line} is no example of{path}");
            }
        }
    }

    #[test]
    fn every_line_of_the_user_guide_parses() {
        let lines = muster_lines(include_str!("../../docs/user-guide.md"));
        assert!(lines.len() > 50, "{}", lines.len());
        for line in lines {
            parses(line);
        }
    }

    #[test]
    fn common_options_stand_before_or_after_the_command() {
        for line in ["muster -o json -n ml get jobs", "muster get jobs -n ml -o json"] {
            let cli = Cli::try_parse_from(words(line)).expect("legal");
            assert_eq!((cli.global.output, cli.global.namespace.as_deref()), (Format::Json, Some("ml")), "{line}");
        }
    }

    #[test]
    fn wrong_usage_is_refused() {
        for line in [
            "muster",
            "muster gett jobs",
            "muster get jobs --timeout 5",
            "muster get jobs -o xml",
            "muster get jobs --request-id 7",
            "muster get jobs --attempts 0",
            "muster apply",
            "muster policy check",
            "muster cluster join a --label novalue",
        ] {
            let error = Cli::try_parse_from(words(line)).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn durations_may_be_in_days() {
        assert_eq!(parse_duration("7d"), Ok(Duration::from_secs(604_800)));
        assert_eq!(parse_duration("1h30m"), Ok(Duration::from_secs(5_400)));
        assert!(parse_duration("week").is_err());
    }
}
