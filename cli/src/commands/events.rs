//! `muster events`: what happened to clusters, jobs, applications and releases, as one stream.
//!
//! Four watches are read at once. What exists when a watch begins yields its recorded history; after that every change
//! of state is a line. A watch that breaks is taken up where it ended; one that is too far behind begins anew, and what was
//! shown already is not shown twice.

mod sources;

use super::App;
use crate::{
    error::{Failure, Result},
    kinds::short,
    output::{Table, format::text},
};
use clap::ValueEnum;
use jiff::{Timestamp, tz::TimeZone};
use serde_json::json;
use tokio::sync::mpsc;

const EXAMPLES: &str = "\
Examples:
  muster events
  muster events -w
  muster events -w --of jobs --of releases -o json";

/// Show what happened, or follow what happens
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Go on with what happens from now on
    #[arg(short, long)]
    watch: bool,
    /// Only of this kind; may be repeated
    #[arg(long, value_enum, value_name = "KIND")]
    of: Vec<Source>,
    /// Recorded events shown, the newest
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(0..=5_000), value_name = "N")]
    tail: u16,
}

/// What is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Source {
    /// Clusters.
    Clusters,
    /// Jobs.
    Jobs,
    /// Applications.
    Applications,
    /// Releases.
    Releases,
}

impl Source {
    const ALL: [Self; 4] = [Self::Clusters, Self::Jobs, Self::Applications, Self::Releases];

    fn singular(self) -> &'static str {
        match self {
            Self::Clusters => "cluster",
            Self::Jobs => "job",
            Self::Applications => "application",
            Self::Releases => "release",
        }
    }

    fn plural(self) -> &'static str {
        match self {
            Self::Clusters => "clusters",
            Self::Jobs => "jobs",
            Self::Applications => "applications",
            Self::Releases => "releases",
        }
    }
}

/// A change of state of one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub time: Timestamp,
    /// Of what.
    pub source: Source,
    /// The resource name.
    pub name: String,
    /// The state it went to, in a word.
    pub state: String,
    /// Why.
    pub reason: String,
}

/// What a source tells.
#[derive(Debug)]
pub enum Message {
    /// Something happened.
    Event(Event),
    /// Everything that existed has been told.
    Synced,
    /// The source cannot be read.
    Failed(Failure),
}

/// Told and not yet shown, at most; a slow terminal holds the watches back, and nothing is lost.
const BUFFER: usize = 1_000;

/// Runs it.
pub async fn run(args: Args, app: &App) -> Result<()> {
    let session = app.session()?;
    let sources = if args.of.is_empty() { Source::ALL.to_vec() } else { args.of.clone() };
    let namespace = session.target.namespace.clone();
    let (sender, mut receiver) = mpsc::channel(BUFFER);
    let watches = async {
        let all =
            sources.iter().map(|source| sources::follow(*source, &session, namespace.as_deref(), args.watch, sender.clone()));
        futures::future::join_all(all).await;
    };
    let show = async {
        let (mut history, mut open) = (Vec::new(), sources.len());
        let mut first: Option<Failure> = None;
        while open > 0 {
            match receiver.recv().await {
                None => break,
                Some(Message::Event(event)) => history.push(event),
                Some(Message::Synced) => open -= 1,
                Some(Message::Failed(failure)) => {
                    open -= 1;
                    eprintln!("{failure}");
                    first.get_or_insert(failure);
                }
            }
        }
        if open == 0 && first.is_some() && !args.watch && history.is_empty() {
            return first.map_or(Ok(()), Err);
        }
        history.sort_by(|one, other| (one.time, &one.name).cmp(&(other.time, &other.name)));
        let from = history.len().saturating_sub(args.tail.into());
        let mut name_width = history[from..].iter().map(|event| short(&event.name).chars().count()).max().unwrap_or(20);
        show_all(app, &history[from..])?;
        if !args.watch {
            return first.map_or(Ok(()), Err);
        }
        loop {
            match receiver.recv().await {
                None => return Ok(()),
                Some(Message::Event(event)) => show_one(app, &event, &mut name_width)?,
                Some(Message::Synced) => {}
                Some(Message::Failed(failure)) => eprintln!("{failure}"),
            }
        }
    };
    // The watches of a following command never end by themselves; the reader's end ends both.
    tokio::select! {
        answer = show => answer,
        () = async { watches.await; std::future::pending().await } => Ok(()),
    }
}

fn clock(time: Timestamp) -> String {
    time.to_zoned(TimeZone::system()).strftime("%F %T").to_string()
}

fn show_all(app: &App, events: &[Event]) -> Result<()> {
    if !app.printer.is_for_people() {
        return events.iter().try_for_each(|event| show_one(app, event, &mut 0));
    }
    let mut table = Table::new(["TIME", "KIND", "NAME", "STATE", "REASON"]);
    for event in events {
        let name = short(&event.name);
        table.row([clock(event.time).as_str(), event.source.singular(), &name, &event.state, &event.reason]);
    }
    if table.is_empty() {
        eprintln!("nothing happened yet");
        return Ok(());
    }
    app.printer.table(&table)
}

/// A line whose columns stand about where the table's do; the name's grows with the longest.
fn show_one(app: &App, event: &Event, name_width: &mut usize) -> Result<()> {
    let Event { time, source, name, state, reason } = event;
    if app.printer.is_for_people() {
        let (time, kind, name) = (clock(*time), source.singular(), short(name));
        *name_width = name.chars().count().max(*name_width);
        let line = format!("{time}   {kind:<11}   {name:<0$}   {state:<11}   {reason}", *name_width);
        return text(&format!("{}\n", line.trim_end()));
    }
    app.printer.streamed(&json!({
        "time": time.to_string(), "kind": source.singular(), "name": name, "state": state, "reason": reason,
    }))
}
