//! `muster submit`: training jobs, with what a manifest cannot say.

use super::App;
use crate::{
    client::{Peer, Session},
    documents::{self, Document},
    error::{Exit, Failure, Result},
    kinds::{Object, find, kind_of, object, scoped_name, short, sized},
    output::{Format, format::text},
    wait::{Goal, Wait},
};
use clap::ValueEnum;
use muster_proto::scheduler::v1::{CreateJobRequest, Job, job_service_client::JobServiceClient};
use serde_json::json;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  muster submit -f job.yaml
  muster submit -f job.yaml --queue train-queue --max-retries 3 --model resnet50
  muster submit -f job.yaml --wait --wait-timeout 2h
  muster submit -f job.yaml --dry-run";

/// Submit training jobs; policy is asked first
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// File, folder or `-`; may be repeated
    #[arg(short, long, required = true, value_name = "FILE|DIR|-")]
    file: Vec<String>,
    /// Queue; the manifest's otherwise
    #[arg(long, value_name = "QUEUE")]
    queue: Option<String>,
    /// Higher goes first within a queue; the manifest's priority class otherwise
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    priority: Option<i32>,
    /// Times a failed run is started anew
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100), value_name = "N")]
    max_retries: u32,
    /// It may be started elsewhere when its cluster is lost
    #[arg(long)]
    movable: bool,
    /// Model that its cost is charged to
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// Check everything, policy included, and store nothing
    #[arg(long)]
    dry_run: bool,
    /// Wait for it
    #[arg(long, conflicts_with = "dry_run")]
    wait: bool,
    /// What is waited for
    #[arg(long, value_enum, default_value = "finished", requires = "wait")]
    wait_for: WaitFor,
    /// Longest wait
    #[arg(long, default_value = "1h", value_parser = crate::args::parse_duration, value_name = "DURATION")]
    wait_timeout: Duration,
}

/// What `--wait` waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum WaitFor {
    /// Its pods run.
    Running,
    /// It has ended.
    Finished,
}

/// Runs it.
pub async fn run(args: Args, app: &App) -> Result<()> {
    let set = documents::read(&args.file)?;
    if let Some(note) = documents::passed_over_note(&set) {
        eprintln!("{note}");
    }
    let mut faults = Vec::new();
    for document in &set.documents {
        match kind_of(document) {
            Ok(kind) if kind.spec().plural == "jobs" => {}
            Ok(kind) => faults.push(format!("{}: is a {}, no job", document.place(), kind.spec().singular)),
            Err(failure) => faults.push(failure.message),
        }
    }
    if !faults.is_empty() {
        let failure = Failure { details: faults, ..Failure::new(Exit::Invalid, "nothing was submitted") };
        return Err(failure.hint("muster apply takes every kind"));
    }
    let session = app.session()?;
    let total = set.documents.len();
    let (mut submitted, mut failures) = (Vec::new(), Vec::new());
    for document in &set.documents {
        let request_id = match total {
            1 => session.request_id(),
            _ => session.request_id_for(&document.place().to_string()),
        };
        match submit(&session, document, &args, request_id).await {
            Ok(object) => {
                if app.printer.is_for_people() {
                    let suffix = if args.dry_run { "would be accepted (dry run)" } else { "submitted" };
                    text(&format!("job {} {suffix}\n", short(&object.name)))?;
                }
                submitted.push(object);
            }
            Err(failure) if total == 1 => return Err(document.failure(failure)),
            Err(failure) => {
                let failure = document.failure(failure);
                eprintln!("{failure}");
                failures.push(failure);
            }
        }
    }
    match app.printer.format {
        Format::Table | Format::Wide => {}
        Format::Sarif | Format::Junit => app.printer.format.check_general()?,
        Format::Name => app.printer.list(find("jobs")?.spec(), &submitted)?,
        Format::Json | Format::Yaml => match submitted.as_slice() {
            [one] if total == 1 => app.printer.value(&one.json)?,
            all => app.printer.value(&json!({ "jobs": all.iter().map(|object| object.json.clone()).collect::<Vec<_>>() }))?,
        },
    }
    if let Some(first) = failures.first() {
        return Err(Failure::new(first.exit, format!("{} of {total} jobs were not accepted", failures.len())));
    }
    if args.wait {
        let goal = match args.wait_for {
            WaitFor::Running => Goal::Started,
            WaitFor::Finished => Goal::Settled,
        };
        let wait = Wait::new(goal, args.wait_timeout);
        wait.on_all(&session, find("jobs")?, &submitted).await?;
    }
    Ok(())
}

async fn submit(session: &Session, document: &Document, args: &Args, request_id: String) -> Result<Object> {
    let name = scoped_name(find("jobs")?, document, session.target.namespace())?;
    // With generateName there is no name yet, and the namespace is the manifest's or the context's.
    let own = document.manifest.namespace();
    let namespace = if own.is_empty() { session.target.namespace() } else { own };
    let request = CreateJobRequest {
        parent: format!("namespaces/{namespace}"),
        job_id: name.rsplit('/').next().unwrap_or_default().to_owned(),
        job: Some(Job {
            manifest: document.manifest.text.clone(),
            queue: args.queue.as_deref().map_or_else(String::new, |queue| prefixed("queues/", queue)),
            priority: args.priority,
            max_retries: args.max_retries,
            movable: args.movable,
            model: args.model.as_deref().map_or_else(String::new, |model| prefixed("models/", model)),
            ..Job::default()
        }),
        request_id,
        validate_only: args.dry_run,
    };
    let job = session.call(Peer::Scheduler, "CreateJob", |link| {
        let request = request.clone();
        async move { sized!(JobServiceClient, link).create_job(request).await }
    });
    Ok(object(&job.await?))
}

/// A name in its collection, whether or not the collection was typed.
pub fn prefixed(collection: &str, name: &str) -> String {
    format!("{collection}{}", name.trim_start_matches(collection))
}
