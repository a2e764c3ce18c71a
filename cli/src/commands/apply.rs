//! `muster apply`: stores every document of a set, whether it exists or not.
//!
//! A set has no order: the services accept references to what does not exist yet. Documents are sent by kind all the
//! same, jobs last, so that a job meets the policies that came with it.

use super::App;
use crate::{
    client::{Peer, Session, absent_is_none},
    documents::{self, Document},
    error::{Exit, Failure, Result},
    kinds::{Change, Kind, Object, cluster_from, kind_of, object, scoped_name, short, sized},
    output::{Format, format::text},
    wait::{self, Goal, Wait},
};
use futures::future::join_all;
use muster_core::manifest;
use muster_proto::registry::v1::{CreateClusterRequest, UpdateClusterRequest, cluster_service_client::ClusterServiceClient};
use serde_json::json;
use std::{collections::BTreeMap, time::Duration};

const EXAMPLES: &str = "\
Examples:
  muster apply -f platform/
  muster apply -f queue.yaml -f fleet.yaml --dry-run
  muster apply -f resnet50-serving.yaml --wait --wait-timeout 20m
  kustomize build overlays/prod | muster apply -f -";

/// Store documents: a file, a folder with everything below it, or standard input
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// File, folder or `-`; may be repeated
    #[arg(short, long, required = true, value_name = "FILE|DIR|-")]
    file: Vec<String>,
    /// Let the services check everything and store nothing
    #[arg(long)]
    dry_run: bool,
    /// Wait until everything stands: applications healthy, clusters live, repositories fetched, jobs running or done
    #[arg(long, conflicts_with = "dry_run")]
    wait: bool,
    /// Longest wait
    #[arg(long, default_value = "10m", value_parser = crate::args::parse_duration, value_name = "DURATION")]
    wait_timeout: Duration,
}

/// One document on its way.
struct Step {
    kind: &'static dyn Kind,
    /// Empty where the service makes it up.
    name: String,
    document: Document,
}

/// What became of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Created,
    Configured,
    Unchanged,
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Configured => "configured",
            Self::Unchanged => "unchanged",
        }
    }
}

/// Runs it.
pub async fn run(args: Args, app: &App) -> Result<()> {
    let set = documents::read(&args.file)?;
    if let Some(note) = documents::passed_over_note(&set) {
        eprintln!("{note}");
    }
    let session = app.session()?;
    let steps = plan(set.documents, app.global.namespace.as_deref(), session.target.namespace())?;
    let total = steps.len();
    let (mut stored, mut failures) = (Vec::new(), Vec::new());
    for step in steps {
        let request_id = if total == 1 { session.request_id() } else { session.request_id_for(&identity(&step)) };
        match apply(&session, &step, args.dry_run, request_id).await {
            Ok((outcome, object)) => {
                report(app, &step, outcome, &object, args.dry_run)?;
                stored.push((step.kind, object));
            }
            Err(failure) => {
                let failure = step.document.failure(failure);
                if total > 1 {
                    eprintln!("{failure}");
                }
                failures.push(failure);
            }
        }
    }
    if matches!(app.printer.format, Format::Json | Format::Yaml) {
        app.printer.value(&json!({ "items": stored.iter().map(|(_, object)| object.json.clone()).collect::<Vec<_>>() }))?;
    }
    match (failures.pop(), failures.is_empty()) {
        (None, _) => {}
        (Some(only), true) if total == 1 => return Err(only),
        (Some(last), _) => {
            failures.push(last);
            let exit = failures[0].exit;
            return Err(Failure::new(exit, format!("{} of {total} documents were not applied", failures.len())));
        }
    }
    if args.wait {
        let wait = Wait::new(Goal::Started, args.wait_timeout);
        let waits = stored.iter().map(|(kind, object)| wait.on(&session, *kind, &object.name));
        wait::all(join_all(waits).await)?;
    }
    Ok(())
}

/// The place of a kind in the order of sending: what others refer to comes first.
pub fn rank(kind: &dyn Kind) -> usize {
    const ORDER: [&str; 10] = [
        "clusters",
        "priceBooks",
        "fleets",
        "gitRepositories",
        "policies",
        "fleetPolicies",
        "queues",
        "models",
        "applications",
        "jobs",
    ];
    ORDER.iter().position(|plural| *plural == kind.spec().plural).unwrap_or(ORDER.len())
}

fn identity(step: &Step) -> String {
    if step.name.is_empty() { step.document.place().to_string() } else { step.name.clone() }
}

/// Knows every document's kind and name; the same thing twice is one, two different things of one name are refused.
fn plan(documents: Vec<Document>, flag: Option<&str>, namespace: &str) -> Result<Vec<Step>> {
    let (mut steps, mut faults) = (Vec::<Step>::new(), Vec::new());
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for document in documents {
        let known = kind_of(&document).and_then(|kind| scoped_name(kind, &document, namespace).map(|name| (kind, name)));
        let (kind, name) = match known {
            Ok(known) => known,
            Err(failure) => {
                faults.push(failure.message);
                continue;
            }
        };
        let own = document.manifest.namespace();
        let namespaced = kind.spec().pattern.starts_with("namespaces/");
        if let Some(flag) = flag.filter(|flag| namespaced && !own.is_empty() && *flag != own) {
            faults.push(format!("{}: metadata.namespace: is {own}, and -n says {flag}", document.place()));
            continue;
        }
        match seen.get(&name).map(|index| &steps[*index].document) {
            Some(first) if first.manifest.value == document.manifest.value => continue,
            Some(first) => {
                faults.push(format!("{}: {name} stands at {} already, with other content", document.place(), first.place()))
            }
            None => {
                if !name.is_empty() {
                    seen.insert(name.clone(), steps.len());
                }
                steps.push(Step { kind, name, document });
            }
        }
    }
    if !faults.is_empty() {
        return Err(Failure { details: faults, ..Failure::new(Exit::Invalid, "nothing was sent") });
    }
    steps.sort_by_key(|step| rank(step.kind));
    Ok(steps)
}

async fn apply(session: &Session, step: &Step, dry_run: bool, request_id: String) -> Result<(Outcome, Object)> {
    let before = match step.name.is_empty() {
        true => None,
        false => absent_is_none(step.kind.get(session, &step.name).await)?,
    };
    let after = if step.kind.spec().plural == "clusters" {
        apply_cluster(session, step, before.as_ref(), dry_run, request_id).await?
    } else {
        // A document without a namespace goes to the context's; otherwise the service reads the name itself.
        let explicit = step.document.manifest.namespace().is_empty() && session.target.namespace() != "default";
        let name = if explicit && step.name.starts_with("namespaces/") { step.name.clone() } else { String::new() };
        let manifest = step.document.manifest.text.clone();
        step.kind.apply(session, Change { name, manifest, validate_only: dry_run, request_id }).await?
    };
    let outcome = match before {
        None => Outcome::Created,
        Some(before) if before.etag == after.etag || same_manifest(&before.manifest, &step.document) => Outcome::Unchanged,
        Some(_) => Outcome::Configured,
    };
    Ok((outcome, after))
}

fn same_manifest(stored: &str, document: &Document) -> bool {
    manifest::parse_one(stored).is_ok_and(|stored| stored.value == document.manifest.value)
}

/// A cluster is declared or changed by its own RPCs, which have no dry run: then it is only read.
async fn apply_cluster(
    session: &Session,
    step: &Step,
    before: Option<&Object>,
    dry_run: bool,
    request_id: String,
) -> Result<Object> {
    let cluster = cluster_from(&step.document)?;
    if dry_run {
        return Ok(object(&cluster));
    }
    let stored = match before {
        None => {
            let cluster_id = short(&cluster.name);
            session
                .call(Peer::Registry, "CreateCluster", |link| {
                    let request = CreateClusterRequest {
                        cluster_id: cluster_id.clone(),
                        cluster: Some(cluster.clone()),
                        request_id: request_id.clone(),
                    };
                    async move { sized!(ClusterServiceClient, link).create_cluster(request).await }
                })
                .await?
        }
        Some(_) => {
            session
                .call(Peer::Registry, "UpdateCluster", |link| {
                    let request = UpdateClusterRequest {
                        cluster: Some(cluster.clone()),
                        update_mask: None,
                        request_id: request_id.clone(),
                    };
                    async move { sized!(ClusterServiceClient, link).update_cluster(request).await }
                })
                .await?
        }
    };
    Ok(object(&stored))
}

fn report(app: &App, step: &Step, outcome: Outcome, object: &Object, dry_run: bool) -> Result<()> {
    match app.printer.format {
        Format::Table | Format::Wide => {
            let suffix = if dry_run { " (dry run)" } else { "" };
            text(&format!("{} {} {}{suffix}\n", step.kind.spec().singular, short(&object.name), outcome.word()))
        }
        Format::Name => text(&format!("{}\n", object.name)),
        Format::Json | Format::Yaml => Ok(()),
        Format::Sarif | Format::Junit => app.printer.format.check_general(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents(texts: &[&str]) -> Vec<Document> {
        let text = texts.join("\n---\n");
        let manifests = manifest::parse_documents(&text).expect("legal");
        manifests.into_iter().map(|manifest| Document { manifest, file: "set.yaml".to_owned() }).collect()
    }

    const JOB: &str = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: a, namespace: ml}";
    const QUEUE: &str = "apiVersion: muster.dev/v1\nkind: Queue\nmetadata: {name: q}\nspec: {weight: 1}";
    const POLICY: &str = "apiVersion: kyverno.io/v1\nkind: ClusterPolicy\nmetadata: {name: p}";

    #[test]
    fn a_set_is_sent_by_kind_and_what_stands_twice_is_one() {
        let steps = plan(documents(&[JOB, QUEUE, POLICY, QUEUE]), None, "default").expect("legal");
        let names: Vec<_> = steps.iter().map(|step| step.name.as_str()).collect();
        assert_eq!(names, ["policies/p", "queues/q", "namespaces/ml/jobs/a"]);
    }

    #[test]
    fn two_contents_of_one_name_are_refused_with_both_places() {
        let other = QUEUE.replace("weight: 1", "weight: 2");
        let failure = plan(documents(&[QUEUE, &other]), None, "default").err().expect("a collision");
        assert_eq!(failure.details, ["set.yaml:6: queues/q stands at set.yaml:1 already, with other content"]);
    }

    #[test]
    fn unknown_kinds_and_another_namespace_are_refused_together() {
        let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}";
        let failure = plan(documents(&[deployment, JOB]), Some("team"), "team").err().expect("two faults");
        assert_eq!(failure.exit, Exit::Invalid);
        assert_eq!(
            failure.details,
            [
                "set.yaml:1: apps/v1 Deployment is no kind Muster stores",
                "set.yaml:5: metadata.namespace: is ml, and -n says team"
            ]
        );
    }
}
