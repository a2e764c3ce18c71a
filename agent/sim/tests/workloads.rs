//! The controllers and the simulated nodes: what becomes of workloads.

mod support;

use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::api::{Api, DeleteParams, LogParams, Patch, PatchParams};
use serde_json::{Value, json};
use support::{apply, client, cluster, deployment, eventually, object};

fn is_available(deployment: &Value, replicas: u32) -> bool {
    let status = &deployment["status"];
    deployment["metadata"]["generation"] == status["observedGeneration"]
        && status["availableReplicas"] == replicas
        && status["updatedReplicas"] == replicas
        && status["replicas"] == replicas
}

#[tokio::test]
async fn a_roll_out_never_falls_below_what_has_to_be_available() {
    let cluster = cluster(2, json!([]));
    apply(&cluster, deployment("web", 4, "web:v1", 0)).await;
    object(&cluster, "deployments.apps", "web", |found| is_available(found, 4)).await;
    let before = cluster.audit_lines(0, usize::MAX).unwrap().len() as u64;
    apply(&cluster, deployment("web", 4, "web:v2", 0)).await;
    let done = object(&cluster, "deployments.apps", "web", |found| is_available(found, 4)).await;
    let progressing = done["status"]["conditions"].as_array().unwrap().iter().find(|one| one["type"] == "Progressing").unwrap();
    assert_eq!(progressing["reason"], "NewReplicaSetAvailable");
    // 25 % of four may be missing, and 25 % more may be wanted.
    let mut wanted: std::collections::BTreeMap<String, i64> = std::collections::BTreeMap::new();
    for line in cluster.audit_lines(0, usize::MAX).unwrap() {
        let entry: Value = serde_json::from_str(&line).unwrap();
        let object = &entry["object"];
        if entry["resource"] == "replicasets.apps" {
            wanted.insert(entry["name"].to_string(), object["spec"]["replicas"].as_i64().unwrap_or(0));
            assert!(wanted.values().sum::<i64>() <= 5, "{wanted:?}");
        }
        if entry["seq"].as_u64() > Some(before) && entry["resource"] == "deployments.apps" && entry["subresource"] == "status" {
            assert!(object["status"]["availableReplicas"].as_i64().unwrap_or(0) >= 3, "{object}");
        }
    }
    // The last old pod may still be ending.
    eventually("only pods of the new image are left", || {
        let pods = cluster.objects("pods", "default");
        let images: Vec<&Value> = pods.iter().map(|pod| &pod["spec"]["containers"][0]["image"]).collect();
        (images == vec![&json!("web:v2"); 4]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_bad_image_stops_a_roll_out_and_keeps_the_old_pods() {
    let cluster = cluster(2, json!([{"match": "web:bad", "crash": true}, {"match": "web:nowhere", "pullError": true}]));
    let mut body = deployment("web", 2, "web:v1", 0);
    body["spec"]["progressDeadlineSeconds"] = json!(1);
    apply(&cluster, body.clone()).await;
    object(&cluster, "deployments.apps", "web", |found| is_available(found, 2)).await;
    for (image, reason) in [("web:bad", "CrashLoopBackOff"), ("web:nowhere", "ImagePullBackOff")] {
        body["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
        apply(&cluster, body.clone()).await;
        eventually(reason, || {
            let pods = cluster.objects("pods", "default");
            pods.iter().any(|pod| pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == reason).then_some(())
        })
        .await;
        let stuck = object(&cluster, "deployments.apps", "web", |found| {
            let conditions = found["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions.iter().any(|one| one["type"] == "Progressing" && one["reason"] == "ProgressDeadlineExceeded")
        })
        .await;
        assert_eq!(stuck["status"]["availableReplicas"], 2);
    }
    // The image turns up: the pod that waits for it starts.
    cluster.set_images(Vec::new()).unwrap();
    object(&cluster, "deployments.apps", "web", |found| is_available(found, 2)).await;
}

#[tokio::test]
async fn a_job_ends_as_its_image_says() {
    let cluster = cluster(
        1,
        json!([
            {"match": "train:good", "runForMs": 60, "logs": ["epoch 1", "epoch 2"]},
            {"match": "train:bad", "runForMs": 10, "exitCode": 3},
        ]),
    );
    let job = |name: &str, image: &str| {
        json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
            "spec": {"backoffLimit": 1, "completions": 2, "parallelism": 1, "template": {"spec": {
                "restartPolicy": "Never", "containers": [{"name": "main", "image": image}],
            }}},
        })
    };
    let ended = |found: &Value, kind: &str| {
        found["status"]["conditions"]
            .as_array()
            .is_some_and(|all| all.iter().any(|one| one["type"] == kind && one["status"] == "True"))
    };
    apply(&cluster, job("good", "train:good")).await;
    let good = object(&cluster, "jobs.batch", "good", |found| ended(found, "Complete")).await;
    assert_eq!((&good["status"]["succeeded"], good["status"]["failed"].is_null()), (&json!(2), true));
    let pods: Api<Pod> = Api::default_namespaced(client(&cluster));
    let pod = cluster.objects("pods", "default")[0]["metadata"]["name"].as_str().unwrap().to_owned();
    assert_eq!(pods.logs(&pod, &LogParams::default()).await.unwrap(), "epoch 1\nepoch 2\n");
    assert_eq!(pods.logs(&pod, &LogParams { tail_lines: Some(1), ..LogParams::default() }).await.unwrap(), "epoch 2\n");
    apply(&cluster, job("bad", "train:bad")).await;
    let bad = object(&cluster, "jobs.batch", "bad", |found| ended(found, "Failed")).await;
    assert_eq!(bad["status"]["failed"], 2);
    let reason =
        bad["status"]["conditions"].as_array().unwrap().iter().find(|one| one["type"] == "Failed").unwrap()["reason"].clone();
    assert_eq!(reason, "BackoffLimitExceeded");
}

#[tokio::test]
async fn a_deadline_can_be_moved_while_a_job_runs_and_kills_it_when_it_passes() {
    let cluster = cluster(1, json!([{"match": "train", "runForMs": 60000}]));
    apply(&cluster, json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "long"},
        "spec": {"activeDeadlineSeconds": 600, "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "train"}]}}},
    }))
    .await;
    object(&cluster, "jobs.batch", "long", |found| found["status"]["ready"] == 1).await;
    let jobs: Api<Job> = Api::default_namespaced(client(&cluster));
    let shorter = json!({"spec": {"activeDeadlineSeconds": 1}});
    jobs.patch("long", &PatchParams::default(), &Patch::Merge(shorter)).await.unwrap();
    let failed = object(&cluster, "jobs.batch", "long", |found| found["status"]["conditions"].is_array()).await;
    assert_eq!(failed["status"]["conditions"][0]["reason"], "DeadlineExceeded");
    eventually("the pod to end", || {
        cluster.objects("pods", "default").iter().all(|pod| pod["status"]["phase"] == "Failed").then_some(())
    })
    .await;
}

fn gang(name: &str, replicas: u32, gpus: u32, queue: &str) -> Value {
    json!({
        "apiVersion": "batch.volcano.sh/v1alpha1", "kind": "Job", "metadata": {"name": name},
        "spec": {"queue": queue, "minAvailable": replicas, "tasks": [{"name": "worker", "replicas": replicas, "template": {"spec": {
            "restartPolicy": "OnFailure",
            "containers": [{"name": "main", "image": "train:v1", "resources": {"limits": {"nvidia.com/gpu": gpus}}}],
        }}}]},
    })
}

#[tokio::test]
async fn a_gang_is_bound_whole_or_not_at_all() {
    let cluster = cluster(2, json!([]));
    apply(&cluster, gang("large", 3, 8, "default")).await;
    let waiting = |name: &'static str| {
        let cluster = cluster.clone();
        move || {
            let pod = cluster.object("pods", "default", name)?;
            let condition = pod["status"]["conditions"].as_array()?.iter().find(|one| one["type"] == "PodScheduled")?.clone();
            (condition["status"] == "False").then(|| condition["message"].as_str().unwrap_or("").to_owned())
        }
    };
    let why = eventually("the gang to wait", waiting("large-worker-0")).await;
    assert!(why.contains("gang unschedulable") && why.contains("Insufficient nvidia.com/gpu"), "{why}");
    apply(&cluster, gang("small", 2, 8, "default")).await;
    let done = object(&cluster, "jobs.batch.volcano.sh", "small", |found| found["status"]["state"]["phase"] == "Completed").await;
    assert_eq!(done["status"]["succeeded"], 2);
    let bound = cluster.objects("pods", "default").into_iter().filter(|pod| pod["spec"]["nodeName"].is_string()).count();
    assert_eq!(bound, 2, "only the gang that fits was ever bound");
    // A third node, and the large one fits as well.
    cluster.add_nodes(&serde_json::from_value(json!({"count": 1, "prefix": "node", "gpus": 8})).unwrap()).unwrap();
    object(&cluster, "jobs.batch.volcano.sh", "large", |found| found["status"]["state"]["phase"] == "Completed").await;
}

#[tokio::test]
async fn of_a_task_with_fewer_replicas_the_first_pods_stay() {
    let cluster = cluster(1, json!([{"match": "train:*", "runForMs": 60000}]));
    let names = || -> Vec<String> {
        let pods = cluster.objects("pods", "default").into_iter();
        let mut running: Vec<String> = pods
            .filter(|pod| pod["status"]["phase"] == "Running" && pod["metadata"]["deletionTimestamp"].is_null())
            .map(|pod| pod["metadata"]["name"].as_str().unwrap_or_default().to_owned())
            .collect();
        running.sort();
        running
    };
    for replicas in [3, 1, 2] {
        let mut job = gang("elastic", replicas, 1, "default");
        job["spec"]["minAvailable"] = json!(1);
        apply(&cluster, job).await;
        let wanted: Vec<String> = (0..replicas).map(|number| format!("elastic-worker-{number}")).collect();
        eventually("the pods to be as many", || (names() == wanted).then_some(())).await;
        object(&cluster, "jobs.batch.volcano.sh", "elastic", |found| {
            found["status"]["state"]["phase"] == "Running" && found["status"]["running"] == replicas
        })
        .await;
    }
}

#[tokio::test]
async fn a_queue_holds_what_is_beyond_its_capability() {
    let cluster = cluster(2, json!([{"match": "train:*", "runForMs": 60000}]));
    apply(&cluster, gang("lost", 1, 1, "nowhere")).await;
    let message = |pod: &str| {
        let pod = cluster.object("pods", "default", pod)?;
        Some(pod["status"]["conditions"].as_array()?.iter().find(|one| one["status"] == "False")?["message"].as_str()?.to_owned())
    };
    let why = eventually("the job without a queue to wait", || message("lost-worker-0")).await;
    assert!(why.contains("queue \"nowhere\" not found"), "{why}");
    let queues: Api<kube::api::DynamicObject> = Api::all_with(
        client(&cluster),
        &kube::api::ApiResource::from_gvk(&kube::core::GroupVersionKind::gvk("scheduling.volcano.sh", "v1beta1", "Queue")),
    );
    let queue = json!({
        "apiVersion": "scheduling.volcano.sh/v1beta1", "kind": "Queue", "metadata": {"name": "team"},
        "spec": {"weight": 1, "capability": {"nvidia.com/gpu": 4}},
    });
    queues.patch("team", &PatchParams::apply("test"), &Patch::Apply(&queue)).await.unwrap();
    apply(&cluster, gang("first", 1, 4, "team")).await;
    object(&cluster, "jobs.batch.volcano.sh", "first", |found| found["status"]["state"]["phase"] == "Running").await;
    apply(&cluster, gang("second", 1, 1, "team")).await;
    let why = eventually("the second job to wait", || message("second-worker-0")).await;
    assert!(why.contains("capability"), "{why}");
}

#[tokio::test]
async fn a_pod_waits_for_the_configuration_it_names() {
    let cluster = cluster(1, json!([]));
    let mut body = deployment("web", 1, "web:v1", 0);
    body["spec"]["template"]["spec"]["containers"][0]["env"] =
        json!([{"name": "URI", "valueFrom": {"configMapKeyRef": {"name": "model", "key": "uri"}}}]);
    apply(&cluster, body).await;
    eventually("the pod to wait", || {
        let pods = cluster.objects("pods", "default");
        let reason = &pods.first()?["status"]["containerStatuses"][0]["state"]["waiting"]["reason"];
        (reason == "CreateContainerConfigError").then_some(())
    })
    .await;
    apply(&cluster, json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "model"}, "data": {"uri": "s3://a"}}))
        .await;
    object(&cluster, "deployments.apps", "web", |found| is_available(found, 1)).await;
}

#[tokio::test]
async fn pods_of_a_lost_node_come_back_elsewhere() {
    let cluster = cluster(2, json!([]));
    apply(&cluster, deployment("web", 2, "web:v1", 1)).await;
    object(&cluster, "deployments.apps", "web", |found| is_available(found, 2)).await;
    let lost = cluster.objects("pods", "default")[0]["spec"]["nodeName"].as_str().unwrap().to_owned();
    cluster.remove_node(&lost).unwrap();
    eventually("the pods to move", || {
        let pods = cluster.objects("pods", "default");
        let ready = pods.iter().filter(|pod| pod["status"]["phase"] == "Running" && pod["spec"]["nodeName"] != lost.as_str());
        (ready.count() == 2 && pods.len() == 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn preferred_affinity_decides_among_nodes_that_fit() {
    let cluster = cluster(4, json!([]));
    let mut body = deployment("web", 3, "web:v1", 2);
    body["spec"]["template"]["spec"]["affinity"] = json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 100, "preference": {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["node-2"]}]}},
    ]}});
    apply(&cluster, body).await;
    object(&cluster, "deployments.apps", "web", |found| is_available(found, 3)).await;
    assert!(cluster.objects("pods", "default").iter().all(|pod| pod["spec"]["nodeName"] == "node-2"));
}

#[tokio::test]
async fn stateful_pods_start_in_order_and_daemons_on_every_node() {
    let cluster = cluster(3, json!([]));
    apply(&cluster, json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"},
        "spec": {
            "replicas": 3, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}},
            "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "main", "image": "db:v1"}]}},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}],
        },
    }))
    .await;
    object(&cluster, "statefulsets.apps", "db", |found| {
        found["status"]["readyReplicas"] == 3 && found["status"]["updatedReplicas"] == 3
    })
    .await;
    let versions: Vec<u64> = (0..3)
        .map(|index| {
            let claim = cluster.object("persistentvolumeclaims", "default", &format!("data-db-{index}")).unwrap();
            assert_eq!(claim["status"]["phase"], "Bound");
            let pod = cluster.object("pods", "default", &format!("db-{index}")).unwrap();
            pod["status"]["podIP"].as_str().unwrap().rsplit('.').next().unwrap().parse().unwrap()
        })
        .collect();
    assert!(versions.is_sorted(), "addresses are given in the order of starts: {versions:?}");
    apply(&cluster, json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "agent"},
        "spec": {
            "selector": {"matchLabels": {"app": "agent"}},
            "template": {"metadata": {"labels": {"app": "agent"}}, "spec": {"containers": [{"name": "main", "image": "agent:v1"}]}},
        },
    }))
    .await;
    object(&cluster, "daemonsets.apps", "agent", |found| found["status"]["numberReady"] == 3).await;
}

#[tokio::test]
async fn a_cron_job_makes_a_job_a_minute() {
    let cluster = cluster(1, json!([]));
    apply(
        &cluster,
        json!({
            "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "tick"},
            "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": {"spec": {
                "restartPolicy": "Never", "containers": [{"name": "main", "image": "tick"}],
            }}}}},
        }),
    )
    .await;
    eventually("two jobs", || (cluster.objects("jobs.batch", "default").len() >= 2).then_some(())).await;
}

#[tokio::test]
async fn an_evicted_pod_is_replaced() {
    let cluster = cluster(1, json!([]));
    apply(&cluster, deployment("web", 1, "web:v1", 0)).await;
    object(&cluster, "deployments.apps", "web", |found| is_available(found, 1)).await;
    let first = cluster.objects("pods", "default")[0].clone();
    let pods: Api<Pod> = Api::default_namespaced(client(&cluster));
    pods.delete(first["metadata"]["name"].as_str().unwrap(), &DeleteParams::default()).await.unwrap();
    eventually("a new pod", || {
        let pods = cluster.objects("pods", "default");
        (pods.len() == 1 && pods[0]["metadata"]["uid"] != first["metadata"]["uid"]).then_some(())
    })
    .await;
    object(&cluster, "deployments.apps", "web", |found| is_available(found, 1)).await;
}
