//! What stands under `deploy/k8s` is taken by a real API server without a warning, and means what it says: replicas, pods
//! without rights of their own, ports, selectors, references; and the programs accept the configuration it gives them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use muster_integration_tests::kafka::TOPICS;
use muster_integration_tests::patience::look;
use muster_integration_tests::platform::{Databases, Service};
use muster_integration_tests::{Setup, eventually_within};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::manifests::{self, Kubectl, called, entries, list, of_kind, rendered, selects, text};
use crate::workloads::{
    addressed, environment, harmless, has_port, named, pod, pod_labels, probed, reaching, replicated, workloads,
};
use crate::{clients, parts};

/// Controllers and a scheduler have to see it, one after the other.
const WITHIN: Duration = Duration::from_secs(90);

/// What is read back of a namespace.
const KINDS: &str = "deployments,statefulsets,jobs,services,configmaps,serviceaccounts,networkpolicies,poddisruptionbudgets";

/// The agent's account, as RBAC calls it.
const AGENT: &str = "system:serviceaccount:muster-agent:muster-agent";

#[tokio::test(flavor = "multi_thread")]
async fn the_deployment_manifests_are_what_was_meant() -> Result<()> {
    let stage = Stage::new()?;
    for (overlay, namespace, replicas) in [("overlays/dev", "muster-dev", 1), ("overlays/prod", "muster", 2)] {
        let objects = stage.applied(overlay, namespace).await?;
        stage.sound(&objects).with_context(|| overlay.to_owned())?;
        replicated(&objects, replicas).with_context(|| overlay.to_owned())?;
        addressed(&objects).with_context(|| overlay.to_owned())?;
        stage.topics_are_made(&objects).await.with_context(|| overlay.to_owned())?;
        stage.services_accept(&objects).await.with_context(|| overlay.to_owned())?;
        stage.runs(namespace, replicas).await.with_context(|| overlay.to_owned())?;
        stage.kubectl.run(&["delete", "namespace", namespace, "--wait=false"], "").await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agents_manifests_give_it_what_it_needs_and_no_more() -> Result<()> {
    let stage = Stage::new()?;
    let objects = stage.applied("agent", "muster-agent").await?;
    stage.sound(&objects)?;
    let agents = of_kind(&objects, "StatefulSet");
    let [agent] = agents.as_slice() else { anyhow::bail!("{} StatefulSets, not one", agents.len()) };
    ensure!(agent["spec"]["replicas"] == 1, "two agents of one cluster");
    let claims = list(agent, "/spec/volumeClaimTemplates");
    ensure!(claims.len() == 1 && claims[0]["metadata"]["name"] == "ledger", "the ledger is on no volume of its own");
    for (verb, resource) in [
        ("watch", "nodes"),
        ("watch", "pods"),
        ("get", "pods/log"),
        ("create", "namespaces"),
        ("patch", "customresourcedefinitions.apiextensions.k8s.io"),
        ("patch", "deployments.apps"),
        ("delete", "deployments.apps"),
        ("create", "jobs.batch"),
        ("delete", "services"),
    ] {
        let may = async || Ok(look(stage.kubectl.may(AGENT, verb, resource).await?, (), || "not yet".to_owned()));
        eventually_within(WITHIN, &format!("the agent may {verb} {resource}"), may).await?;
    }
    for (verb, resource) in [
        ("get", "secrets"),
        ("delete", "namespaces"),
        ("delete", "customresourcedefinitions.apiextensions.k8s.io"),
        ("create", "pods"),
        ("create", "pods/exec"),
        ("patch", "clusterroles.rbac.authorization.k8s.io"),
        ("delete", "nodes"),
    ] {
        ensure!(!stage.kubectl.may(AGENT, verb, resource).await?, "the agent may {verb} {resource}");
    }
    stage.agent_accepts(agent, &objects).await?;
    stage.kubectl.run(&["delete", "namespace", "muster-agent", "--wait=false"], "").await?;
    Ok(())
}

/// Where the manifests are tried.
struct Stage {
    setup: Setup,
    kubectl: Kubectl,
    cluster: PathBuf,
    folder: TempDir,
    readme: String,
}

impl Stage {
    fn new() -> Result<Self> {
        let setup = Setup::for_tests(env!("CARGO_BIN_EXE_leash"), json!({}))?;
        let cluster = parts::clusters()?.into_iter().next().context("no cluster was started")?;
        let folder = TempDir::with_prefix("muster-manifests-")?;
        let kubectl = Kubectl::on(&cluster, folder.path())?;
        let readme = std::fs::read_to_string(manifests::folder().join("README.md"))?;
        Ok(Self { setup, kubectl, cluster, folder, readme })
    }

    /// Renders and applies, twice: the second time changes nothing. Answers what is there then.
    async fn applied(&self, which: &str, namespace: &str) -> Result<Vec<Value>> {
        let manifests = rendered(&self.setup, which).await?;
        self.kubectl.apply(&manifests).await.with_context(|| which.to_owned())?;
        let (differs, _) = self.kubectl.run(&["diff", "--server-side", "-f", "-"], &manifests).await?;
        ensure!(differs.is_empty(), "{which} is not what was applied: {differs}");
        let (labels, _) = self.kubectl.run(&["get", "namespace", namespace, "-o", "json"], "").await?;
        let labels: Value = serde_json::from_str(&labels)?;
        for mode in ["enforce", "warn", "audit"] {
            let label = &labels["metadata"]["labels"][format!("pod-security.kubernetes.io/{mode}")];
            ensure!(label == "restricted", "{namespace}: Pod Security's {mode} is {label}");
        }
        self.kubectl.objects(namespace, KINDS).await
    }

    /// What is to be said of every pod, Service, budget and policy.
    fn sound(&self, objects: &[Value]) -> Result<()> {
        let workloads = workloads(objects);
        for workload in &workloads {
            harmless(workload).and_then(|()| self.referring(workload, objects)).with_context(|| called(workload))?;
            if workload["kind"] != "Job" {
                probed(workload).with_context(|| called(workload))?;
            }
        }
        for service in of_kind(objects, "Service") {
            let selector = json!({"matchLabels": service["spec"]["selector"]});
            for port in list(service, "/spec/ports") {
                ensure!(
                    workloads
                        .iter()
                        .any(|workload| selects(&selector, pod_labels(workload)) && has_port(workload, &port["targetPort"])),
                    "{} port {}: no container has it",
                    called(service),
                    port["name"]
                );
            }
        }
        for policy in of_kind(objects, "NetworkPolicy") {
            reaching(policy, &workloads).with_context(|| called(policy))?;
        }
        let closed = |policy: &&Value| {
            policy["spec"]["podSelector"] == json!({})
                && list(policy, "/spec/policyTypes").len() == 2
                && list(policy, "/spec/ingress").is_empty()
                && list(policy, "/spec/egress").is_empty()
        };
        let policies = of_kind(objects, "NetworkPolicy");
        let all_closed = policies.iter().any(closed)
            || workloads.iter().all(|workload| {
                let guarded = |policy: &&Value| {
                    selects(&policy["spec"]["podSelector"], pod_labels(workload)) && list(policy, "/spec/policyTypes").len() == 2
                };
                policies.iter().any(guarded)
            });
        ensure!(all_closed, "some pod is reached by everybody");
        Ok(())
    }

    /// Every ConfigMap and account is there, and every Secret is one that the README tells to make.
    fn referring(&self, workload: &Value, objects: &[Value]) -> Result<()> {
        let pod = pod(workload);
        let there = |kind: &str, name: &str| of_kind(objects, kind).iter().any(|object| object["metadata"]["name"] == name);
        let told = |name: &str| self.readme.contains(&format!("`{name}`"));
        let account = text(pod, "/serviceAccountName");
        ensure!(there("ServiceAccount", account), "no account {account:?}");
        let container = &pod["containers"][0];
        let mut config_maps: Vec<&str> =
            list(container, "/envFrom").iter().map(|from| text(from, "/configMapRef/name")).collect();
        let mut secrets = Vec::new();
        for variable in list(container, "/env") {
            secrets.push(text(variable, "/valueFrom/secretKeyRef/name"));
        }
        for volume in list(pod, "/volumes") {
            config_maps.push(text(volume, "/configMap/name"));
            secrets.push(text(volume, "/secret/secretName"));
        }
        for name in config_maps.into_iter().filter(|name| !name.is_empty()) {
            ensure!(there("ConfigMap", name) || told(name), "no ConfigMap {name:?}, and the README tells nobody to make it");
        }
        for name in secrets.into_iter().filter(|name| !name.is_empty()) {
            ensure!(told(name), "the README tells nobody to make the Secret {name:?}");
        }
        let volumes: BTreeSet<&str> = list(pod, "/volumes").iter().map(|volume| text(volume, "/name")).collect();
        for mount in list(container, "/volumeMounts") {
            let name = text(mount, "/name");
            let claimed = list(workload, "/spec/volumeClaimTemplates").iter().any(|claim| claim["metadata"]["name"] == name);
            ensure!(volumes.contains(name) || claimed, "no volume {name:?}");
        }
        Ok(())
    }

    /// The Job asks for the topics that the services want.
    async fn topics_are_made(&self, objects: &[Value]) -> Result<()> {
        let job = named(objects, "Job", "topics")?;
        let container = &pod(job)["containers"][0];
        let script = text(container, "/args/0").replace("/opt/kafka/bin/kafka-topics.sh", "echo");
        let mut command = Command::new("sh");
        command.args(["-ec", &script]).envs(environment(job, objects));
        let said = clients::run(command, "").await?;
        let asked: BTreeSet<&str> = said.lines().filter_map(|line| line.split_once("--topic ")?.1.split(' ').next()).collect();
        ensure!(asked == TOPICS.into_iter().collect(), "the Job makes {asked:?}");
        ensure!(said.lines().all(|line| line.contains("--bootstrap-server kafka")), "{said}");
        Ok(())
    }

    /// Each service's own program reads what its pods are given, and makes its tables.
    async fn services_accept(&self, objects: &[Value]) -> Result<()> {
        let databases = Databases::create(&self.setup.database_url).await?;
        for service in Service::ALL {
            let name = service.name();
            let job = named(objects, "Job", &format!("{name}-migration"))?;
            let deployment = named(objects, "Deployment", name)?;
            for (workload, verb) in [(job, "migrate"), (deployment, "run")] {
                let words = list(&pod(workload)["containers"][0], "/command");
                let meant = [&service.program(), verb, "--config", "/etc/muster/config.toml"];
                ensure!(words == meant, "{}: it runs {words:?}", called(workload));
            }
            let file = self.config(deployment, objects)?;
            let mut command = Command::new(self.setup.programs.join(service.program()));
            command.args(["migrate", "--config"]).arg(file).envs(environment(deployment, objects));
            command.env("MUSTER_DATABASE__URL", databases.url(service));
            clients::run(command, "").await.with_context(|| format!("{name} does not take its configuration"))?;
        }
        Ok(())
    }

    /// The agent's program reads what its pod is given, and with its account's rights sees what it needs.
    async fn agent_accepts(&self, agent: &Value, objects: &[Value]) -> Result<()> {
        let words = list(&pod(agent)["containers"][0], "/command");
        ensure!(words == ["muster-agent", "run", "--config", "/etc/muster/config.toml"], "it runs {words:?}");
        let (token, _) = self.kubectl.run(&["create", "token", "muster-agent", "--namespace", "muster-agent"], "").await?;
        let mut kubeconfig: Value = serde_json::from_slice(&std::fs::read(self.cluster.join("kubeconfig"))?)?;
        kubeconfig["users"][0]["user"]["token"] = token.into();
        let own = self.folder.path().join("agent.kubeconfig");
        std::fs::write(&own, kubeconfig.to_string())?;
        let mut command = Command::new(self.setup.programs.join("muster-agent"));
        command.args(["preflight", "--config"]).arg(self.config(agent, objects)?).env("KUBECONFIG", own);
        let said = clients::run(command, "").await?;
        ensure!(said.contains("all is well"), "{said}");
        Ok(())
    }

    /// The configuration file that a workload's ConfigMap holds.
    fn config(&self, workload: &Value, objects: &[Value]) -> Result<PathBuf> {
        let volumes = list(pod(workload), "/volumes");
        let volume = volumes.iter().find(|volume| volume["name"] == "config").context("no volume config")?;
        let map = named(objects, "ConfigMap", text(volume, "/configMap/name"))?;
        let content = entries(map).remove("config.toml").context("no config.toml")?;
        let file = self.folder.path().join(format!("{}.toml", text(workload, "/metadata/name")));
        std::fs::write(&file, content)?;
        Ok(file)
    }

    /// The pods are let in and scheduled, and their budgets count them.
    async fn runs(&self, namespace: &str, replicas: u64) -> Result<()> {
        eventually_within(WITHIN, &format!("everything of {namespace} runs"), async || {
            let objects = self.kubectl.objects(namespace, KINDS).await?;
            let deployments = of_kind(&objects, "Deployment")
                .into_iter()
                .map(|deployment| (called(deployment), deployment["status"]["readyReplicas"] == replicas));
            let jobs = of_kind(&objects, "Job").into_iter().map(|job| (called(job), job["status"]["active"] == 1));
            let budgets = of_kind(&objects, "PodDisruptionBudget").into_iter().map(|budget| {
                let status = &budget["status"];
                (called(budget), status["expectedPods"] == replicas && status["disruptionsAllowed"] == 1)
            });
            let waiting: Vec<String> =
                deployments.chain(jobs).chain(budgets).filter(|(_, well)| !well).map(|(name, _)| name).collect();
            Ok(look(waiting.is_empty(), (), || waiting.join(", ")))
        })
        .await
    }
}
