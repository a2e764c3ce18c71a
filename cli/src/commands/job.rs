//! `muster job`: what can be done to a job that was submitted.

use super::App;
use crate::{
    client::Peer,
    error::Result,
    kinds::{find, object, resource_name, sized},
};
use muster_proto::scheduler::v1::{
    CancelJobRequest, Job, ResumeJobRequest, SuspendJobRequest, UpdateJobRequest, job_service_client::JobServiceClient,
};

const EXAMPLES: &str = "\
Examples:
  muster job cancel resnet50-train -n ml
  muster job suspend resnet50-train -n ml
  muster job resume resnet50-train -n ml
  muster job priority resnet50-train 100 -n ml";

/// Cancel, suspend, resume jobs, or change their priority
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// End a job; its pods are removed
    #[command(after_help = "Examples:\n  muster job cancel resnet50-train -n ml")]
    Cancel {
        /// The job
        job: String,
    },
    /// Take a job out of its queue's order; its GPUs are freed
    #[command(after_help = "Examples:\n  muster job suspend resnet50-train -n ml")]
    Suspend {
        /// The job
        job: String,
    },
    /// Put a suspended job back where it was
    #[command(after_help = "Examples:\n  muster job resume resnet50-train -n ml")]
    Resume {
        /// The job
        job: String,
    },
    /// Change the priority of a job that waits
    #[command(after_help = "Examples:\n  muster job priority resnet50-train 100 -n ml")]
    Priority {
        /// The job
        job: String,
        /// Higher goes first within a queue
        #[arg(allow_negative_numbers = true)]
        priority: i32,
    },
}

/// Runs it.
pub async fn run(args: Args, app: &App) -> Result<()> {
    let session = app.session()?;
    let spec = find("jobs")?.spec();
    let named = |typed: &str| resource_name(spec, typed, session.target.namespace());
    let request_id = session.request_id();
    let job: Job = match args.verb {
        Verb::Cancel { job } => {
            let request = CancelJobRequest { name: named(&job)?, request_id };
            session
                .call(Peer::Scheduler, "CancelJob", |link| {
                    let request = request.clone();
                    async move { sized!(JobServiceClient, link).cancel_job(request).await }
                })
                .await?
        }
        Verb::Suspend { job } => {
            let request = SuspendJobRequest { name: named(&job)?, request_id };
            session
                .call(Peer::Scheduler, "SuspendJob", |link| {
                    let request = request.clone();
                    async move { sized!(JobServiceClient, link).suspend_job(request).await }
                })
                .await?
        }
        Verb::Resume { job } => {
            let request = ResumeJobRequest { name: named(&job)?, request_id };
            session
                .call(Peer::Scheduler, "ResumeJob", |link| {
                    let request = request.clone();
                    async move { sized!(JobServiceClient, link).resume_job(request).await }
                })
                .await?
        }
        Verb::Priority { job, priority } => {
            let job = Job { name: named(&job)?, priority: Some(priority), ..Job::default() };
            let request = UpdateJobRequest { job: Some(job), update_mask: None, request_id };
            session
                .call(Peer::Scheduler, "UpdateJob", |link| {
                    let request = request.clone();
                    async move { sized!(JobServiceClient, link).update_job(request).await }
                })
                .await?
        }
    };
    app.printer.one(spec, &object(&job))
}
