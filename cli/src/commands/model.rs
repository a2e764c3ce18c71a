//! `muster model`: models, their versions, and the news that a training is complete.

use super::App;
use crate::{
    client::Peer,
    error::{Exit, Failure, Result},
    kinds::{Scope, find, object, parent_name, resource_name, sized},
    wait::{Goal, Wait},
};
use jiff::Timestamp;
use muster_proto::{
    event::v1::TrainingComplete,
    rollout::v1::{ReportTrainingCompleteRequest, model_service_client::ModelServiceClient},
};
use std::{fs, path::PathBuf, time::Duration};

const EXAMPLES: &str = "\
Examples:
  muster model list
  muster model list --of resnet50
  muster model report-complete resnet50 --version v3 --digest sha256:0f0e --uri s3://models/resnet50/v3";

const REPORT_EXAMPLES: &str = "\
Examples:
  muster model report-complete resnet50 --version v3 --digest sha256:0f0e --uri s3://models/resnet50/v3 --image v3
  muster model report-complete resnet50 --version v3 --digest sha256:0f0e --uri s3://models/resnet50/v3 --metric top1=0.761 --job ml/resnet50-train --run-epoch 1
  muster model report-complete -f event.json --wait";

/// Models and their versions
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Show models, or the versions of one
    #[command(after_help = "Examples:\n  muster model list\n  muster model list --of resnet50")]
    List {
        /// Versions of this model
        #[arg(long, value_name = "MODEL")]
        of: Option<String>,
    },
    /// Report that a training ended and left a model; the same report twice is one
    #[command(after_help = REPORT_EXAMPLES)]
    ReportComplete(Box<Report>),
}

#[derive(Debug, clap::Args)]
struct Report {
    /// The model
    #[arg(required_unless_present = "file")]
    model: Option<String>,
    /// The event's data as JSON, as it would be on Kafka
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["model", "version", "digest", "uri"])]
    file: Option<PathBuf>,
    /// Its version, as the pipeline names it
    #[arg(long, required_unless_present = "file", value_name = "VERSION")]
    version: Option<String>,
    /// Digest of the artifact
    #[arg(long, required_unless_present = "file", value_name = "sha256:…")]
    digest: Option<String>,
    /// Where the artifact lies
    #[arg(long, required_unless_present = "file", value_name = "URI")]
    uri: Option<String>,
    /// When the training ended (RFC 3339); now otherwise
    #[arg(long, value_name = "TIME")]
    completed_at: Option<Timestamp>,
    /// Image tag or full image, where the release changes the image
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// What was measured; may be repeated
    #[arg(long, value_parser = parse_metric, value_name = "NAME=NUMBER")]
    metric: Vec<(String, f64)>,
    /// What it was trained on
    #[arg(long, value_name = "DATASET")]
    dataset: Option<String>,
    /// The job that trained it
    #[arg(long, value_name = "JOB", requires = "run_epoch")]
    job: Option<String>,
    /// Epoch of the job's run; in its pods it is MUSTER_RUN_EPOCH
    #[arg(long, value_name = "EPOCH", requires = "job")]
    run_epoch: Option<u64>,
    /// Wait until its commit is in git
    #[arg(long)]
    wait: bool,
    /// Longest wait
    #[arg(long, default_value = "5m", value_parser = crate::args::parse_duration, value_name = "DURATION")]
    wait_timeout: Duration,
}

fn parse_metric(text: &str) -> Result<(String, f64), String> {
    let (name, value) = crate::args::parse_pair(text)?;
    let value = value.parse().map_err(|_| format!("{value:?} is no number"))?;
    Ok((name, value))
}

/// Runs it.
pub async fn run(args: Args, app: &App) -> Result<()> {
    let session = app.session()?;
    let report = match args.verb {
        Verb::List { of: None } => {
            let models = find("models")?;
            return app.printer.list(models.spec(), &models.list(&session, &Scope::default()).await?);
        }
        Verb::List { of: Some(model) } => {
            let versions = find("modelVersions")?;
            let parent = parent_name(versions.spec(), Some(&model), None, "")?;
            let scope = Scope { parent, ..Scope::default() };
            return app.printer.list(versions.spec(), &versions.list(&session, &scope).await?);
        }
        Verb::ReportComplete(report) => report,
    };
    let event = event(&report, session.target.namespace())?;
    let (wait, limit) = (report.wait, report.wait_timeout);
    let request = ReportTrainingCompleteRequest { event: Some(event), request_id: session.request_id() };
    let version = session
        .call(Peer::Rollout, "ReportTrainingComplete", |link| {
            let request = request.clone();
            async move { sized!(ModelServiceClient, link).report_training_complete(request).await }
        })
        .await?;
    let kind = find("modelVersions")?;
    let object = match wait {
        true => Wait::new(Goal::Settled, limit).on(&session, kind, &version.name).await?,
        false => object(&version),
    };
    app.printer.one(kind.spec(), &object)
}

/// The event that was given by file or by options.
fn event(report: &Report, namespace: &str) -> Result<TrainingComplete> {
    if let Some(path) = &report.file {
        let text = fs::read_to_string(path).map_err(|error| Failure::file(path, &error))?;
        return serde_json::from_str(&text).map_err(|error| {
            Failure::new(Exit::Invalid, format!("{}:{}:{}: {error}", path.display(), error.line(), error.column()))
        });
    }
    let completed_at = report.completed_at.unwrap_or_else(Timestamp::now);
    let text = |given: &Option<String>| given.clone().unwrap_or_default();
    let job = report.job.as_deref().map(|job| resource_name(find("jobs")?.spec(), job, namespace)).transpose()?;
    Ok(TrainingComplete {
        model: text(&report.model).trim_start_matches("models/").to_owned(),
        version: text(&report.version),
        digest: text(&report.digest),
        uri: text(&report.uri),
        completed_at: Some(muster_proto::Timestamp {
            seconds: completed_at.as_second(),
            nanos: completed_at.subsec_nanosecond(),
        }),
        image: text(&report.image),
        metrics: report.metric.iter().cloned().collect(),
        dataset: text(&report.dataset),
        job: job.unwrap_or_default(),
        run_epoch: report.run_epoch.unwrap_or_default(),
    })
}
