//! `muster cluster`: how a cluster joins, what its preflight found, and how it is taken out of use.

mod preflight;

use super::{App, token::in_future};
use crate::{
    client::{Peer, Session, absent_is_none},
    error::{Exit, Failure, Result},
    kinds::{Scope, find, object, resource_name, short, sized},
    output::human,
    wait::{Goal, Wait},
};
use muster_proto::{
    FieldMask,
    registry::v1::{
        Cluster, CordonClusterRequest, CreateClusterRequest, CreateEnrolmentTokenRequest, DrainClusterRequest, EnrolmentToken,
        GetClusterRequest, LeaveClusterRequest, UncordonClusterRequest, UpdateClusterRequest,
        cluster_service_client::ClusterServiceClient, enrolment_token_service_client::EnrolmentTokenServiceClient,
    },
    scheduler::v1::job::State as JobState,
};
use std::{io::IsTerminal, path::Path, time::Duration};
use tokio::time::Instant;

const EXAMPLES: &str = "\
Examples:
  muster cluster join edge-01 --label tier=edge
  muster cluster preflight edge-01
  muster cluster cordon edge-01
  muster cluster drain train-idc --wait
  muster cluster leave edge-01";

/// Let clusters join, look at them, take them out of use
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Mint a one-time token and print what to run in the cluster
    #[command(
        after_help = "Examples:\n  muster cluster join edge-01 --label tier=edge --region eu-west\n  muster cluster join train-idc --takes-jobs --expires-in 2h --wait"
    )]
    Join(Join),
    /// Show what the agent found before it was let in; exit status 1 where something is wrong
    #[command(after_help = "Examples:\n  muster cluster preflight edge-01")]
    Preflight {
        /// The cluster
        cluster: String,
    },
    /// Nothing new goes there; what runs goes on
    #[command(after_help = "Examples:\n  muster cluster cordon edge-01")]
    Cordon {
        /// The cluster
        cluster: String,
    },
    /// Take a cordon or a drain back
    #[command(after_help = "Examples:\n  muster cluster uncordon edge-01")]
    Uncordon {
        /// The cluster
        cluster: String,
    },
    /// Cordon, and besides jobs are moved away as they can be
    #[command(after_help = "Examples:\n  muster cluster drain train-idc --wait --wait-timeout 2h")]
    Drain {
        /// The cluster
        cluster: String,
        /// Wait until no job is placed there
        #[arg(long)]
        wait: bool,
        /// Longest wait
        #[arg(long, default_value = "1h", value_parser = crate::args::parse_duration, value_name = "DURATION")]
        wait_timeout: Duration,
    },
    /// Let a cluster leave; what runs there stays unless told otherwise
    #[command(after_help = "Examples:\n  muster cluster leave edge-01\n  muster cluster leave edge-01 --remove-workloads --yes")]
    Leave {
        /// The cluster
        cluster: String,
        /// Remove what Muster applied there first
        #[arg(long)]
        remove_workloads: bool,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
}

#[derive(Debug, clap::Args)]
struct Join {
    /// The name it will have
    cluster: String,
    /// Label for fleets and tiers; may be repeated
    #[arg(long, value_parser = crate::args::parse_pair, value_name = "KEY=VALUE")]
    label: Vec<(String, String)>,
    /// Where it stands
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
    /// The scheduler may use it where a queue names no tiers
    #[arg(long)]
    takes_jobs: bool,
    /// Lifetime of the token, at most 7d
    #[arg(long, default_value = "1h", value_parser = crate::args::parse_duration, value_name = "DURATION")]
    expires_in: Duration,
    /// Wait until its agent has joined
    #[arg(long)]
    wait: bool,
    /// Longest wait
    #[arg(long, default_value = "15m", value_parser = crate::args::parse_duration, value_name = "DURATION")]
    wait_timeout: Duration,
}

/// Runs it.
pub async fn run(args: Args, app: &App) -> Result<()> {
    let session = app.session()?;
    let request_id = session.request_id();
    let cluster = match args.verb {
        Verb::Join(join) => return self::join(join, app, &session).await,
        Verb::Preflight { cluster } => return preflight::show(&get(&session, &named(&cluster)?).await?, app),
        Verb::Cordon { cluster } => {
            let request = CordonClusterRequest { name: named(&cluster)?, request_id };
            session
                .call(Peer::Registry, "CordonCluster", |link| {
                    let request = request.clone();
                    async move { sized!(ClusterServiceClient, link).cordon_cluster(request).await }
                })
                .await?
        }
        Verb::Uncordon { cluster } => {
            let request = UncordonClusterRequest { name: named(&cluster)?, request_id };
            session
                .call(Peer::Registry, "UncordonCluster", |link| {
                    let request = request.clone();
                    async move { sized!(ClusterServiceClient, link).uncordon_cluster(request).await }
                })
                .await?
        }
        Verb::Drain { cluster, wait, wait_timeout } => {
            let request = DrainClusterRequest { name: named(&cluster)?, request_id };
            let cluster = session
                .call(Peer::Registry, "DrainCluster", |link| {
                    let request = request.clone();
                    async move { sized!(ClusterServiceClient, link).drain_cluster(request).await }
                })
                .await?;
            if wait {
                drained(&session, &cluster.name, wait_timeout).await?;
                get(&session, &cluster.name).await?
            } else {
                cluster
            }
        }
        Verb::Leave { cluster, remove_workloads, yes } => {
            let name = named(&cluster)?;
            if remove_workloads && !yes {
                confirm(&format!("remove everything Muster applied to {cluster}?"))?;
            }
            let request = LeaveClusterRequest { name, remove_workloads, request_id };
            session
                .call(Peer::Registry, "LeaveCluster", |link| {
                    let request = request.clone();
                    async move { sized!(ClusterServiceClient, link).leave_cluster(request).await }
                })
                .await?
        }
    };
    app.printer.one(find("clusters")?.spec(), &object(&cluster))
}

fn named(typed: &str) -> Result<String> {
    resource_name(find("clusters")?.spec(), typed, "")
}

async fn get(session: &Session, name: &str) -> Result<Cluster> {
    session
        .call(Peer::Registry, "GetCluster", |link| {
            let request = GetClusterRequest { name: name.to_owned() };
            async move { sized!(ClusterServiceClient, link).get_cluster(request).await }
        })
        .await
}

async fn join(join: Join, app: &App, session: &Session) -> Result<()> {
    let name = named(&join.cluster)?;
    declare(&join, &name, session).await?;
    let request = CreateEnrolmentTokenRequest {
        enrolment_token_id: String::new(),
        enrolment_token: Some(EnrolmentToken {
            cluster: name.clone(),
            expire_time: Some(in_future(join.expires_in)?),
            ..EnrolmentToken::default()
        }),
        request_id: session.request_id(),
    };
    let token = session
        .call(Peer::Registry, "CreateEnrolmentToken", |link| {
            let request = request.clone();
            async move { sized!(EnrolmentTokenServiceClient, link).create_enrolment_token(request).await }
        })
        .await?;
    if token.secret.is_empty() {
        let message = format!("{} was made by an earlier request; its secret was shown then", token.name);
        return Err(Failure::new(Exit::Conflict, message).hint("leave --request-id out to mint another"));
    }
    let target = &session.target;
    let instructions = || instructions(&join, target.address(Peer::Registry), target.ca_file.as_deref(), &token.secret);
    app.printer.either(instructions, || serde_json::to_value(&token).expect("every message has proto3 JSON"))?;
    if join.wait {
        Wait::new(Goal::Settled, join.wait_timeout).on(session, find("clusters")?, &name).await?;
    }
    Ok(())
}

/// Stores what was said of the cluster, before its agent comes; without a word the token declares it.
async fn declare(join: &Join, name: &str, session: &Session) -> Result<()> {
    let Join { label, region, takes_jobs, .. } = join;
    if label.is_empty() && region.is_none() && !takes_jobs {
        return Ok(());
    }
    let cluster = Cluster {
        name: name.to_owned(),
        labels: label.iter().cloned().collect(),
        region: region.clone().unwrap_or_default(),
        takes_jobs: *takes_jobs,
        ..Cluster::default()
    };
    let request_id = session.request_id_for(name);
    if absent_is_none(get(session, name).await)?.is_none() {
        let request = CreateClusterRequest { cluster_id: short(name), cluster: Some(cluster), request_id };
        let made = session.call(Peer::Registry, "CreateCluster", |link| {
            let request = request.clone();
            async move { sized!(ClusterServiceClient, link).create_cluster(request).await }
        });
        return made.await.map(|_| ());
    }
    let said = [(!label.is_empty(), "labels"), (region.is_some(), "region"), (*takes_jobs, "takes_jobs")];
    let paths = said.into_iter().filter(|(said, _)| *said).map(|(_, path)| path.to_owned()).collect();
    let request = UpdateClusterRequest { cluster: Some(cluster), update_mask: Some(FieldMask { paths }), request_id };
    let changed = session.call(Peer::Registry, "UpdateCluster", |link| {
        let request = request.clone();
        async move { sized!(ClusterServiceClient, link).update_cluster(request).await }
    });
    changed.await.map(|_| ())
}

/// What to paste where the agent will run: the token in a file of its own, and the agent's configuration.
fn instructions(join: &Join, registry: &str, ca_file: Option<&Path>, secret: &str) -> String {
    let Join { cluster, expires_in, .. } = join;
    let lifetime = human::duration(*expires_in);
    let ca_file = ca_file.map_or_else(|| "ca.pem".to_owned(), |path| path.display().to_string());
    format!(
        "\
# {cluster} may join once, within {lifetime}. Where its agent will run, with a kubeconfig of the cluster:
(umask 077; echo {secret} > {cluster}.token)
cat > {cluster}.toml <<'END'
cluster = \"{cluster}\"
state_dir = \"{cluster}.state\"
kubeconfig = \"{cluster}.kubeconfig\"

[hub]
address = \"{registry}\"
ca_file = \"{ca_file}\"
token_file = \"{cluster}.token\"
END
muster-agent run --config {cluster}.toml
"
    )
}

fn confirm(question: &str) -> Result<()> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage("nobody is there to confirm").hint("--yes does not ask"));
    }
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    match std::io::stdin().read_line(&mut answer) {
        Ok(_) if answer.trim().eq_ignore_ascii_case("y") => Ok(()),
        _ => Err(Failure::new(Exit::Failure, "nothing was done")),
    }
}

/// Waits until no job is placed in a cluster, and says how many still are.
async fn drained(session: &Session, cluster: &str, limit: Duration) -> Result<()> {
    let jobs = find("jobs")?;
    let states = [JobState::Placed, JobState::Running, JobState::Lost].map(i32::from).to_vec();
    let scope = Scope { parent: "namespaces/-".to_owned(), queue: String::new(), states };
    let deadline = Instant::now() + limit;
    let mut said = None;
    loop {
        let left = jobs.list(session, &scope).await?.iter().filter(|job| job.json["cluster"] == *cluster).count();
        if left == 0 {
            return Ok(());
        }
        if said != Some(left) {
            eprintln!("{}: jobs still there: {left}", short(cluster));
            said = Some(left);
        }
        if Instant::now() >= deadline {
            let waited = human::duration(limit);
            return Err(Failure::new(Exit::TimedOut, format!("{}: jobs still there after {waited}: {left}", short(cluster))));
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use clap::Parser;

    #[test]
    fn the_token_is_in_no_argument_of_a_program_and_the_configuration_is_toml() {
        let cli = Cli::try_parse_from(["muster", "cluster", "join", "edge-01"]).expect("legal");
        let Command::Cluster(Args { verb: Verb::Join(join) }) = cli.command else { panic!("it is a join") };
        let text = instructions(&join, "https://hub.example.com:7401", Some(Path::new("/etc/ca.pem")), "s3cret");
        let file = text.split("<<'END'\n").nth(1).and_then(|rest| rest.split("\nEND").next()).expect("has a file");
        let file: toml::Table = toml::from_str(file).expect("is TOML");
        assert_eq!(file["hub"]["address"].as_str(), Some("https://hub.example.com:7401"));
        assert_eq!(file["hub"]["ca_file"].as_str(), Some("/etc/ca.pem"));
        // `echo` is a shell's own; a program's arguments could be seen by others.
        assert_eq!(text.matches("s3cret").count(), 1);
        assert!(text.contains("(umask 077; echo s3cret > edge-01.token)"), "{text}");
    }
}
