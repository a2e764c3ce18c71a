//! What each kind of workload leads to, and where a place in a Pod comes from.

use super::*;
use serde_json::json;

fn template() -> Value {
    json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}})
}

fn workload(api_version: &str, kind: &str, spec: Value) -> Value {
    json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "w", "namespace": "ml"}, "spec": spec})
}

/// `Kind name` of everything made, and where the first container comes from.
fn summary(workload: &Value) -> Vec<(String, Option<String>)> {
    made_by(workload)
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
    let pod = &made_by(&volcano)[0].object;
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

#[test]
fn what_is_no_workload_makes_nothing() {
    for object in [
        json!({}),
        workload("v1", "Service", json!({})),
        workload("batch.volcano.sh/v1alpha1", "Job", json!({"tasks": "x"})),
        workload("batch/v1", "Job", json!({})),
    ] {
        assert_eq!(made_by(&object), [], "{object}");
    }
}
