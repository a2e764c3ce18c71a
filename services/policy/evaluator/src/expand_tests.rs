//! What each kind of workload leads to, and where a place in a Pod comes from.

use super::*;
use crate::inventory::{Extent, Inventory};
use serde_json::json;

fn template() -> Value {
    json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}})
}

fn workload(api_version: &str, kind: &str, spec: Value) -> Value {
    json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "w", "namespace": "ml"}, "spec": spec})
}

/// `Kind name` of everything made, and where the first container comes from.
fn summary(workload: &Value) -> Vec<(String, Option<String>)> {
    made_by(workload, &Around::default())
        .iter()
        .map(|made| {
            let kind = made.object["kind"].as_str().expect("a kind");
            let name = made.object["metadata"].get("name").or(made.object["metadata"].get("generateName"));
            assert_eq!(made.object["metadata"]["namespace"], "ml");
            let place = match kind {
                "Pod" => "spec",
                _ => "spec.template.spec",
            };
            let container = Path::of_keys(place).key("containers").index(0);
            let origin = made.origins.of(&container).map(|path| path.to_string());
            (format!("{kind} {}", name.and_then(Value::as_str).expect("a name")), origin)
        })
        .collect()
}

fn expect(workload: &Value, expected: &[(&str, Option<&str>)]) {
    let expected: Vec<_> = expected.iter().map(|(name, origin)| ((*name).to_owned(), origin.map(str::to_owned))).collect();
    assert_eq!(summary(workload), expected);
}

#[test]
fn built_in_controllers_lead_to_their_pods() {
    let spec = json!({"template": template()});
    let place = Some("spec.template.spec.containers[0]");
    expect(&workload("apps/v1", "Deployment", spec.clone()), &[("ReplicaSet w-", place), ("Pod w-", place)]);
    expect(&workload("apps/v1", "StatefulSet", spec.clone()), &[("Pod w-0", place)]);
    expect(&workload("apps/v1", "DaemonSet", spec.clone()), &[("Pod w-", place)]);
    expect(&workload("batch/v1", "Job", spec.clone()), &[("Pod w-", place)]);
    let nested = Some("spec.jobTemplate.spec.template.spec.containers[0]");
    let cron = workload("batch/v1", "CronJob", json!({"jobTemplate": {"spec": spec}}));
    expect(&cron, &[("Job w-", nested), ("Pod w-", nested)]);
}

#[test]
fn training_jobs_lead_to_a_pod_for_each_template() {
    let volcano =
        json!({"queue": "q", "tasks": [{"name": "ps", "template": template()}, {"name": "worker", "template": template()}]});
    let volcano = workload("batch.volcano.sh/v1alpha1", "Job", volcano);
    let expected = [
        ("Pod w-ps-0", Some("spec.tasks[0].template.spec.containers[0]")),
        ("Pod w-worker-0", Some("spec.tasks[1].template.spec.containers[0]")),
    ];
    expect(&volcano, &expected);
    let pod = &made_by(&volcano, &Around::default())[0].object;
    assert_eq!(pod["spec"]["schedulerName"], "volcano");
    assert_eq!(
        pod["metadata"]["labels"],
        json!({"app": "a", "volcano.sh/job-name": "w", "volcano.sh/task-spec": "ps", "volcano.sh/queue-name": "q"})
    );

    let job_set = json!({"replicatedJobs": [{"name": "main", "template": {"spec": {"template": template()}}}]});
    let place = Some("spec.replicatedJobs[0].template.spec.template.spec.containers[0]");
    let job_set = workload("jobset.x-k8s.io/v1alpha2", "JobSet", job_set);
    expect(&job_set, &[("Job w-main-0", place), ("Pod w-main-0-", place)]);

    let pytorch = json!({"pytorchReplicaSpecs": {"Master": {"template": template()}, "Worker": {"template": template()}}});
    let expected = [
        ("Pod w-master-0", Some("spec.pytorchReplicaSpecs.Master.template.spec.containers[0]")),
        ("Pod w-worker-0", Some("spec.pytorchReplicaSpecs.Worker.template.spec.containers[0]")),
    ];
    expect(&workload("kubeflow.org/v1", "PyTorchJob", pytorch), &expected);

    let ray = json!({"rayClusterSpec": {
        "headGroupSpec": {"template": template()},
        "workerGroupSpecs": [{"groupName": "gpu", "template": template()}],
    }});
    let expected = [
        ("Pod w-head-", Some("spec.rayClusterSpec.headGroupSpec.template.spec.containers[0]")),
        ("Pod w-gpu-worker-", Some("spec.rayClusterSpec.workerGroupSpecs[0].template.spec.containers[0]")),
        ("Job w", None),
        ("Pod w-", None),
    ];
    expect(&workload("ray.io/v1", "RayJob", ray), &expected);
}

fn training_runtime() -> Value {
    let job = |step: &str, container: Value| {
        json!({"name": step, "template": {
            "metadata": {"labels": {"trainer.kubeflow.org/trainjob-ancestor-step": step}},
            "spec": {"template": {"spec": {"containers": [container]}}},
        }})
    };
    let jobs = json!([
        job("dataset-initializer", json!({"name": "dataset-initializer", "image": "fetch:1"})),
        job("trainer", json!({"name": "node", "image": "torch:1", "env": [{"name": "A", "value": "runtime"}]})),
    ]);
    json!({
        "apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "ClusterTrainingRuntime", "metadata": {"name": "torch"},
        "spec": {"template": {"spec": {"replicatedJobs": jobs}}},
    })
}

#[test]
fn a_train_job_is_its_runtime_with_what_it_says_itself_laid_over() {
    let spec = json!({
        "runtimeRef": {"name": "torch"},
        "initializer": {"dataset": {"storageUri": "hf://data"}},
        "trainer": {"image": "mine:2", "env": [{"name": "A", "value": "job"}], "resourcesPerNode": {"limits": {"nvidia.com/gpu": 8}}},
        "podTemplateOverrides": [{"targetJobs": [{"name": "trainer"}], "spec": {"serviceAccountName": "trainer"}}],
    });
    let job = workload("trainer.kubeflow.org/v1alpha1", "TrainJob", spec);
    let delivered = [training_runtime()];
    let in_the_cluster = Inventory::new(vec![training_runtime()], Extent::Whole);
    for around in [
        Around { manifests: &delivered, default_namespace: "default", inventory: None },
        Around { inventory: Some(&in_the_cluster), ..Around::default() },
    ] {
        let made = made_by(&job, &around);
        let kinds: Vec<&str> = made.iter().filter_map(|made| made.object["kind"].as_str()).collect();
        assert_eq!(kinds, ["JobSet", "Job", "Pod", "Job", "Pod"]);
        let [fetch, train] = [&made[2], &made[4]];
        assert_eq!(fetch.object["spec"]["containers"][0]["env"], json!([{"name": "STORAGE_URI", "value": "hf://data"}]));
        let container = &train.object["spec"]["containers"][0];
        assert_eq!((&container["image"], &container["env"][0]["value"]), (&json!("mine:2"), &json!("job")));
        assert_eq!(train.object["spec"]["serviceAccountName"], "trainer");
        let containers = Path::of_keys("spec.containers");
        let origin = |path: &Path| train.origins.of(path).map(|path| path.to_string());
        let limits = containers.index(0).join(&Path::of_keys("resources.limits"));
        assert_eq!(origin(&limits).as_deref(), Some("spec.trainer.resourcesPerNode.limits"));
        assert_eq!(origin(&containers.index(0).key("name")), None, "the runtime's own");
        assert_eq!(made_by(&fetch.object, &around), []);
    }
}

#[test]
fn a_service_of_models_is_its_own_containers_or_its_runtime() {
    let custom = json!({"predictor": {"minReplicas": 1, "containers": [{"name": "kserve-container", "image": "mine:1"}]}});
    let custom = workload("serving.kserve.io/v1beta1", "InferenceService", custom);
    expect(&custom, &[("Pod w-predictor-", Some("spec.predictor.containers[0]"))]);
    assert_eq!(made_by(&custom, &Around::default())[0].object["spec"].get("minReplicas"), None);

    let runtime = |name: &str, format: &str| {
        json!({
            "apiVersion": "serving.kserve.io/v1alpha1", "kind": "ClusterServingRuntime", "metadata": {"name": name},
            "spec": {
                "supportedModelFormats": [{"name": format, "autoSelect": true}], "nodeSelector": {"gpu": "yes"},
                "containers": [{"name": "kserve-container", "image": format!("{name}:1"), "args": ["--port=1"]}],
            },
        })
    };
    let in_the_cluster = Inventory::new(vec![runtime("other", "onnx"), runtime("vllm", "llm")], Extent::Whole);
    let around = Around { inventory: Some(&in_the_cluster), ..Around::default() };
    for (model, image) in [
        (json!({"modelFormat": {"name": "llm"}}), "vllm:1"),
        (json!({"modelFormat": {"name": "x"}, "runtime": "other"}), "other:1"),
    ] {
        let mut model = model;
        model["args"] = json!(["--model=m"]);
        model["resources"] = json!({"limits": {"nvidia.com/gpu": 1}});
        let predictor = json!({"predictor": {"serviceAccountName": "serves", "model": model}});
        let made = made_by(&workload("serving.kserve.io/v1beta1", "InferenceService", predictor), &around);
        let [Made { object, origins, unknown: None }] = made.as_slice() else { panic!("{made:?}") };
        let spec = &object["spec"];
        assert_eq!((&spec["containers"][0]["image"], &spec["nodeSelector"]["gpu"]), (&json!(image), &json!("yes")));
        assert_eq!(spec["containers"][0]["args"], json!(["--port=1", "--model=m"]));
        let origin = |path: &Path| origins.of(path).map(|path| path.to_string());
        let container = Path::of_keys("spec.containers").index(0);
        assert_eq!(origin(&container.key("resources")).as_deref(), Some("spec.predictor.model.resources"));
        assert_eq!(origin(&container.key("image")), None, "the runtime's own");
        assert_eq!(origin(&Path::of_keys("spec.serviceAccountName")).as_deref(), Some("spec.predictor.serviceAccountName"));
    }
}

#[test]
fn pods_from_a_template_that_nobody_knows_are_said_to_be_unknown() {
    let unknown = |workload: &Value, around: &Around<'_>| {
        let made = made_by(workload, around);
        assert_eq!(made.len(), 1, "{made:?}");
        made[0].unknown.clone().expect("a reason")
    };
    let training = workload("trainer.kubeflow.org/v1alpha1", "TrainJob", json!({"runtimeRef": {"name": "torch"}}));
    let serving = json!({"predictor": {"model": {"modelFormat": {"name": "llm"}}}});
    let serving = workload("serving.kserve.io/v1beta1", "InferenceService", serving);
    let nowhere = Around::default();
    assert_eq!(
        unknown(&training, &nowhere),
        "its Pods are made from the ClusterTrainingRuntime \"torch\", which is not known here"
    );
    assert!(unknown(&serving, &nowhere).contains("a ServingRuntime that fits"));
    let empty = Inventory::new(Vec::new(), Extent::Whole);
    let cluster = Around { inventory: Some(&empty), ..Around::default() };
    assert!(unknown(&training, &cluster).ends_with("which is not there"));
    assert!(unknown(&serving, &cluster).ends_with("models of the format \"llm\""));
}

#[test]
fn what_is_no_workload_makes_nothing() {
    for object in [
        json!({}),
        workload("v1", "Service", json!({})),
        workload("batch.volcano.sh/v1alpha1", "Job", json!({"tasks": "x"})),
        workload("batch/v1", "Job", json!({})),
    ] {
        assert_eq!(made_by(&object, &Around::default()), [], "{object}");
    }
}
