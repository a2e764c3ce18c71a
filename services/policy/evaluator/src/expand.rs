//! What a workload makes in the cluster: the Pods, and the controllers in between.
//!
//! Admission judges each of them, so a check before delivery must too. One Pod stands for all replicas of a template:
//! they differ in nothing but their names. Every made object knows where in the workload its parts come from, so that
//! a violation points into the document its author wrote.

use crate::path::Path;
use serde_json::{Map, Value, json};

/// An object that a workload leads to.
#[derive(Debug, Clone, PartialEq)]
pub struct Made {
    /// The object, without the API's defaults.
    pub object: Value,
    pub(crate) origins: Origins,
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
        Self(made.0.into_iter().filter_map(|(here, there)| Some((here, self.of(&there)?))).collect())
    }
}

impl Made {
    /// What this object makes in turn, with places in the workload it comes from itself.
    fn and_what_it_makes(self) -> Vec<Self> {
        let mut all = vec![];
        for mut made in made_by(&self.object) {
            made.origins = self.origins.of_what_is_made(made.origins);
            all.push(made);
        }
        all.insert(0, self);
        all
    }
}

/// Everything the object leads to, intermediate controllers included; nothing for what is no workload.
///
/// Known are the built-in controllers, Volcano's and Kubeflow's jobs, JobSet and RayJob.
pub fn made_by(workload: &Value) -> Vec<Made> {
    let text = |key: &str| workload.get(key).and_then(Value::as_str).unwrap_or_default();
    let maker = Maker { workload, name: name_of(workload) };
    let made = match (text("apiVersion"), text("kind")) {
        ("apps/v1", "Deployment") => vec![maker.replica_set()],
        ("apps/v1", "StatefulSet") => maker.pod("spec.template", &format!("{}-0", maker.name), Name::Fixed),
        ("apps/v1", "DaemonSet" | "ReplicaSet") | ("v1", "ReplicationController") => {
            maker.pod("spec.template", &maker.name, Name::Generated)
        }
        ("batch/v1", "Job") => maker.job_pod(),
        ("batch/v1" | "batch/v1beta1", "CronJob") => vec![maker.job("spec.jobTemplate", &maker.name)],
        ("batch.volcano.sh/v1alpha1", "Job") => maker.volcano_pods(),
        (version, "JobSet") if version.starts_with("jobset.x-k8s.io/") => maker.job_set(),
        ("kubeflow.org/v1", "PyTorchJob") => maker.pytorch_pods(),
        (version, "RayJob") if version.starts_with("ray.io/") => maker.ray_pods(),
        _ => Vec::new(),
    };
    made.into_iter().flat_map(Made::and_what_it_makes).collect()
}

fn name_of(object: &Value) -> String {
    let at = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    match at("/metadata/name") {
        "" => at("/metadata/generateName").trim_end_matches('-').to_owned(),
        name => name.to_owned(),
    }
}

#[derive(Clone, Copy)]
enum Name {
    Fixed,
    Generated,
}

struct Maker<'a> {
    workload: &'a Value,
    name: String,
}

impl Maker<'_> {
    fn at(&self, dotted: &str) -> Option<&Value> {
        self.workload.pointer(&format!("/{}", dotted.replace('.', "/")))
    }

    /// `metadata` of what is made from the template at this place.
    fn metadata(&self, template: &Value, name: &str, kind_of_name: Name) -> Value {
        let mut metadata = Map::new();
        match kind_of_name {
            Name::Fixed => metadata.insert("name".to_owned(), json!(name)),
            Name::Generated => metadata.insert("generateName".to_owned(), json!(format!("{name}-"))),
        };
        if let Some(namespace) = self.at("metadata.namespace") {
            metadata.insert("namespace".to_owned(), namespace.clone());
        }
        for key in ["labels", "annotations"] {
            if let Some(entries) = template.pointer(&format!("/metadata/{key}")) {
                metadata.insert(key.to_owned(), entries.clone());
            }
        }
        Value::Object(metadata)
    }

    /// An object whose metadata and spec stand in the template at `place`.
    fn instance_of(&self, place: &Path, template: &Value, identity: (&str, &str), name: &str, named: Name) -> Made {
        let metadata = self.metadata(template, name, named);
        let spec = template.get("spec").cloned().unwrap_or(Value::Null);
        let object = json!({"apiVersion": identity.0, "kind": identity.1, "metadata": metadata, "spec": spec});
        let same = |dotted: &str| (Path::of_keys(dotted), place.join(&Path::of_keys(dotted)));
        let origins = Origins(vec![same("spec"), same("metadata.labels"), same("metadata.annotations")]);
        Made { object, origins }
    }

    fn pod_at(&self, place: &Path, template: &Value, name: &str, named: Name) -> Made {
        self.instance_of(place, template, ("v1", "Pod"), name, named)
    }

    fn pod(&self, place: &str, name: &str, named: Name) -> Vec<Made> {
        let template = self.at(place).filter(|template| template.is_object());
        template.map(|template| self.pod_at(&Path::of_keys(place), template, name, named)).into_iter().collect()
    }

    fn replica_set(&self) -> Made {
        let template = self.at("spec.template").cloned().unwrap_or(Value::Null);
        let metadata = self.metadata(&template, &self.name, Name::Generated);
        let mut spec = Map::new();
        for key in ["replicas", "minReadySeconds", "selector", "template"] {
            if let Some(value) = self.at("spec").and_then(|spec| spec.get(key)) {
                spec.insert(key.to_owned(), value.clone());
            }
        }
        let object = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": metadata, "spec": spec});
        let origins = Origins(vec![
            (Path::of_keys("spec"), Path::of_keys("spec")),
            (Path::of_keys("metadata.labels"), Path::of_keys("spec.template.metadata.labels")),
            (Path::of_keys("metadata.annotations"), Path::of_keys("spec.template.metadata.annotations")),
        ]);
        Made { object, origins }
    }

    fn job(&self, place: &str, name: &str) -> Made {
        let template = self.at(place).cloned().unwrap_or(Value::Null);
        self.instance_of(&Path::of_keys(place), &template, ("batch/v1", "Job"), name, Name::Generated)
    }

    fn job_pod(&self) -> Vec<Made> {
        let mut pods = self.pod("spec.template", &self.name, Name::Generated);
        for pod in &mut pods {
            for key in ["job-name", "batch.kubernetes.io/job-name"] {
                label(&mut pod.object, key, &self.name);
            }
        }
        pods
    }

    fn volcano_pods(&self) -> Vec<Made> {
        let scheduler = self.at("spec.schedulerName").and_then(Value::as_str).unwrap_or("volcano");
        let queue = self.at("spec.queue").and_then(Value::as_str).unwrap_or("default");
        let tasks = self.at("spec.tasks").and_then(Value::as_array);
        let mut pods = Vec::new();
        for (index, task) in tasks.into_iter().flatten().enumerate() {
            let Some(template) = task.get("template").filter(|template| template.is_object()) else { continue };
            let name = task.get("name").and_then(Value::as_str).map_or_else(|| format!("default{index}"), str::to_owned);
            let place = Path::of_keys("spec.tasks").index(index).key("template");
            let mut made = self.pod_at(&place, template, &format!("{}-{name}-0", self.name), Name::Fixed);
            if let Value::Object(spec) = &mut made.object["spec"] {
                spec.entry("schedulerName").or_insert(json!(scheduler));
            }
            for (key, value) in [("job-name", self.name.as_str()), ("task-spec", &name), ("queue-name", queue)] {
                label(&mut made.object, &format!("volcano.sh/{key}"), value);
            }
            pods.push(made);
        }
        pods
    }

    fn job_set(&self) -> Vec<Made> {
        let jobs = self.at("spec.replicatedJobs").and_then(Value::as_array);
        let mut made = Vec::new();
        for (index, job) in jobs.into_iter().flatten().enumerate() {
            let Some(template) = job.get("template").filter(|template| template.is_object()) else { continue };
            let job_name = job.get("name").and_then(Value::as_str).unwrap_or_default();
            let place = Path::of_keys("spec.replicatedJobs").index(index).key("template");
            let name = format!("{}-{job_name}-0", self.name);
            made.push(self.instance_of(&place, template, ("batch/v1", "Job"), &name, Name::Fixed));
        }
        made
    }

    fn pytorch_pods(&self) -> Vec<Made> {
        let replicas = self.at("spec.pytorchReplicaSpecs").and_then(Value::as_object);
        let mut pods = Vec::new();
        for (role, replica) in replicas.into_iter().flatten() {
            let Some(template) = replica.get("template").filter(|template| template.is_object()) else { continue };
            let place = Path::of_keys("spec.pytorchReplicaSpecs").key(role).key("template");
            let role = role.to_lowercase();
            let mut made = self.pod_at(&place, template, &format!("{}-{role}-0", self.name), Name::Fixed);
            label(&mut made.object, "training.kubeflow.org/job-name", &self.name);
            label(&mut made.object, "training.kubeflow.org/replica-type", &role);
            pods.push(made);
        }
        pods
    }

    fn ray_pods(&self) -> Vec<Made> {
        let mut made = self.pod("spec.rayClusterSpec.headGroupSpec.template", &format!("{}-head", self.name), Name::Generated);
        let groups = self.at("spec.rayClusterSpec.workerGroupSpecs").and_then(Value::as_array);
        for (index, group) in groups.into_iter().flatten().enumerate() {
            let Some(template) = group.get("template").filter(|template| template.is_object()) else { continue };
            let name = group.get("groupName").and_then(Value::as_str).unwrap_or("worker");
            let place = Path::of_keys("spec.rayClusterSpec.workerGroupSpecs").index(index).key("template");
            made.push(self.pod_at(&place, template, &format!("{}-{name}-worker", self.name), Name::Generated));
        }
        made.extend(self.ray_submitter());
        made
    }

    /// The Job that hands the entrypoint to the Ray cluster, where the job is submitted that way (the default).
    fn ray_submitter(&self) -> Option<Made> {
        let mode = self.at("spec.submissionMode").and_then(Value::as_str).unwrap_or("K8sJobMode");
        if mode != "K8sJobMode" {
            return None;
        }
        let given = self.at("spec.submitterPodTemplate").filter(|template| template.is_object());
        let image = self.workload.pointer("/spec/rayClusterSpec/headGroupSpec/template/spec/containers/0/image");
        // KubeRay's own template, with the head's image.
        let usual = json!({"spec": {"restartPolicy": "Never", "containers": [{
            "name": "ray-job-submitter", "image": image,
            "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m", "memory": "200Mi"}},
        }]}});
        let metadata = self.metadata(&Value::Null, &self.name, Name::Fixed);
        let template = given.cloned().unwrap_or(usual);
        let object = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {"template": template}});
        let origins = given.map(|_| (Path::of_keys("spec.template"), Path::of_keys("spec.submitterPodTemplate")));
        Some(Made { object, origins: Origins(origins.into_iter().collect()) })
    }
}

fn label(object: &mut Value, key: &str, value: &str) {
    let Some(Value::Object(metadata)) = object.get_mut("metadata") else { return };
    let labels = metadata.entry("labels").or_insert_with(|| json!({}));
    if let Value::Object(labels) = labels {
        labels.entry(key).or_insert(json!(value));
    }
}

#[cfg(test)]
#[path = "expand_tests.rs"]
mod tests;
