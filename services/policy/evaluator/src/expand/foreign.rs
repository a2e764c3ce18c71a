//! Controllers that somebody installs: Volcano, JobSet, LeaderWorkerSet, Kubeflow's training operator, KubeRay.

use super::{
    Made, Origins,
    owned::{Maker, Name, label},
};
use crate::path::Path;
use serde_json::{Value, json};

/// Kubeflow's kinds, and where each keeps its replicas.
pub const REPLICAS: [(&str, &str); 6] = [
    ("JAXJob", "jaxReplicaSpecs"),
    ("MPIJob", "mpiReplicaSpecs"),
    ("PaddleJob", "paddleReplicaSpecs"),
    ("PyTorchJob", "pytorchReplicaSpecs"),
    ("TFJob", "tfReplicaSpecs"),
    ("XGBoostJob", "xgbReplicaSpecs"),
];

impl Maker<'_> {
    pub fn volcano_pods(&self) -> Vec<Made> {
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

    pub fn job_set(&self) -> Vec<Made> {
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

    pub fn leaders_and_workers(&self) -> Vec<Made> {
        const PLACE: &str = "spec.leaderWorkerTemplate";
        // A group without a template for its leader is led by a worker.
        let leader = ["leaderTemplate", "workerTemplate"]
            .iter()
            .find_map(|key| self.pod(&format!("{PLACE}.{key}"), &format!("{}-0", self.name), Name::Fixed));
        let is_alone = self.at(&format!("{PLACE}.size")).and_then(Value::as_i64).unwrap_or(1) <= 1;
        let worker = self.pod(&format!("{PLACE}.workerTemplate"), &format!("{}-0-1", self.name), Name::Fixed);
        let mut pods = Vec::new();
        for (index, pod) in [leader, worker.filter(|_| !is_alone)].into_iter().enumerate() {
            let Some(mut pod) = pod else { continue };
            label(&mut pod.object, "leaderworkerset.sigs.k8s.io/name", &self.name);
            label(&mut pod.object, "leaderworkerset.sigs.k8s.io/group-index", "0");
            label(&mut pod.object, "leaderworkerset.sigs.k8s.io/worker-index", &index.to_string());
            pods.push(pod);
        }
        pods
    }

    pub fn kubeflow_pods(&self) -> Vec<Made> {
        let kind = self.text_at("kind").unwrap_or_default();
        let Some((_, list)) = REPLICAS.iter().find(|(known, _)| *known == kind) else { return Vec::new() };
        let replicas = self.at("spec").and_then(|spec| spec.get(*list)).and_then(Value::as_object);
        let mut pods = Vec::new();
        for (role, replica) in replicas.into_iter().flatten() {
            let Some(template) = replica.get("template").filter(|template| template.is_object()) else { continue };
            let place = Path::of_keys("spec").key(list).key(role).key("template");
            let role = role.to_lowercase();
            let mut made = self.pod_at(&place, template, &format!("{}-{role}-0", self.name), Name::Fixed);
            label(&mut made.object, "training.kubeflow.org/job-name", &self.name);
            label(&mut made.object, "training.kubeflow.org/replica-type", &role);
            pods.push(made);
        }
        pods
    }

    /// The Pods of a Ray cluster that is specified at `place`.
    pub fn ray_pods(&self, place: &str) -> Vec<Made> {
        let head = self.pod(&format!("{place}.headGroupSpec.template"), &format!("{}-head", self.name), Name::Generated);
        let mut made: Vec<Made> = head.into_iter().collect();
        let groups = self.at(&format!("{place}.workerGroupSpecs")).and_then(Value::as_array);
        for (index, group) in groups.into_iter().flatten().enumerate() {
            let Some(template) = group.get("template").filter(|template| template.is_object()) else { continue };
            let name = group.get("groupName").and_then(Value::as_str).unwrap_or("worker");
            let place = Path::of_keys(place).key("workerGroupSpecs").index(index).key("template");
            made.push(self.pod_at(&place, template, &format!("{}-{name}-worker", self.name), Name::Generated));
        }
        made
    }

    pub fn ray_job(&self) -> Vec<Made> {
        let mut made = self.ray_pods("spec.rayClusterSpec");
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
        Some(Made { object, origins: Origins(origins.into_iter().collect()), unknown: None })
    }
}
