//! A real Kubernetes cluster on free loopback ports: etcd, API server, controllers and scheduler as they are built from
//! their modules, and kwok for nodes and pods that run without a machine under them.
//!
//! The one thing to know: nothing is installed. Each program is a process on a leash, and what a cluster keeps is in a
//! temporary folder that goes with it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::Part;
use super::certificate::Certificate;
use crate::cluster_api::ClusterApi;
use crate::eventually_within;
use crate::patience::{STARTS_WITHIN, look};
use crate::process::{Leash, Process, Program, free_port};

/// Where the programs are.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Programs {
    /// etcd.
    pub etcd: PathBuf,
    /// The folder of kube-apiserver, kube-controller-manager, kube-scheduler and kubectl.
    pub kubernetes: PathBuf,
    /// kwok.
    pub kwok: PathBuf,
    /// What kwok does to nodes and pods.
    pub stages: PathBuf,
}

impl Programs {
    /// The command line.
    pub fn kubectl(&self) -> PathBuf {
        self.kubernetes.join("kubectl")
    }
}

/// A running cluster. Dropping it ends it and what it kept.
pub struct Kubernetes {
    folder: TempDir,
    api: ClusterApi,
    name: String,
    // Dropped in this order: who talks to the API server before it, and it before what it talks to.
    clients: Vec<Part>,
    server: Part,
    etcd: Part,
}

impl Kubernetes {
    /// Starts one with these many nodes of eight GPUs of a model, and returns when they are ready.
    ///
    /// # Errors
    /// A program does not come up; the message holds the end of its log.
    pub async fn start(programs: &Programs, leash: &Leash, name: &str, nodes: u32, model: &str) -> Result<Self> {
        Self::start_without(programs, leash, name, nodes, model, &[]).await
    }

    /// As [`Kubernetes::start`], without these admission plugins of the API server.
    ///
    /// # Errors
    /// A program does not come up; the message holds the end of its log.
    pub async fn start_without(
        programs: &Programs,
        leash: &Leash,
        name: &str,
        nodes: u32,
        model: &str,
        plugins: &[&str],
    ) -> Result<Self> {
        let folder = TempDir::with_prefix(format!("muster-{name}-"))?;
        let at = |file: &str| folder.path().join(file);
        let text = |file: &str| at(file).display().to_string();
        let (store, peer, port) = (free_port()?, free_port()?, free_port()?);

        let store = format!("http://127.0.0.1:{store}");
        let peer = format!("http://127.0.0.1:{peer}");
        let etcd = Program::new(format!("etcd of {name}"), &programs.etcd)
            .arguments(["--name", name, "--data-dir", &text("etcd")])
            .arguments(["--listen-client-urls", &store, "--advertise-client-urls", &store])
            .arguments(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .argument(format!("--initial-cluster={name}={peer}"))
            .argument("--unsafe-no-fsync")
            .log(at("etcd.log"));
        let etcd = Part::start(etcd, leash)?;

        let token = uuid::Uuid::new_v4().simple().to_string();
        let authority = credentials(folder.path(), &token)?;
        let url = format!("https://127.0.0.1:{port}");
        std::fs::write(at("kubeconfig"), kubeconfig(name, &url, &authority, &token))?;
        std::fs::write(at("audit-policy.yaml"), AUDIT_POLICY)?;
        let server = Program::new(format!("kube-apiserver of {name}"), programs.kubernetes.join("kube-apiserver"))
            .arguments(["--etcd-servers", &store, "--bind-address", "127.0.0.1", "--secure-port", &port.to_string()])
            .arguments(["--tls-cert-file", &text("server.pem"), "--tls-private-key-file", &text("server.key")])
            .arguments(["--token-auth-file", &text("tokens.csv"), "--authorization-mode", "RBAC"])
            .arguments(["--service-account-issuer", "https://kubernetes.default.svc"])
            .arguments(["--service-account-key-file", &text("server.pub")])
            .arguments(["--service-account-signing-key-file", &text("server.key")])
            .arguments(["--service-cluster-ip-range", "10.96.0.0/16", "--endpoint-reconciler-type", "none"])
            .arguments(["--audit-policy-file", &text("audit-policy.yaml"), "--audit-log-path", &text("audit.jsonl")])
            .arguments(["--audit-log-mode", "blocking", "--audit-log-maxsize", "2000"])
            // As everybody's clusters: device plugins and networks need it.
            .argument("--allow-privileged=true")
            .argument(format!("--disable-admission-plugins={}", plugins.join(",")))
            .log(at("kube-apiserver.log"));
        let mut server = Part::start(server, leash)?;
        let api = ClusterApi::of_kubeconfig(&at("kubeconfig"))?;
        answers(&api, name, server.process()).await?;

        let kubeconfig = text("kubeconfig");
        let client = |program: &str, folder: &Path| {
            Program::new(format!("{program} of {name}"), folder.join(program))
                .arguments(["--kubeconfig", &kubeconfig])
                .log(at(&format!("{program}.log")))
        };
        let controllers = client("kube-controller-manager", &programs.kubernetes)
            .arguments(["--leader-elect=false", "--secure-port=0", "--root-ca-file", &text("ca.pem")])
            .arguments(["--service-account-private-key-file", &text("server.key")])
            // Its defaults are for one busy cluster, not for a hundred namespaces that end within a minute.
            .arguments(["--kube-api-qps=500", "--kube-api-burst=1000", "--concurrent-namespace-syncs=50"]);
        let scheduler = client("kube-scheduler", &programs.kubernetes).arguments(["--leader-elect=false", "--secure-port=0"]);
        let kwok = client("kwok", programs.kwok.parent().context("kwok stands in a folder")?)
            .arguments(["--manage-all-nodes=true", "--node-ip=127.0.0.1", "--cidr=10.244.0.0/16"])
            .arguments(["--node-lease-duration-seconds=40", "--config"])
            .argument(programs.stages.display().to_string());
        let mut clients = Vec::new();
        for program in [controllers, scheduler, kwok] {
            clients.push(Part::start(program, leash)?);
        }
        for number in 1..=nodes {
            api.create("/api/v1/nodes", &node(&format!("{name}-{number}"), model)).await?;
        }
        eventually_within(STARTS_WITHIN, &format!("the nodes of {name} are ready"), async || {
            clients.iter_mut().try_for_each(|client| client.process().expect_running())?;
            let there = api.list("/api/v1/nodes").await?;
            let ready = there.iter().filter(|node| is_ready(node)).count();
            Ok(look(ready == nodes as usize, (), || format!("{ready} of {nodes} are")))
        })
        .await?;
        eventually_within(STARTS_WITHIN, &format!("the controllers of {name} work"), async || {
            let account = api.find("/api/v1/namespaces/default/serviceaccounts/default").await?;
            Ok(look(account.is_some(), (), || "no service account in the namespace default".to_owned()))
        })
        .await?;
        Ok(Self { folder, api, name: name.to_owned(), clients, server, etcd })
    }

    /// Its API server.
    pub fn server(&mut self) -> &mut Part {
        &mut self.server
    }

    /// What its API server keeps everything in.
    pub fn etcd(&mut self) -> &mut Part {
        &mut self.etcd
    }

    /// Returns when its API server answers again. Its controllers, scheduler and nodes are started anew, as their probes would
    /// do, since they may hang on what they saw last.
    ///
    /// # Errors
    /// The API server does not answer within 90 seconds.
    pub async fn recover(&mut self) -> Result<()> {
        answers(&self.api, &self.name, self.server.process()).await?;
        for client in &mut self.clients {
            client.process().crash()?;
            client.start_again()?;
        }
        Ok(())
    }

    /// Where its kubeconfig, its audit log and the logs of its programs are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// Waits until the API server says that it is ready.
async fn answers(api: &ClusterApi, name: &str, server: &mut Process) -> Result<()> {
    eventually_within(STARTS_WITHIN, &format!("the API server of {name} is ready"), async || {
        server.expect_running()?;
        let answer = api.code("/readyz").await;
        Ok(look(matches!(answer, Ok(200)), (), || format!("{answer:?}")))
    })
    .await
}

/// Every write with the object after it, and no reads.
const AUDIT_POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - {level: None, verbs: [get, list, watch]}
  - level: None
    resources: [{group: coordination.k8s.io, resources: [leases]}, {group: \"\", resources: [events]}, {group: events.k8s.io, resources: [events]}]
  - {level: RequestResponse}
";

/// An authority, a certificate of the API server with its key, and the only token; answers the authority's PEM.
fn credentials(folder: &Path, token: &str) -> Result<String> {
    let Certificate { authority, certificate, key } = Certificate::for_loopback("kube-apiserver")?;
    for (file, content) in [
        ("ca.pem", authority),
        ("server.pem", certificate),
        ("server.key", key.serialize_pem()),
        ("server.pub", key.public_key_pem()),
        ("tokens.csv", format!("{token},admin,admin,system:masters\n")),
    ] {
        std::fs::write(folder.join(file), content)?;
    }
    Ok(folder.join("ca.pem").display().to_string())
}

fn kubeconfig(name: &str, url: &str, authority: &str, token: &str) -> String {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": name,
        "clusters": [{"name": name, "cluster": {"server": url, "certificate-authority": authority}}],
        "users": [{"name": "admin", "user": {"token": token}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": "admin"}}],
    })
    .to_string()
}

/// A node with eight GPUs, as a GPU operator labels it.
fn node(name: &str, model: &str) -> Value {
    let size = json!({"cpu": "96", "memory": "768Gi", "pods": "110", "nvidia.com/gpu": "8"});
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {
            "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
            "nvidia.com/gpu.product": model,
        }},
        "status": {"capacity": size, "allocatable": size},
    })
}

fn is_ready(node: &Value) -> bool {
    let conditions = node["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}
