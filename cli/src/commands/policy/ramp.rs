//! `muster policy ramp`: what people do to a binding on its way from audit to enforce.

use super::super::App;
use crate::{
    client::Peer,
    error::Result,
    kinds::{find, object, resource_name, sized},
};
use muster_proto::policy::v1::{
    AbortRampRequest, PauseRampRequest, ResumeRampRequest, fleet_policy_service_client::FleetPolicyServiceClient,
};

const EXAMPLES: &str = "\
How far a ramp is, and what holds it, is in `muster get fleetPolicies` and `muster describe fleetPolicy NAME`.

Examples:
  muster policy ramp pause ml-baseline
  muster policy ramp resume ml-baseline
  muster policy ramp abort ml-baseline";

/// Steer a FleetPolicy on its way from audit to enforce
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Args)]
struct Named {
    /// The FleetPolicy
    fleet_policy: String,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Stop where it is: no cluster turns until it is resumed
    #[command(after_help = "Examples:\n  muster policy ramp pause ml-baseline")]
    Pause(Named),
    /// Go on: the wave soaks anew, from the violations that are reported now; one that was aborted begins anew
    #[command(after_help = "Examples:\n  muster policy ramp resume ml-baseline")]
    Resume(Named),
    /// Take it back: every cluster audits
    #[command(after_help = "Examples:\n  muster policy ramp abort ml-baseline")]
    Abort(Named),
}

/// Runs it.
pub async fn run(args: Args, app: &App) -> Result<()> {
    let session = app.session()?;
    let request_id = session.request_id();
    let spec = find("fleetPolicies")?.spec();
    let named = |named: &Named| resource_name(spec, &named.fleet_policy, "");
    let answer = match args.verb {
        Verb::Pause(binding) => {
            let request = PauseRampRequest { name: named(&binding)?, request_id };
            session
                .call(Peer::Policy, "PauseRamp", |link| {
                    let request = request.clone();
                    async move { sized!(FleetPolicyServiceClient, link).pause_ramp(request).await }
                })
                .await?
        }
        Verb::Resume(binding) => {
            let request = ResumeRampRequest { name: named(&binding)?, request_id };
            session
                .call(Peer::Policy, "ResumeRamp", |link| {
                    let request = request.clone();
                    async move { sized!(FleetPolicyServiceClient, link).resume_ramp(request).await }
                })
                .await?
        }
        Verb::Abort(binding) => {
            let request = AbortRampRequest { name: named(&binding)?, request_id };
            session
                .call(Peer::Policy, "AbortRamp", |link| {
                    let request = request.clone();
                    async move { sized!(FleetPolicyServiceClient, link).abort_ramp(request).await }
                })
                .await?
        }
    };
    app.printer.one(spec, &object(&answer))
}
