//! `muster rollout`: releases of an application: how they stand, what they would change, and what people do to them.

mod show;

use super::App;
use crate::{
    client::{Peer, Session},
    error::{Exit, Failure, Result},
    kinds::{find, object, resource_name, short, sized},
    output::format::text,
    wait::{Goal, Wait},
};
use jiff::Timestamp;
use muster_proto::rollout::v1::{
    AbortReleaseRequest, Application, CreateReleaseRequest, DiffReleaseRequest, GetApplicationRequest, GetReleaseRequest,
    PauseReleaseRequest, PromoteReleaseRequest, Release, ResumeReleaseRequest, RetryReleaseRequest, RollbackApplicationRequest,
    application_service_client::ApplicationServiceClient, release::State, release_service_client::ReleaseServiceClient,
};
use std::time::Duration;

const EXAMPLES: &str = "\
A release is named by its application (then it is the current one) or as APPLICATION with --release.

Examples:
  muster rollout status resnet50-serving -n kurator-system -w
  muster rollout diff resnet50-serving -n kurator-system --commit main
  muster rollout pause resnet50-serving -n kurator-system
  muster rollout rollback resnet50-serving -n kurator-system";

/// Follow, steer and take back releases
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Args)]
struct Named {
    /// The application
    application: String,
    /// The release; the current one otherwise
    #[arg(long, value_name = "RELEASE")]
    release: Option<String>,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Show how a release stands; with -w follow it to its end
    #[command(after_help = "Examples:\n  muster rollout status resnet50-serving -n kurator-system -w --wait-timeout 30m")]
    Status {
        #[command(flatten)]
        named: Named,
        /// Follow it to its end; exit status 0 only if it completed
        #[arg(short, long)]
        watch: bool,
        /// Longest following
        #[arg(long, default_value = "1h", value_parser = crate::args::parse_duration, value_name = "DURATION")]
        wait_timeout: Duration,
    },
    /// Show what a commit would change at each target, and what is missing there
    #[command(after_help = "Examples:\n  muster rollout diff resnet50-serving -n kurator-system --commit main")]
    Diff {
        /// The application
        application: String,
        /// A full hash or a ref of its repository; the current commit otherwise
        #[arg(long, default_value = "", value_name = "COMMIT")]
        commit: String,
    },
    /// Release a commit now, also an older one
    #[command(after_help = "Examples:\n  muster rollout start resnet50-serving -n kurator-system --commit main")]
    Start {
        /// The application
        application: String,
        /// A full hash or a ref of its repository
        #[arg(long, value_name = "COMMIT")]
        commit: String,
    },
    /// Stop before the next step; what is under way goes on
    #[command(after_help = "Examples:\n  muster rollout pause resnet50-serving -n kurator-system")]
    Pause(Named),
    /// Go on
    #[command(after_help = "Examples:\n  muster rollout resume resnet50-serving -n kurator-system")]
    Resume(Named),
    /// Pass the present wave's soak and gate by hand, once
    #[command(after_help = "Examples:\n  muster rollout promote resnet50-serving -n kurator-system")]
    Promote(Named),
    /// Fail a release: everything it touched goes back to last good
    #[command(after_help = "Examples:\n  muster rollout abort resnet50-serving -n kurator-system")]
    Abort(Named),
    /// Take the block off a failed release and release its commit anew
    #[command(after_help = "Examples:\n  muster rollout retry resnet50-serving -n kurator-system --release r-7")]
    Retry(Named),
    /// Go back to the completed release before the last, at once, and write the revert to git
    #[command(after_help = "Examples:\n  muster rollout rollback resnet50-serving -n kurator-system")]
    Rollback {
        /// The application
        application: String,
    },
}

/// Runs it.
pub async fn run(args: Args, app: &App) -> Result<()> {
    let session = app.session()?;
    let request_id = session.request_id();
    let release = match args.verb {
        Verb::Status { named, watch: false, .. } => {
            let (application, name) = release_of(&session, &named).await?;
            let release = get(&session, &name).await?;
            return status(app, application.as_ref(), &release);
        }
        Verb::Status { named, watch: true, wait_timeout } => return follow(app, &session, &named, wait_timeout).await,
        Verb::Diff { application, commit } => return diff(app, &session, &application, &commit).await,
        Verb::Start { application, commit } => {
            let parent = application_name(&session, &application)?;
            let request = CreateReleaseRequest { parent, release: Some(Release { commit, ..Release::default() }), request_id };
            session
                .call(Peer::Rollout, "CreateRelease", |link| {
                    let request = request.clone();
                    async move { sized!(ReleaseServiceClient, link).create_release(request).await }
                })
                .await?
        }
        Verb::Rollback { application } => {
            let request = RollbackApplicationRequest { name: application_name(&session, &application)?, request_id };
            session
                .call(Peer::Rollout, "RollbackApplication", |link| {
                    let request = request.clone();
                    async move { sized!(ReleaseServiceClient, link).rollback_application(request).await }
                })
                .await?
        }
        Verb::Pause(named) => {
            let request = PauseReleaseRequest { name: release_of(&session, &named).await?.1, request_id };
            session
                .call(Peer::Rollout, "PauseRelease", |link| {
                    let request = request.clone();
                    async move { sized!(ReleaseServiceClient, link).pause_release(request).await }
                })
                .await?
        }
        Verb::Resume(named) => {
            let request = ResumeReleaseRequest { name: release_of(&session, &named).await?.1, request_id };
            session
                .call(Peer::Rollout, "ResumeRelease", |link| {
                    let request = request.clone();
                    async move { sized!(ReleaseServiceClient, link).resume_release(request).await }
                })
                .await?
        }
        Verb::Promote(named) => {
            let request = PromoteReleaseRequest { name: release_of(&session, &named).await?.1, request_id };
            session
                .call(Peer::Rollout, "PromoteRelease", |link| {
                    let request = request.clone();
                    async move { sized!(ReleaseServiceClient, link).promote_release(request).await }
                })
                .await?
        }
        Verb::Abort(named) => {
            let request = AbortReleaseRequest { name: release_of(&session, &named).await?.1, request_id };
            session
                .call(Peer::Rollout, "AbortRelease", |link| {
                    let request = request.clone();
                    async move { sized!(ReleaseServiceClient, link).abort_release(request).await }
                })
                .await?
        }
        Verb::Retry(named) => {
            let request = RetryReleaseRequest { name: release_of(&session, &named).await?.1, request_id };
            session
                .call(Peer::Rollout, "RetryRelease", |link| {
                    let request = request.clone();
                    async move { sized!(ReleaseServiceClient, link).retry_release(request).await }
                })
                .await?
        }
    };
    app.printer.one(find("releases")?.spec(), &object(&release))
}

fn application_name(session: &Session, typed: &str) -> Result<String> {
    resource_name(find("applications")?.spec(), typed, session.target.namespace())
}

async fn application(session: &Session, name: &str) -> Result<Application> {
    session
        .call(Peer::Rollout, "GetApplication", |link| {
            let request = GetApplicationRequest { name: name.to_owned() };
            async move { sized!(ApplicationServiceClient, link).get_application(request).await }
        })
        .await
}

async fn get(session: &Session, name: &str) -> Result<Release> {
    session
        .call(Peer::Rollout, "GetRelease", |link| {
            let request = GetReleaseRequest { name: name.to_owned() };
            async move { sized!(ReleaseServiceClient, link).get_release(request).await }
        })
        .await
}

/// The release that was named; the application too where it had to be asked.
async fn release_of(session: &Session, named: &Named) -> Result<(Option<Application>, String)> {
    if let Some(release) = &named.release {
        let release = release.rsplit('/').next().unwrap_or_default();
        let application = application_name(session, &named.application)?;
        return Ok((None, resource_name(find("releases")?.spec(), &format!("{application}/releases/{release}"), "")?));
    }
    // A whole release name is taken as one.
    if let Ok(name) = resource_name(find("releases")?.spec(), &named.application, session.target.namespace())
        && named.application.contains("/releases/")
    {
        return Ok((None, name));
    }
    let application = application(session, &application_name(session, &named.application)?).await?;
    let release = application.current_release.clone();
    if release.is_empty() {
        return Err(Failure::new(
            Exit::NotFound,
            format!("{} has no release yet: {}", short(&application.name), application.reason),
        ));
    }
    Ok((Some(application), release))
}

fn status(app: &App, application: Option<&Application>, release: &Release) -> Result<()> {
    app.printer.either(
        || show::status(application, release, Timestamp::now()),
        || serde_json::to_value(release).expect("every message has proto3 JSON"),
    )
}

/// Follows a release to its end, and the one that took its place after it.
async fn follow(app: &App, session: &Session, named: &Named, limit: Duration) -> Result<()> {
    let kind = find("releases")?;
    let wait = Wait::new(Goal::Settled, limit);
    let (mut application, mut name) = release_of(session, named).await?;
    loop {
        let answer = wait.on(session, kind, &name).await;
        let release = match &answer {
            Err(failure) if failure.exit == Exit::TimedOut => return answer.map(|_| ()),
            Ok(_) | Err(_) => get(session, &name).await?,
        };
        if release.state() == State::Superseded && application.is_some() {
            let next = release_of(session, named).await?;
            if next.1 != name {
                eprintln!("{} took the place of {}", short(&next.1), short(&name));
                (application, name) = next;
                continue;
            }
        }
        status(app, application.as_ref(), &release)?;
        return answer.map(|_| ());
    }
}

async fn diff(app: &App, session: &Session, typed: &str, commit: &str) -> Result<()> {
    let application = application_name(session, typed)?;
    let answer = session
        .call(Peer::Rollout, "DiffRelease", |link| {
            let request = DiffReleaseRequest { application: application.clone(), commit: commit.to_owned() };
            async move { sized!(ReleaseServiceClient, link).diff_release(request).await }
        })
        .await?;
    if app.printer.is_for_people() {
        return text(&show::diff(&answer));
    }
    app.printer.value(&serde_json::to_value(&answer).expect("every message has proto3 JSON"))
}
