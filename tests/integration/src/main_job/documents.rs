//! What the team applies: a folder of documents of the shapes its users have.

use super::simulation::{CLOUD_PRICE, EDGES, IDC_PRICE, SERVE_ONLINE, TRAIN_CLOUD, TRAIN_IDC, TRAINER};

/// Fleets by list and by selector: what must be there before anything is placed. A list names only clusters that play.
pub fn fleets(clusters: &[&str]) -> String {
    let listed = |kind: &str, name: &str, members: &[&str]| {
        let playing: Vec<String> =
            members.iter().filter(|member| clusters.contains(member)).map(|member| format!("    - name: {member}\n")).collect();
        if playing.is_empty() {
            return String::new();
        }
        format!("{kind}  name: {name}\nspec:\n  clusters:\n{}---\n", playing.concat())
    };
    let kurator = "apiVersion: fleet.kurator.dev/v1alpha1\nkind: Fleet\nmetadata:\n  namespace: kurator-system\n";
    let muster = "apiVersion: muster.dev/v1\nkind: Fleet\nmetadata:\n";
    [
        listed(kurator, "fleet-train", &[TRAIN_IDC, TRAIN_CLOUD]),
        listed(muster, "fleet-canary", &EDGES[..2]),
        listed(muster, "fleet-serve", &[SERVE_ONLINE]),
        format!("{muster}  name: fleet-edge\nspec:\n  selector:\n    matchLabels:\n      tier: edge\n---\n"),
        format!(
            "{muster}  name: fleet-all\nspec:\n  selector:\n    matchExpressions:\n      - key: tier\n        operator: Exists\n"
        ),
    ]
    .concat()
}

/// What a GPU-hour costs.
pub fn prices() -> String {
    let euros = |micros: i64| format!("{:.2}", micros as f64 / 1e6);
    format!(
        "apiVersion: muster.dev/v1
kind: PriceBook
metadata:
  name: gpu
spec:
  currency: EUR
  prices:
    - clusters: [{TRAIN_IDC}]
      flavor: V100
      perGpuHour: \"{}\"
    - clusters: [{TRAIN_CLOUD}]
      flavor: A100
      perGpuHour: \"{}\"
",
        euros(IDC_PRICE),
        euros(CLOUD_PRICE)
    )
}

/// The capability of the team's queue, GPUs.
pub const QUEUE_GPUS: u32 = 88;

/// The team's queue: cheap first, dear when that is full. A second one, for the gang that doesn't fit.
pub fn queues() -> String {
    format!(
        "apiVersion: muster.dev/v1
kind: Queue
metadata:
  name: train-queue
spec:
  weight: 1
  reclaimable: true
  capability:
    nvidia.com/gpu: \"{QUEUE_GPUS}\"
  tiers:
    - clusters: [{TRAIN_IDC}]
    - clusters: [{TRAIN_CLOUD}]
---
apiVersion: scheduling.volcano.sh/v1beta1
kind: Queue
metadata:
  name: gang-queue
spec:
  weight: 1
  reclaimable: true
"
    )
}

/// The policy, as it also stands in git.
pub const POLICY: &str = "apiVersion: kyverno.io/v1
kind: ClusterPolicy
metadata:
  name: require-gpu-limits
spec:
  validationFailureAction: enforce
  rules:
    - name: validate-gpu
      match:
        any:
          - resources:
              kinds: [\"Pod\"]
              namespaces: [\"ml\"]
      validate:
        message: \"ML pods must request GPU and set cpu/memory limits.\"
        pattern:
          spec:
            containers:
              - resources:
                  requests:
                    nvidia.com/gpu: \"?*\"
                    cpu: \"?*\"
                    memory: \"?*\"
                  limits:
                    nvidia.com/gpu: \"?*\"
                    cpu: \"?*\"
                    memory: \"?*\"
";

/// The binding of the policy to every cluster, from git.
pub const FLEET_POLICY: &str = "apiVersion: policy.kurator.dev/v1alpha1
kind: FleetPolicy
metadata:
  name: ml-baseline
  namespace: kurator-system
spec:
  fleetRef:
    name: fleet-all
  policies:
    - name: require-gpu-limits
      source:
        gitRepositoryRef:
          name: mlops-gitops
        path: ./policies/require-gpu-limits.yaml
";

/// Where the releases come from, and what opens it.
pub fn repository(url: &str, secret: Option<&str>) -> String {
    let secret = secret.map(|name| format!("  secretRef:\n    name: {name}\n")).unwrap_or_default();
    format!(
        "apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata:
  name: mlops-gitops
  namespace: kurator-system
spec:
  interval: 1s
  url: {url}
  ref:
    branch: main
{secret}"
    )
}

/// The model, whose training-complete events the pipeline and the administrator may send.
pub const MODEL: &str = "apiVersion: muster.dev/v1
kind: Model
metadata:
  name: resnet50
spec:
  gitRepositoryRef:
    name: mlops-gitops
    namespace: kurator-system
  path: models/resnet50
  trust:
    sources: [/pipelines/demo]
    subjects: [bootstrap-admin]
";

/// The application with its waves, on those of `clusters` that serve. `soak` is how long a wave must stay well.
pub fn application(clusters: &[&str], soak: &str) -> String {
    let mut targets = String::new();
    for cluster in [&[SERVE_ONLINE], &EDGES[..]].concat().into_iter().filter(|cluster| clusters.contains(cluster)) {
        targets.push_str(&format!("    - cluster: {cluster}\n      path: ./serving/resnet50/overlays/{cluster}\n"));
    }
    let online = if clusters.contains(&SERVE_ONLINE) {
        format!("      - clusters: [{SERVE_ONLINE}]\n        weights: [10, 100]\n")
    } else {
        String::new()
    };
    format!(
        "apiVersion: fleet.kurator.dev/v1alpha1
kind: FleetApplication
metadata:
  name: resnet50-serving
  namespace: kurator-system
spec:
  fleetRef:
    name: fleet-all
  gitRepositoryRef:
    name: mlops-gitops
  targets:
{targets}  syncPolicy:
    automated:
      prune: true
      selfHeal: true
  rollout:
    waves:
      - fleet: fleet-canary
{online}      - fleet: fleet-edge
    minSuccessTime: {soak}
    progressDeadline: 60s
    maxFailures: 0
    keepStableFor: 2s
    gate:
      query: sum(rate(requests_total{{app=\"resnet50\",version=\"{{{{version}}}}\",code!~\"5..\"}}[5s])) / sum(rate(requests_total{{app=\"resnet50\",version=\"{{{{version}}}}\"}}[5s]))
      min: 0.99
      interval: 1s
      count: 2
"
    )
}

/// A Volcano job as the team has it: `replicas` pods of `gpus` GPUs, all or nothing.
pub fn job(name: &str, queue: &str, tag: &str, replicas: u32, gpus: u32) -> String {
    format!(
        "apiVersion: batch.volcano.sh/v1alpha1
kind: Job
metadata:
  name: {name}
  namespace: ml
spec:
  queue: {queue}
  minAvailable: {replicas}
  tasks:
    - name: trainer
      replicas: {replicas}
      template:
        spec:
          containers:
            - name: trainer
              image: {TRAINER}:{tag}
              resources:
                limits:
                  nvidia.com/gpu: {gpus}
                  cpu: \"8\"
                  memory: \"32Gi\"
          restartPolicy: OnFailure
"
    )
}

/// A job that breaks the policy: it says nothing of memory.
pub fn careless_job(name: &str) -> String {
    job(name, "train-queue", "v3", 1, 1).replace("                  memory: \"32Gi\"\n", "")
}
