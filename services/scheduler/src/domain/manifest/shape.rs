//! Where in each kind of job the pod templates stand, and how many pods each makes.

use muster_scheduler_engine::WorkerGroup;
use serde_json::Value;

use super::elastic;
use crate::domain::Fault;

impl From<&Template> for WorkerGroup {
    /// The group without what its workers ask for.
    fn from(template: &Template) -> Self {
        Self { name: template.name.clone(), replicas: template.replicas, each: muster_scheduler_engine::Amounts::new() }
    }
}

/// The kinds of job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `batch.volcano.sh/v1alpha1 Job`
    Volcano,
    /// `batch/v1 Job`
    Batch,
    /// `jobset.x-k8s.io JobSet`
    JobSet,
    /// `kubeflow.org/v1 PyTorchJob`
    PyTorch,
    /// `ray.io RayJob`
    Ray,
}

impl Kind {
    /// The kind of a manifest.
    ///
    /// # Errors
    /// A kind that is no job.
    pub fn of(api_version: &str, kind: &str) -> Result<Self, Fault> {
        let group = api_version.rsplit_once('/').map_or("", |(group, _)| group);
        match (group, kind) {
            ("batch.volcano.sh", "Job") => Ok(Self::Volcano),
            ("batch", "Job") => Ok(Self::Batch),
            ("jobset.x-k8s.io", "JobSet") => Ok(Self::JobSet),
            ("kubeflow.org", "PyTorchJob") => Ok(Self::PyTorch),
            ("ray.io", "RayJob") => Ok(Self::Ray),
            _ => Err(Fault::new(
                "manifest",
                format!(
                    "{api_version} {kind} is no job: batch.volcano.sh Job, batch/v1 Job, JobSet, PyTorchJob or RayJob is expected"
                ),
            )),
        }
    }

    /// Where the kind says that it is suspended, as a JSON pointer; Volcano's has no such field.
    #[must_use]
    pub const fn suspend_pointer(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Volcano => None,
            Self::Batch | Self::JobSet | Self::Ray => Some(("/spec", "suspend")),
            Self::PyTorch => Some(("/spec/runPolicy", "suspend")),
        }
    }
}

/// A pod template of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// The task's name.
    pub name: String,
    /// JSON pointer of the template.
    pub pointer: String,
    /// Path of the template, for people.
    pub path: String,
    /// Pods made from it.
    pub replicas: u32,
}

/// Every pod template of a job.
///
/// # Errors
/// The field at fault: no tasks, a count that is none.
pub fn templates(kind: Kind, value: &Value) -> Result<Vec<Template>, Fault> {
    match kind {
        Kind::Volcano => list(value, "tasks", "replicas", "template"),
        Kind::Batch => {
            let replicas = pods_of_batch_job("spec", value.get("spec"))?;
            Ok(vec![Template {
                name: "worker".to_owned(),
                pointer: "/spec/template".to_owned(),
                path: "spec.template".to_owned(),
                replicas,
            }])
        }
        Kind::JobSet => {
            let mut found = list(value, "replicatedJobs", "replicas", "template")?;
            for template in &mut found {
                let job = value.pointer(&format!("{}/spec", template.pointer));
                let pods = pods_of_batch_job(&format!("{}.spec", template.path), job)?;
                template.replicas = template
                    .replicas
                    .checked_mul(pods)
                    .ok_or_else(|| Fault::new(&template.path, "replicas × parallelism is too large to be counted"))?;
                template.pointer.push_str("/spec/template");
                template.path.push_str(".spec.template");
            }
            Ok(found)
        }
        Kind::PyTorch => {
            let specs = value
                .pointer("/spec/pytorchReplicaSpecs")
                .and_then(Value::as_object)
                .filter(|specs| !specs.is_empty())
                .ok_or_else(|| Fault::new("spec.pytorchReplicaSpecs", "must name at least one kind of replica"))?;
            specs
                .iter()
                .map(|(name, spec)| {
                    let path = format!("spec.pytorchReplicaSpecs.{name}");
                    let mut replicas = count(&format!("{path}.replicas"), spec.get("replicas"), 1)?;
                    let name_of_group = name.to_lowercase();
                    if let Some(most) = elastic::most_of_pytorch(value).filter(|_| name_of_group == elastic::WORKER) {
                        let field = "spec.elasticPolicy.maxReplicas";
                        let most = count(field, Some(most), 0)?;
                        if most < replicas {
                            return Err(Fault::new(field, format!("is less than the {replicas} replicas of {path}")));
                        }
                        replicas = most;
                    }
                    Ok(Template {
                        name: name_of_group,
                        pointer: format!("/spec/pytorchReplicaSpecs/{name}/template"),
                        replicas,
                        path: format!("{path}.template"),
                    })
                })
                .collect()
        }
        Kind::Ray => {
            let cluster = value.pointer("/spec/rayClusterSpec").ok_or_else(|| Fault::new("spec.rayClusterSpec", "is missing"))?;
            let mut found = vec![Template {
                name: "head".to_owned(),
                pointer: "/spec/rayClusterSpec/headGroupSpec/template".to_owned(),
                path: "spec.rayClusterSpec.headGroupSpec.template".to_owned(),
                replicas: 1,
            }];
            let groups = cluster.get("workerGroupSpecs").and_then(Value::as_array);
            for (index, group) in groups.into_iter().flatten().enumerate() {
                let path = format!("spec.rayClusterSpec.workerGroupSpecs[{index}]");
                let replicas = count(&format!("{path}.replicas"), group.get("replicas"), 1)?;
                if replicas > 0 {
                    found.push(Template {
                        name: name_of(group, "groupName", index),
                        pointer: format!("/spec/rayClusterSpec/workerGroupSpecs/{index}/template"),
                        path: format!("{path}.template"),
                        replicas,
                    });
                }
            }
            Ok(found)
        }
    }
}

/// Sets how many pods are made from a template, in a manifest that was read as a job before. Of a `batch/v1` Job with as many completions
/// as pods and an index for each the completions change too: Kubernetes calls that an elastic indexed Job.
pub fn set_replicas(kind: Kind, value: &mut Value, template: &Template, replicas: u32) {
    let parent = match kind {
        Kind::Batch => "/spec",
        Kind::Volcano | Kind::PyTorch | Kind::JobSet | Kind::Ray => template.pointer.trim_end_matches("/template"),
    };
    let Some(Value::Object(parent)) = value.pointer_mut(parent) else { return };
    if kind != Kind::Batch {
        parent.insert("replicas".to_owned(), replicas.into());
        return;
    }
    let is_indexed = parent.get("completionMode").and_then(Value::as_str) == Some("Indexed");
    let number = |field: &str| parent.get(field).and_then(Value::as_u64);
    let pods = number("parallelism").unwrap_or(1);
    if is_indexed && number("completions") == Some(pods) {
        parent.insert("completions".to_owned(), replicas.into());
    }
    parent.insert("parallelism".to_owned(), replicas.into());
}

/// How many workers must run for the job to count as running.
/// `least` is how many there are at least, of all `workers`: less where the job is elastic.
pub(super) fn min_available(kind: Kind, value: &Value, (workers, least): (u64, u64)) -> Result<u32, Fault> {
    let all = u32::try_from(least).unwrap_or(u32::MAX);
    let (path, pointer) = match kind {
        Kind::Volcano => ("spec.minAvailable", "/spec/minAvailable"),
        Kind::PyTorch => ("spec.runPolicy.schedulingPolicy.minAvailable", "/spec/runPolicy/schedulingPolicy/minAvailable"),
        Kind::Batch | Kind::JobSet | Kind::Ray => return Ok(all),
    };
    // Volcano reads 0 as "all", and so do we.
    let min = count(path, value.pointer(pointer), 0)?;
    if u64::from(min) > workers {
        return Err(Fault::new(path, format!("is {min}, and the job has {workers} workers")));
    }
    Ok(if min == 0 { all } else { min })
}

/// Pods of a `batch/v1` Job that run at the same time: parallelism, but never more than there are completions.
fn pods_of_batch_job(path: &str, spec: Option<&Value>) -> Result<u32, Fault> {
    let spec = spec.ok_or_else(|| Fault::new(path, "is missing"))?;
    let parallelism = count(&format!("{path}.parallelism"), spec.get("parallelism"), 1)?;
    let completions = count(&format!("{path}.completions"), spec.get("completions"), parallelism)?;
    let pods = parallelism.min(completions);
    if pods == 0 {
        return Err(Fault::new(
            format!("{path}.parallelism"),
            "no pod would run: parallelism and completions must be at least 1",
        ));
    }
    Ok(pods)
}

fn list(value: &Value, field: &str, replicas: &str, template: &str) -> Result<Vec<Template>, Fault> {
    let items = value
        .pointer(&format!("/spec/{field}"))
        .and_then(Value::as_array)
        .filter(|items| !items.is_empty())
        .ok_or_else(|| Fault::new(format!("spec.{field}"), "must have at least one entry"))?;
    let mut found = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let path = format!("spec.{field}[{index}]");
        let replicas = count(&format!("{path}.{replicas}"), item.get(replicas), 1)?;
        // A task with no replicas makes no pods; Volcano allows it.
        if replicas > 0 {
            found.push(Template {
                name: name_of(item, "name", index),
                pointer: format!("/spec/{field}/{index}/{template}"),
                path: format!("{path}.{template}"),
                replicas,
            });
        }
    }
    if found.is_empty() {
        return Err(Fault::new(format!("spec.{field}"), "no entry has replicas"));
    }
    Ok(found)
}

fn name_of(item: &Value, field: &str, index: usize) -> String {
    item.get(field).and_then(Value::as_str).map_or_else(|| format!("{index}"), ToOwned::to_owned)
}

pub(super) fn count(path: &str, value: Option<&Value>, default: u32) -> Result<u32, Fault> {
    match value {
        None | Some(Value::Null) => Ok(default),
        Some(value) if value.as_i64().is_some_and(|count| count < 0) => Err(Fault::new(path, "must not be negative")),
        Some(value) => value
            .as_u64()
            .and_then(|count| u32::try_from(count).ok())
            .filter(|count| *count <= i32::MAX.unsigned_abs())
            .ok_or_else(|| Fault::new(path, "must be a whole number up to 2147483647")),
    }
}
