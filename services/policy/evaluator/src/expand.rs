//! What a workload makes in the cluster: the Pods, and the controllers in between.
//!
//! Admission judges each of them, so a check before delivery must too. One Pod stands for all replicas of a template:
//! they differ in nothing but their names and numbers. What nobody knows before (a hash, a UID, the minute of a schedule) has a
//! value that says nothing, since policies ask whether it is there. Every made object knows where in the workload its parts come from, so that
//! a violation points into the document its author wrote.

mod built_in;
mod foreign;
mod inference_service;
pub(crate) mod owned;
pub(crate) mod templates;
mod train_job;

use crate::path::Path;
use owned::Maker;
use serde_json::Value;
use templates::Around;

/// An object that a workload leads to.
#[derive(Debug, Clone, PartialEq)]
pub struct Made {
    /// The object, without the API's defaults.
    pub object: Value,
    pub(crate) origins: Origins,
    /// Why nobody knows what it will be: it stands for an object that will be there.
    pub(crate) unknown: Option<String>,
}

/// Places in a made object and where in the workload they come from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Origins(Vec<(Path, Path)>);

impl Origins {
    /// Where in the workload a place comes from; `None` where the cluster puts it there itself.
    pub fn of(&self, path: &Path) -> Option<Path> {
        if path.steps().is_empty() {
            // The object as a whole is the template its spec stands in.
            return self.of(&Path::of_keys("spec"))?.parent_of("spec");
        }
        self.0.iter().find_map(|(here, there)| {
            let rest = path.steps().strip_prefix(here.steps())?;
            Some(rest.iter().fold(there.clone(), |place, step| match step {
                crate::Step::Key(key) => place.key(key),
                crate::Step::Index(index) => place.index(*index),
            }))
        })
    }

    /// The origins of what an object with these origins makes.
    fn of_what_is_made(&self, made: Self) -> Self {
        let whole = made.0.iter().filter_map(|(here, there)| Some((here.clone(), self.of(there)?)));
        // Of what does not come from there as a whole, parts may.
        let parts = made.0.iter().flat_map(|(here, there)| {
            self.0.iter().filter_map(move |(part, origin)| {
                let rest: Path = part.steps().strip_prefix(there.steps())?.iter().cloned().collect();
                Some((here.join(&rest), origin.clone()))
            })
        });
        Self(parts.chain(whole).collect())
    }
}

impl Made {
    /// What this object makes in turn, with places in the workload it comes from itself.
    fn and_what_it_makes(self, around: &Around<'_>) -> Vec<Self> {
        let mut all = vec![];
        for mut made in made_by(&self.object, around) {
            made.origins = self.origins.of_what_is_made(made.origins);
            all.push(made);
        }
        all.insert(0, self);
        all
    }
}

/// Everything the object leads to, intermediate controllers included; nothing for what is no workload.
///
/// Known are the built-in controllers, Volcano's and Kubeflow's jobs, JobSet, LeaderWorkerSet, Ray's jobs and clusters, and KServe's
/// services. Templates that stand in other objects are looked for in what is around.
pub fn made_by(workload: &Value, around: &Around<'_>) -> Vec<Made> {
    let text = |key: &str| workload.get(key).and_then(Value::as_str).unwrap_or_default();
    let maker = Maker { workload, name: name_of(workload) };
    let made = match (text("apiVersion"), text("kind")) {
        ("apps/v1", "Deployment") => vec![maker.replica_set()],
        ("apps/v1", "StatefulSet") => maker.stateful_pod(),
        ("apps/v1", "DaemonSet") => maker.daemon_pod(),
        ("apps/v1", "ReplicaSet") | ("v1", "ReplicationController") => maker.replica(),
        ("batch/v1", "Job") => maker.job_pod(),
        ("batch/v1" | "batch/v1beta1", "CronJob") => vec![maker.scheduled_job()],
        ("batch.volcano.sh/v1alpha1", "Job") => maker.volcano_pods(),
        (version, "JobSet") if version.starts_with("jobset.x-k8s.io/") => maker.job_set(),
        (version, "LeaderWorkerSet") if version.starts_with("leaderworkerset.x-k8s.io/") => maker.leaders_and_workers(),
        (version, kind) if version.starts_with("kubeflow.org/") && foreign::REPLICAS.iter().any(|(known, _)| *known == kind) => {
            maker.kubeflow_pods()
        }
        (version, "TrainJob") if version.starts_with("trainer.kubeflow.org/") => maker.training(around),
        (version, "InferenceService") if version.starts_with("serving.kserve.io/") => maker.inference_pods(around),
        (version, "RayJob") if version.starts_with("ray.io/") => maker.ray_job(),
        (version, "RayCluster") if version.starts_with("ray.io/") => maker.ray_pods("spec"),
        _ => Vec::new(),
    };
    made.into_iter().flat_map(|made| made.and_what_it_makes(around)).collect()
}

fn name_of(object: &Value) -> String {
    let at = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    match at("/metadata/name") {
        "" => at("/metadata/generateName").trim_end_matches('-').to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
#[path = "expand_tests.rs"]
mod tests;
