//! The object a run makes in its cluster: the user's manifest, marked with its run, told its epoch, pointed at the nodes of
//! the plan, and not suspended.

use std::collections::{BTreeMap, BTreeSet};

use muster_core::labels;
use muster_scheduler_engine::{Gang, Slot, TopologyMode};
use serde_json::{Map, Value, json};

use super::Fault;
use super::manifest::{Kind, Template, set_replicas, templates};

/// What is put into a manifest.
#[derive(Clone, Debug)]
pub struct RunMarks<'a> {
    /// The job's namespace.
    pub namespace: &'a str,
    /// The job's name.
    pub job: &'a str,
    /// The run.
    pub epoch: u32,
    /// The queue it is charged to.
    pub queue: &'a str,
    /// W3C trace context; empty if none.
    pub traceparent: &'a str,
    /// The plan, empty where there is none yet; group indices are those of the manifest's templates.
    pub slots: &'a [Slot],
    /// The gang, which says of which group the plan may place fewer workers.
    pub gang: &'a Gang,
    /// The GPU model pods must be bound to, where nodes have the label for it and the cluster has several.
    pub require_model: Option<&'a str>,
    /// The domains the plan is in, by the label that names them, where the job asked for its workers to stand together.
    pub domains: Option<(TopologyMode, &'a Domains)>,
}

/// Names of domains by the node label that says them.
pub type Domains = BTreeMap<String, BTreeSet<String>>;

/// Characters of a namespace and a job's name together: a label's value has 63, of which two are dots and six an epoch's.
pub const MAX_NAMES: usize = 55;
/// The weight of the preference for planned nodes, of 100, and for the planned domains of a job that prefers few of them.
const PLAN_WEIGHT: u32 = 50;
const DOMAIN_WEIGHT: u32 = 100;

/// `namespace.job.epoch`: the value of the run's label, by which the agent finds a run's pods and a pod's run. Names are
/// kept short enough at submit ([`MAX_NAMES`]).
#[must_use]
pub fn run_label(namespace: &str, job: &str, epoch: u32) -> String {
    format!("{namespace}.{job}.{epoch}")
}

/// The object's name in the cluster: the job's own for the first run, so that people find it; later runs are new objects.
#[must_use]
pub fn object_name(job: &str, epoch: u32) -> String {
    if epoch <= 1 { job.to_owned() } else { format!("{job}-r{epoch}") }
}

/// Composes the manifest of a run.
///
/// # Errors
/// A manifest that was not read as a job before.
pub fn compose(manifest: &Value, marks: &RunMarks<'_>) -> Result<Value, Fault> {
    let text = |key: &str| manifest.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let kind = Kind::of(&text("apiVersion"), &text("kind"))?;
    let found = templates(kind, manifest)?;
    let mut composed = manifest.clone();
    if let Some(top) = composed.as_object_mut() {
        top.remove("status");
    }
    let metadata = object(&mut composed, "metadata");
    for server_field in ["generateName", "resourceVersion", "uid", "creationTimestamp", "managedFields", "generation", "selfLink"]
    {
        metadata.remove(server_field);
    }
    metadata.insert("name".to_owned(), json!(object_name(marks.job, marks.epoch)));
    metadata.insert("namespace".to_owned(), json!(marks.namespace));
    mark(metadata, marks);
    if kind == Kind::Volcano {
        object(&mut composed, "spec").insert("queue".to_owned(), json!(marks.queue));
    }
    if let Some(elastic) = marks.gang.elastic {
        // Without a plan it is what a run of the full size would make.
        let planned = marks.gang.size_of(marks.slots).filter(|_| !marks.slots.is_empty());
        let workers = planned.or_else(|| marks.gang.groups.get(elastic.group).map(|group| group.replicas));
        size(kind, &mut composed, &found, marks.gang, workers.unwrap_or(elastic.least));
    }
    if let Some((pointer, field)) = kind.suspend_pointer()
        && let Some(Value::Object(parent)) = composed.pointer_mut(pointer)
        && parent.contains_key(field)
    {
        parent.insert(field.to_owned(), Value::Bool(false));
    }
    // Labels may have changed since the plan was made.
    let is_bound = marks.domains.is_some_and(|(mode, domains)| {
        mode == TopologyMode::Required && domains.len() == 1 && domains.values().all(|names| names.len() == 1)
    });
    for (index, template) in found.iter().enumerate() {
        let Some(pod) = composed.pointer_mut(&template.pointer) else { continue };
        mark(object(pod, "metadata"), marks);
        let spec = object(pod, "spec");
        for list in ["containers", "initContainers"] {
            for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                set_epoch(container, marks.epoch);
            }
        }
        let nodes: BTreeSet<String> =
            marks.slots.iter().filter(|slot| slot.group == index).map(|slot| slot.node.clone()).collect();
        prefer(spec, PLAN_WEIGHT, labels::HOSTNAME, &nodes);
        for (key, values) in marks.domains.into_iter().flat_map(|(_, domains)| domains) {
            match values.first() {
                Some(value) if is_bound => select(spec, key, value),
                Some(_) | None => prefer(spec, DOMAIN_WEIGHT, key, values),
            }
        }
        if let Some(model) = marks.require_model.filter(|_| asks_for_gpus(spec)) {
            select(spec, labels::GPU_PRODUCT, model);
        }
    }
    Ok(composed)
}

/// The object of a run of an elastic gang with another number of workers. Nothing else of it changes: clusters take no other change of
/// an object that runs.
///
/// # Errors
/// What was not composed from a job.
pub fn resized(object: &Value, gang: &Gang, workers: u32) -> Result<Value, Fault> {
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let kind = Kind::of(&text("apiVersion"), &text("kind"))?;
    let mut resized = object.clone();
    size(kind, &mut resized, &templates(kind, object)?, gang, workers);
    Ok(resized)
}

fn size(kind: Kind, sized: &mut Value, templates: &[Template], gang: &Gang, workers: u32) {
    let Some(template) = gang.elastic.and_then(|elastic| templates.get(elastic.group)) else { return };
    set_replicas(kind, sized, template, workers);
    if kind == Kind::Volcano {
        // Left out it would mean all replicas, of which there may be fewer from now on.
        object(sized, "spec").insert("minAvailable".to_owned(), gang.min_available.into());
    }
}

fn asks_for_gpus(spec: &Map<String, Value>) -> bool {
    let containers = spec.get("containers").and_then(Value::as_array);
    containers.into_iter().flatten().any(|container| {
        ["limits", "requests"].iter().any(|part| {
            let amounts = container.get("resources").and_then(|resources| resources.get(part)).and_then(Value::as_object);
            amounts.is_some_and(|amounts| amounts.keys().any(|name| muster_scheduler_engine::is_gpu(name)))
        })
    })
}

/// The object under a key, made if it is not there or is none.
fn object<'a>(parent: &'a mut Value, key: &str) -> &'a mut Map<String, Value> {
    if !parent.is_object() {
        *parent = json!({});
    }
    let child = parent.as_object_mut().expect("it was just made one").entry(key).or_insert_with(|| json!({}));
    if !child.is_object() {
        *child = json!({});
    }
    child.as_object_mut().expect("it was just made one")
}

fn mark(metadata: &mut Map<String, Value>, marks: &RunMarks<'_>) {
    let mut put = |map: &str, key: &str, value: String| {
        let entry = metadata.entry(map).or_insert_with(|| json!({}));
        if !entry.is_object() {
            *entry = json!({});
        }
        if let Some(entry) = entry.as_object_mut() {
            entry.insert(key.to_owned(), Value::String(value));
        }
    };
    put("labels", labels::RUN, run_label(marks.namespace, marks.job, marks.epoch));
    put("labels", labels::RUN_EPOCH, marks.epoch.to_string());
    put("labels", labels::QUEUE, marks.queue.to_owned());
    if !marks.traceparent.is_empty() {
        put("annotations", labels::TRACEPARENT, marks.traceparent.to_owned());
    }
}

fn set_epoch(container: &mut Value, epoch: u32) {
    let Some(container) = container.as_object_mut() else { return };
    let env = container.entry("env").or_insert_with(|| json!([]));
    let Some(env) = env.as_array_mut() else { return };
    env.retain(|variable| variable.get("name").and_then(Value::as_str) != Some(labels::RUN_EPOCH_ENV));
    env.push(json!({"name": labels::RUN_EPOCH_ENV, "value": epoch.to_string()}));
}

/// Binds a pod to nodes with a label, unless it says itself which value it wants.
fn select(spec: &mut Map<String, Value>, key: &str, value: &str) {
    let selector = spec.entry("nodeSelector").or_insert_with(|| json!({}));
    if let Some(selector) = selector.as_object_mut() {
        selector.entry(key).or_insert_with(|| json!(value));
    }
}

/// Adds a preference for nodes with one of a label's values: the cluster's own scheduler binds, and may know better.
fn prefer(spec: &mut Map<String, Value>, weight: u32, key: &str, values: &BTreeSet<String>) {
    if values.is_empty() {
        return;
    }
    let affinity = spec.entry("affinity").or_insert_with(|| json!({}));
    let node_affinity = object(affinity, "nodeAffinity");
    let preferred = node_affinity.entry("preferredDuringSchedulingIgnoredDuringExecution").or_insert_with(|| json!([]));
    if let Some(preferred) = preferred.as_array_mut() {
        preferred.push(json!({
            "weight": weight,
            "preference": {"matchExpressions": [{"key": key, "operator": "In", "values": values}]},
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_core::manifest::parse_one;
    use muster_scheduler_engine::{Amounts, Elastic, Span, WorkerGroup};

    fn whole() -> Gang {
        gang(1, None)
    }

    fn gang(replicas: u32, elastic: Option<Elastic>) -> Gang {
        let group = WorkerGroup { name: "worker".to_owned(), replicas, each: Amounts::new().with("nvidia.com/gpu", 1) };
        Gang {
            groups: vec![group],
            min_available: elastic.map_or(replicas, |elastic| elastic.least),
            flavors: BTreeSet::new(),
            api: String::new(),
            restart_ms: None,
            speeds: BTreeMap::new(),
            topology: None,
            dataset: None,
            elastic,
            span: Span::Cluster,
        }
    }

    fn marks<'a>(epoch: u32, slots: &'a [Slot], gang: &'a Gang) -> RunMarks<'a> {
        RunMarks {
            namespace: "ml",
            job: "train",
            epoch,
            queue: "q",
            traceparent: "00-aa-bb-01",
            slots,
            gang,
            require_model: None,
            domains: None,
        }
    }

    #[test]
    fn a_run_is_marked_told_its_epoch_and_pointed_at_its_nodes() {
        let manifest = parse_one(
            "apiVersion: batch.volcano.sh/v1alpha1\nkind: Job\nmetadata: {generateName: train-, uid: x}\nspec: {tasks: [{name: t, replicas: 2, template: {spec: \
             {containers: [{name: c, env: [{name: A, value: b}], resources: {limits: {nvidia.com/gpu: 1}}}]}}}]}\nstatus: {state: {}}\n",
        )
        .expect("sound YAML");
        let slots = [Slot { group: 0, node: "n1".to_owned(), workers: 2, gpu: None }];
        let composed = compose(&manifest.value, &marks(2, &slots, &whole())).expect("a job");
        let expected = json!({
            "apiVersion": "batch.volcano.sh/v1alpha1",
            "kind": "Job",
            "metadata": {
                "name": "train-r2",
                "namespace": "ml",
                "labels": {"muster.dev/run": "ml.train.2", "muster.dev/run-epoch": "2", "muster.dev/queue": "q"},
                "annotations": {"muster.dev/traceparent": "00-aa-bb-01"},
            },
            "spec": {
                "queue": "q",
                "tasks": [{"name": "t", "replicas": 2, "template": {
                    "metadata": {
                        "labels": {"muster.dev/run": "ml.train.2", "muster.dev/run-epoch": "2", "muster.dev/queue": "q"},
                        "annotations": {"muster.dev/traceparent": "00-aa-bb-01"},
                    },
                    "spec": {
                        "containers": [{
                            "name": "c",
                            "env": [{"name": "A", "value": "b"}, {"name": "MUSTER_RUN_EPOCH", "value": "2"}],
                            "resources": {"limits": {"nvidia.com/gpu": 1}},
                        }],
                        "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
                            {"weight": 50, "preference": {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["n1"]}]}},
                        ]}},
                    },
                }}],
            },
        });
        assert_eq!(composed, expected);
    }

    #[test]
    fn the_first_run_has_the_jobs_name_and_is_not_suspended() {
        let manifest =
            parse_one("apiVersion: batch/v1\nkind: Job\nmetadata: {name: train}\nspec: {suspend: true, template: {spec: {containers: [{name: c}]}}}\n").unwrap();
        let composed = compose(&manifest.value, &marks(1, &[], &whole())).expect("a job");
        assert_eq!(composed["metadata"]["name"], "train");
        assert_eq!(composed["spec"]["suspend"], false);
    }

    #[test]
    fn pods_are_bound_to_the_domain_they_must_stand_in_and_prefer_those_they_would_rather() {
        let manifest = parse_one(
            "apiVersion: batch/v1\nkind: Job\nmetadata: {name: train}\nspec: {template: {spec: {containers: [{name: c}]}}}\n",
        )
        .unwrap();
        let spec = |mode: TopologyMode, racks: &[&str]| {
            let racks = racks.iter().map(|rack| (*rack).to_owned()).collect();
            let gang = whole();
            let domains = BTreeMap::from([("example.com/rack".to_owned(), racks)]);
            let marks = RunMarks { domains: Some((mode, &domains)), ..marks(1, &[], &gang) };
            compose(&manifest.value, &marks).expect("a job").pointer("/spec/template/spec").cloned().unwrap()
        };
        assert_eq!(spec(TopologyMode::Required, &["r1"])["nodeSelector"], json!({"example.com/rack": "r1"}));
        let preferred = json!({"matchExpressions": [{"key": "example.com/rack", "operator": "In", "values": ["r1", "r2"]}]});
        assert_eq!(
            spec(TopologyMode::Preferred, &["r1", "r2"])["affinity"]["nodeAffinity"],
            json!({"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "preference": preferred}]})
        );
    }

    #[test]
    fn the_longest_names_make_a_label_and_an_object_name() {
        let job = "a".repeat(MAX_NAMES - 2);
        assert_eq!(run_label("ml", &job, 999_999).len(), 63);
        assert!(object_name(&job, 999_999).len() <= 63);
        assert_eq!(run_label("ml", "train", 3), "ml.train.3");
    }

    fn sized(manifest: &str, full: u32, workers: u32) -> (Value, Value) {
        let manifest = parse_one(manifest).expect("sound YAML");
        let gang = gang(full, Some(Elastic { group: 0, least: 2 }));
        let slots = [Slot { group: 0, node: "n1".to_owned(), workers, gpu: None }];
        let composed = compose(&manifest.value, &marks(1, &slots, &gang)).expect("a job");
        let larger = resized(&composed, &gang, full).expect("a job");
        (composed, larger)
    }

    const TEMPLATE: &str = "template: {spec: {containers: [{name: c, resources: {limits: {nvidia.com/gpu: 1}}}]}}";

    #[test]
    fn a_volcano_job_gets_the_replicas_of_its_size_and_keeps_its_minimum() {
        let head = "apiVersion: batch.volcano.sh/v1alpha1\nkind: Job\nmetadata: {name: a}\nspec: ";
        let (small, full) =
            sized(&format!("{head}{{tasks: [{{name: worker, replicas: 8, minAvailable: 2, {TEMPLATE}}}]}}\n"), 8, 5);
        assert_eq!((&small["spec"]["tasks"][0]["replicas"], &small["spec"]["minAvailable"]), (&json!(5), &json!(2)));
        assert_eq!((&full["spec"]["tasks"][0]["replicas"], &full["spec"]["minAvailable"]), (&json!(8), &json!(2)));
        assert_eq!(small["spec"]["tasks"][0]["template"], full["spec"]["tasks"][0]["template"], "clusters refuse a change of it");
        assert_eq!(small["metadata"], full["metadata"]);
    }

    #[test]
    fn a_kubernetes_job_gets_the_parallelism_of_its_size_and_an_indexed_one_as_many_completions() {
        let head = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: a}\nspec: ";
        let shape = |object: &Value| (object["spec"]["parallelism"].clone(), object["spec"]["completions"].clone());
        let (small, full) = sized(&format!("{head}{{parallelism: 8, {TEMPLATE}}}\n"), 8, 3);
        assert_eq!((shape(&small), shape(&full)), ((json!(3), Value::Null), (json!(8), Value::Null)));
        let indexed = format!("{head}{{parallelism: 8, completions: 8, completionMode: Indexed, {TEMPLATE}}}\n");
        let (small, full) = sized(&indexed, 8, 3);
        assert_eq!((shape(&small), shape(&full)), ((json!(3), json!(3)), (json!(8), json!(8))));
        let queue = format!("{head}{{parallelism: 8, completions: 80, completionMode: Indexed, {TEMPLATE}}}\n");
        let (small, full) = sized(&queue, 8, 3);
        assert_eq!((shape(&small), shape(&full)), ((json!(3), json!(80)), (json!(8), json!(80))));
    }

    #[test]
    fn a_pytorch_job_gets_the_workers_of_its_size() {
        let (small, full) = sized(
            &format!(
                "apiVersion: kubeflow.org/v1\nkind: PyTorchJob\nmetadata: {{name: a}}\nspec: {{elasticPolicy: {{minReplicas: 2, maxReplicas: 8}}, \
                 pytorchReplicaSpecs: {{Worker: {{replicas: 4, {TEMPLATE}}}}}}}\n"
            ),
            8,
            3,
        );
        let replicas = |object: &Value| object.pointer("/spec/pytorchReplicaSpecs/Worker/replicas").cloned();
        assert_eq!((replicas(&small), replicas(&full)), (Some(json!(3)), Some(json!(8))));
    }
}
