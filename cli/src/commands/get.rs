//! `muster get`: resources of a kind.

use super::{App, kinds_and_names};
use crate::{
    error::{Failure, Result},
    kinds::{Scope, parent_name, resource_name},
};
use muster_proto::scheduler::v1::job::State;
use serde_json::json;

const EXAMPLES: &str = "\
Kinds: clusters, fleets, priceBooks, enrolmentTokens, accessTokens, queues, jobs, runs, gitRepositories, applications,
releases, models, modelVersions, policies, fleetPolicies, policyReports

Examples:
  muster get clusters
  muster get jobs -n ml --queue train-queue --state queued
  muster get job/resnet50-train -n ml -o yaml
  muster get runs --of resnet50-train -n ml
  muster get releases --of resnet50-serving -n kurator-system -o name
  muster get clusters -o json | jq '.clusters[].name'";

/// Show resources of a kind
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Kind (plural, singular or short), or KIND/NAME
    kind: String,
    /// Names; all of the kind if none
    names: Vec<String>,
    /// Of every namespace, whatever the context says
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Of this parent: runs of a job, releases of an application, versions of a model, reports of a cluster
    #[arg(long, value_name = "PARENT")]
    of: Option<String>,
    /// Only jobs of this queue
    #[arg(long, value_name = "QUEUE")]
    queue: Option<String>,
    /// Only jobs in this state; may be repeated
    #[arg(long, value_name = "STATE")]
    state: Vec<String>,
}

/// Runs it.
pub async fn run(args: Args, app: &App) -> Result<()> {
    let (kind, names) = kinds_and_names(&args.kind, &args.names)?;
    let spec = kind.spec();
    if spec.plural != "jobs" && (args.queue.is_some() || !args.state.is_empty()) {
        return Err(Failure::usage("--queue and --state are for jobs"));
    }
    let states = args.state.iter().map(|state| job_state(state)).collect::<Result<Vec<_>>>()?;
    let session = app.session()?;
    if names.is_empty() {
        let namespace = if args.all_namespaces { None } else { session.target.namespace.as_deref() };
        let parent = parent_name(spec, args.of.as_deref(), namespace, session.target.namespace())?;
        let queue = args.queue.map_or_else(String::new, |queue| format!("queues/{}", queue.trim_start_matches("queues/")));
        let objects = kind.list(&session, &Scope { parent, queue, states }).await?;
        return app.printer.list(spec, &objects);
    }
    let mut objects = Vec::with_capacity(names.len());
    for name in &names {
        let name = resource_name(spec, name, session.target.namespace())?;
        objects.push(kind.get(&session, &name).await?);
    }
    match objects.as_slice() {
        [object] => app.printer.one(spec, object),
        objects => app.printer.list(spec, objects),
    }
}

/// A job's state by its word, in any case.
fn job_state(word: &str) -> Result<i32> {
    let wire = word.to_uppercase();
    match State::from_str_name(&wire) {
        Some(state) if state != State::Unspecified => Ok(state.into()),
        _ => Err(Failure::usage(format!("--state: {} is no state of a job", json!(word)))
            .hint("queued, placed, running, succeeded, failed, cancelled, refused, lost, suspended")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn job_states_are_known_by_their_words() {
        assert_eq!(job_state("queued"), Ok(State::Queued.into()));
        assert_eq!(job_state("Running"), Ok(State::Running.into()));
        for word in ["state_unspecified", "waiting", ""] {
            assert!(job_state(word).is_err(), "{word}");
        }
    }
}
