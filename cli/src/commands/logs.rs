//! `muster logs`: the lines of a job's or a pod's containers, through the link of its cluster.

use super::App;
use crate::{
    client::{Peer, Session},
    error::{Exit, Failure, Result},
    kinds::{find, resource_name, short, sized},
    output::format::text,
};
use muster_proto::{
    agent::v1::LogsQuery,
    registry::v1::{ReadLogsRequest, cluster_access_service_client::ClusterAccessServiceClient},
    scheduler::v1::{GetJobRequest, GetRunRequest, Job, RunPart, job_service_client::JobServiceClient},
};

const EXAMPLES: &str = "\
Examples:
  muster logs resnet50-train -n ml
  muster logs resnet50-train -n ml --run 1 --tail 1000
  muster logs resnet50-train -n ml -f
  muster logs pod/resnet50-7d9f-x2x1 -n ml --cluster serve-online";

/// Show log lines of a job, or of a pod of a cluster
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// A job, or pod/NAME with --cluster
    target: String,
    /// Go on with new lines
    #[arg(short, long)]
    follow: bool,
    /// Cluster of the pod, or which one of a run that is in several; the first one otherwise
    #[arg(long, value_name = "CLUSTER")]
    cluster: Option<String>,
    /// Run of the job; the current one otherwise
    #[arg(long, value_name = "EPOCH")]
    run: Option<u64>,
    /// Container; the first one otherwise
    #[arg(short, long, value_name = "CONTAINER")]
    container: Option<String>,
    /// Lines from the end of each pod
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000), value_name = "N")]
    tail: u32,
}

/// Runs it.
pub async fn run(args: Args, app: &App) -> Result<()> {
    let session = app.session()?;
    let request = match args.target.strip_prefix("pod/") {
        Some(pod) => of_pod(pod, &args, &session)?,
        None => of_job(&args, &session).await?,
    };
    let cluster = request.cluster.clone();
    let job = request.query.as_ref().is_some_and(|query| query.kind == "Job");
    let mut opened = session
        .open(Peer::Registry, "ReadLogs", |link| async move { sized!(ClusterAccessServiceClient, link).read_logs(request).await })
        .await?;
    let mut lines = 0_usize;
    loop {
        let chunk = match opened.stream.message().await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => break,
            Err(status) => return Err(session.failure(Peer::Registry, &status).about(&cluster)),
        };
        if !app.printer.is_for_people() {
            app.printer.streamed(&serde_json::to_value(&chunk).expect("every message has proto3 JSON"))?;
            continue;
        }
        // A job has many pods; whose line it is must be seen.
        let prefix = if job { format!("{} | ", chunk.pod) } else { String::new() };
        lines += chunk.lines.len();
        text(&chunk.lines.iter().map(|line| format!("{prefix}{line}\n")).collect::<String>())?;
    }
    if lines == 0 && app.printer.is_for_people() {
        eprintln!("no lines");
    }
    Ok(())
}

fn of_pod(pod: &str, args: &Args, session: &Session) -> Result<ReadLogsRequest> {
    let Some(cluster) = &args.cluster else {
        return Err(Failure::usage("--cluster: a pod is found in its cluster only"));
    };
    if args.run.is_some() {
        return Err(Failure::usage("--run is for jobs"));
    }
    let query = query(args, session.target.namespace(), pod, "Pod");
    let cluster = resource_name(find("clusters")?.spec(), cluster, "")?;
    Ok(ReadLogsRequest { cluster, query: Some(query) })
}

async fn of_job(args: &Args, session: &Session) -> Result<ReadLogsRequest> {
    let typed = args.target.strip_prefix("job/").unwrap_or(&args.target);
    let name = resource_name(find("jobs")?.spec(), typed, session.target.namespace())?;
    let (clusters, epoch) = match args.run {
        Some(epoch) => (run_clusters(session, &name, epoch).await?, epoch),
        None => {
            let job = session
                .call(Peer::Scheduler, "GetJob", |link| {
                    let request = GetJobRequest { name: name.clone() };
                    async move { sized!(JobServiceClient, link).get_job(request).await }
                })
                .await?;
            let Job { cluster, parts, run_epoch, reason, .. } = job;
            if cluster.is_empty() {
                let failure = Failure::new(Exit::Conflict, format!("{name} has not run yet: {reason}"));
                return Err(failure.hint(format!("muster explain {typed}")));
            }
            (clusters(cluster, &parts), run_epoch)
        }
    };
    let cluster = one_of(&clusters, args.cluster.as_deref())?;
    let parts: Vec<_> = name.split('/').collect();
    let mut query = query(args, parts[1], parts[3], "Job");
    query.run = format!("{name}/runs/{epoch}");
    Ok(ReadLogsRequest { cluster, query: Some(query) })
}

async fn run_clusters(session: &Session, job: &str, epoch: u64) -> Result<Vec<String>> {
    let run = session
        .call(Peer::Scheduler, "GetRun", |link| {
            let request = GetRunRequest { name: format!("{job}/runs/{epoch}") };
            async move { sized!(JobServiceClient, link).get_run(request).await }
        })
        .await?;
    Ok(clusters(run.cluster, &run.parts))
}

/// The clusters that a run is in.
fn clusters(first: String, parts: &[RunPart]) -> Vec<String> {
    if parts.is_empty() { vec![first] } else { parts.iter().map(|part| part.cluster.clone()).collect() }
}

/// The cluster that is asked for, or the first one.
fn one_of(clusters: &[String], asked: Option<&str>) -> Result<String> {
    let names = || clusters.iter().map(|cluster| short(cluster)).collect::<Vec<_>>().join(", ");
    let found = clusters.iter().find(|cluster| asked.is_none_or(|asked| *cluster == asked || short(cluster) == asked));
    found.cloned().ok_or_else(|| Failure::usage(format!("--cluster: the run is in {}", names())))
}

fn query(args: &Args, namespace: &str, name: &str, kind: &str) -> LogsQuery {
    LogsQuery {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        kind: kind.to_owned(),
        container: args.container.clone().unwrap_or_default(),
        tail_lines: args.tail,
        follow: args.follow,
        run: String::new(),
    }
}
