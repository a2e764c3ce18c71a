//! `cargo xtask conformance documents PATH`: a folder of documents as users have it must work as it is.
//!
//! The one thing to know: nothing in them is changed. The rollout service is told, as an operator with a mirror tells it
//! (`url.<base>.insteadOf`), that each GitRepository's address is the folder of the same name beside the documents.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use muster_core::manifest::{Manifest, parse_documents};
use muster_integration_tests::parts::postgres::Durability;
use muster_integration_tests::patience::look;
use muster_integration_tests::process::Leash;
use muster_integration_tests::repository::Repository;
use muster_integration_tests::{Platform, Setup, eventually, eventually_within};
use muster_proto::registry::v1 as registry;
use muster_proto::rollout::v1 as rollout;
use muster_proto::scheduler::v1 as scheduler;
use serde_json::{Map, Value, json};

use crate::doctor;
use crate::setup::build::{self, Profile};
use crate::setup::kustomize;
use crate::setup::postgres;

/// The same training is submitted at most so often until one waits.
const MOST_JOBS: u32 = 64;

/// A document with the file it stands in.
struct Document {
    file: String,
    manifest: Manifest,
}

pub async fn run(path: &Path, no_build: bool) -> Result<()> {
    doctor::check(doctor::For::Demo)?;
    let documents = read(path)?;
    let clusters = clusters(&documents);
    ensure!(!clusters.is_empty(), "{}: no document names a cluster", path.display());
    let kustomize = kustomize::program().await?;
    let postgres = postgres::start(Durability::None).await?;
    let repositories = tempfile::tempdir()?;
    let git_config = serve(repositories.path(), path, &documents).await?;
    if !no_build {
        build::programs(Profile::Dev).await?;
    }
    let setup = Setup {
        git_config: Some(git_config),
        simulation: simulation(&clusters),
        ..Setup::embedded(Profile::Dev.folder()?, Leash::this_program(), postgres.server().url("postgres"), kustomize)
    };
    let mut platform = Platform::start(setup).await?;
    enrol(&mut platform, &clusters, &documents).await?;
    println!("enrolled: {}", clusters.iter().cloned().collect::<Vec<_>>().join(", "));

    let mut apply = vec!["apply"];
    let files: BTreeSet<PathBuf> = documents.iter().map(|document| path.join(&document.file)).collect();
    for file in &files {
        apply.extend(["-f", text(file)?]);
    }
    let applied = platform.muster().succeed(&apply).await?;
    print!("{applied}");
    for document in of_kinds(&documents, &["FleetApplication", "Application"]) {
        healthy(&platform, document).await?;
    }
    for cluster in &clusters {
        routes(&platform, cluster).await?;
    }
    for document in of_kinds(&documents, &["Job", "JobSet", "PyTorchJob", "RayJob"]) {
        until_one_waits(&platform, document).await?;
    }
    println!("everything arrived");
    Ok(())
}

/// The documents at the top of the folder.
fn read(path: &Path) -> Result<Vec<Document>> {
    let mut documents = Vec::new();
    let mut files: Vec<_> =
        fs::read_dir(path).with_context(|| format!("read {}", path.display()))?.collect::<std::io::Result<Vec<_>>>()?;
    files.sort_by_key(fs::DirEntry::file_name);
    for entry in files {
        let file = entry.file_name().to_string_lossy().into_owned();
        if !entry.path().is_file() || !(file.ends_with(".yaml") || file.ends_with(".yml")) {
            continue;
        }
        let text = fs::read_to_string(entry.path()).with_context(|| file.clone())?;
        let parsed = parse_documents(&text).map_err(|error| anyhow::anyhow!("{file}: {error}"))?;
        documents.extend(parsed.into_iter().map(|manifest| Document { file: file.clone(), manifest }));
    }
    ensure!(!documents.is_empty(), "{}: no documents", path.display());
    Ok(documents)
}

fn of_kinds<'a>(documents: &'a [Document], kinds: &'a [&str]) -> impl Iterator<Item = &'a Document> {
    documents.iter().filter(move |document| kinds.contains(&document.manifest.kind()))
}

/// Every cluster that a fleet lists or an application targets.
fn clusters(documents: &[Document]) -> BTreeSet<String> {
    let mut clusters = BTreeSet::new();
    for document in of_kinds(documents, &["Fleet"]) {
        clusters.extend(strings(&document.manifest.value, "/spec/clusters", "name"));
    }
    clusters.extend(targets(documents));
    clusters
}

fn targets(documents: &[Document]) -> BTreeSet<String> {
    of_kinds(documents, &["FleetApplication", "Application"])
        .flat_map(|document| strings(&document.manifest.value, "/spec/targets", "cluster"))
        .collect()
}

fn strings(value: &Value, list: &str, field: &str) -> Vec<String> {
    let items = value.pointer(list).and_then(Value::as_array);
    items.into_iter().flatten().filter_map(|item| item[field].as_str().map(str::to_owned)).collect()
}

/// Clusters with room for everything, the custom kinds that users' clusters have, and jobs that go on.
fn simulation(clusters: &BTreeSet<String>) -> Value {
    let clusters: Vec<Value> = clusters
        .iter()
        .map(|name| {
            json!({
                "name": name,
                "nodes": [{"count": 16, "gpuModel": "A100", "gpus": 8, "cpu": "96", "memory": "768Gi"}],
                "crds": ["istio", "volcano", "kyverno"],
                "delays": {"jobRunMs": 3_600_000},
            })
        })
        .collect();
    json!({"clusters": clusters})
}

/// Clusters that an application serves from take no jobs.
async fn enrol(platform: &mut Platform, clusters: &BTreeSet<String>, documents: &[Document]) -> Result<()> {
    let serving = targets(documents);
    for cluster in clusters {
        let request = registry::CreateClusterRequest {
            cluster_id: cluster.clone(),
            cluster: Some(registry::Cluster { takes_jobs: !serving.contains(cluster), ..Default::default() }),
            ..Default::default()
        };
        platform.clients()?.clusters().create_cluster(request).await?;
        platform.join(cluster).await?;
    }
    eventually("every cluster is live", async || {
        let list = platform.clients()?.clusters().list_clusters(registry::ListClustersRequest::default()).await?;
        let live = list
            .into_inner()
            .clusters
            .iter()
            .filter(|cluster| cluster.state() == registry::cluster::State::Live && cluster.inventory.is_some())
            .count();
        Ok(look(live == clusters.len(), (), || format!("{live} are live")))
    })
    .await
}

/// Makes a repository of each tree, and a git configuration that leads the documents' addresses there.
async fn serve(folder: &Path, path: &Path, documents: &[Document]) -> Result<PathBuf> {
    let mut config = String::new();
    for document in of_kinds(documents, &["GitRepository"]) {
        let name = document.manifest.name();
        let tree = path.join(name);
        ensure!(tree.is_dir(), "{}: no folder {name} with its tree", document.file);
        let mut files = Vec::new();
        collect(&tree, "", &mut files)?;
        let repository = Repository::create(&folder.join(name), &files).await?;
        let written = document.manifest.value.pointer("/spec/url").and_then(Value::as_str).context("spec.url")?;
        config += &format!("[url {:?}]\n\tinsteadOf = {written:?}\n", repository.url());
    }
    let file = folder.join("gitconfig");
    fs::write(&file, config)?;
    Ok(file)
}

fn collect(folder: &Path, prefix: &str, files: &mut Vec<(String, String)>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            collect(&entry.path(), &format!("{name}/"), files)?;
        } else {
            let content = fs::read_to_string(entry.path()).with_context(|| name.clone())?;
            files.push((name, content));
        }
    }
    Ok(())
}

async fn healthy(platform: &Platform, document: &Document) -> Result<()> {
    let namespace = match document.manifest.namespace() {
        "" => "default",
        namespace => namespace,
    };
    let name = format!("namespaces/{namespace}/applications/{}", document.manifest.name());
    eventually_within(std::time::Duration::from_secs(180), &format!("{name} is healthy"), async || {
        let request = rollout::GetApplicationRequest { name: name.clone() };
        let application = platform.clients()?.applications().get_application(request).await?.into_inner();
        let healthy = application.state() == rollout::application::State::Healthy && !application.targets.is_empty();
        let targets: Vec<String> = application
            .targets
            .iter()
            .map(|target| format!("{} {:?} {}", target.cluster, target.state(), target.reason))
            .collect();
        Ok(look(healthy, (), || format!("{:?} {}; {}", application.state(), application.reason, targets.join(", "))))
    })
    .await?;
    println!("{name} is healthy");
    Ok(())
}

/// Behind everything that a VirtualService gives weight to stand ready pods, and the weights total 100.
async fn routes(platform: &Platform, cluster: &str) -> Result<()> {
    let api = &platform.cluster(cluster)?.api;
    for route in api.list("/apis/networking.istio.io/v1beta1/virtualservices").await? {
        let name = route["metadata"]["name"].as_str().unwrap_or_default();
        let namespace = route["metadata"]["namespace"].as_str().unwrap_or_default();
        let rules = api.list(&format!("/apis/networking.istio.io/v1beta1/namespaces/{namespace}/destinationrules")).await?;
        let services = api.list(&format!("/api/v1/namespaces/{namespace}/services")).await?;
        let pods = api.list(&format!("/api/v1/namespaces/{namespace}/pods")).await?;
        for http in route["spec"]["http"].as_array().into_iter().flatten() {
            let destinations = http["route"].as_array().map_or(&[][..], Vec::as_slice);
            let mut total = 0;
            for entry in destinations {
                let destination = &entry["destination"];
                // Istio's default for a single destination.
                let weight = entry["weight"].as_i64().unwrap_or(if destinations.len() == 1 { 100 } else { 0 });
                total += weight;
                if weight == 0 {
                    continue;
                }
                let labels = selected(destination, &services, &rules).with_context(|| format!("{cluster}: {name}"))?;
                let has = |pod: &Value| labels.iter().all(|(key, value)| pod["metadata"]["labels"][key] == *value);
                let behind = pods.iter().filter(|pod| is_ready(pod) && has(pod)).count();
                let whom = match destination["subset"].as_str() {
                    Some(subset) => format!("the subset {subset}"),
                    None => destination["host"].as_str().unwrap_or_default().to_owned(),
                };
                ensure!(behind > 0, "{cluster}: {name} gives {whom} {weight} % and no ready pod stands behind it");
                println!("{cluster}: {name} gives {whom} {weight} %, {behind} ready pods behind it");
            }
            ensure!(total == 100, "{cluster}: the weights of {name} total {total}");
        }
    }
    Ok(())
}

/// The labels of the pods a destination leads to: those its Service selects, and of these those of its subset.
fn selected(destination: &Value, services: &[Value], rules: &[Value]) -> Result<Map<String, Value>> {
    let host = destination["host"].as_str().context("a destination without a host")?;
    let short = host.split('.').next().unwrap_or_default();
    let service = services
        .iter()
        .find(|service| service["metadata"]["name"] == short)
        .with_context(|| format!("there is no Service for the host {host}"))?;
    let mut labels = service["spec"]["selector"].as_object().cloned().unwrap_or_default();
    ensure!(!labels.is_empty(), "the Service {short} selects nothing");
    if let Some(subset) = destination["subset"].as_str() {
        let found = rules
            .iter()
            .filter(|rule| rule["spec"]["host"] == host)
            .flat_map(|rule| rule["spec"]["subsets"].as_array().into_iter().flatten())
            .find(|candidate| candidate["name"] == subset)
            .with_context(|| format!("nobody defines the subset {subset} of {host}"))?;
        labels.extend(found["labels"].as_object().cloned().unwrap_or_default());
    }
    Ok(labels)
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// The same job under new names, until one of them waits; what holds it is printed.
async fn until_one_waits(platform: &Platform, document: &Document) -> Result<()> {
    let name = document.manifest.name();
    let namespace = match document.manifest.namespace() {
        "" => "default",
        namespace => namespace,
    };
    let resource = |name: &str| format!("namespaces/{namespace}/jobs/{name}");
    let mut running: BTreeMap<String, String> = BTreeMap::new();
    for number in 1..=MOST_JOBS {
        let this = if number == 1 { name.to_owned() } else { format!("{name}-{number}") };
        if number > 1 {
            let mut manifest = document.manifest.value.clone();
            manifest["metadata"]["name"] = json!(this);
            let request = scheduler::CreateJobRequest {
                job: Some(scheduler::Job { manifest: manifest.to_string(), ..Default::default() }),
                ..Default::default()
            };
            platform.clients()?.jobs().create_job(request).await.with_context(|| this.clone())?;
        }
        let (job, explained) = eventually(&format!("{this} runs or waits with a reason"), async || {
            let clients = platform.clients()?;
            let request = scheduler::GetJobRequest { name: resource(&this) };
            let job = clients.jobs().get_job(request).await?.into_inner();
            let request = scheduler::ExplainJobRequest { name: resource(&this) };
            let explained = clients.jobs().explain_job(request).await?.into_inner();
            let decided = match job.state() {
                scheduler::job::State::Running => true,
                // Between two looks it may have been placed: it waits only if nothing takes it.
                scheduler::job::State::Queued => {
                    explained.position > 0
                        && (!explained.queue_limits.is_empty()
                            || (!explained.candidates.is_empty() && explained.candidates.iter().all(|candidate| !candidate.fits)))
                }
                _ => false,
            };
            let instead = format!("{:?}: {}", job.state(), job.reason);
            Ok(look(decided, (job, explained), || instead))
        })
        .await?;
        if job.state() == scheduler::job::State::Queued {
            println!("{number} × {name}: {} run, the next waits: {}", running.len(), explained.summary);
            for limit in &explained.queue_limits {
                println!("  held by its queue: {limit}");
            }
            for candidate in explained.candidates.iter().filter(|candidate| !candidate.fits) {
                println!("  {}: {}", candidate.cluster, candidate.reason);
            }
            return Ok(());
        }
        running.insert(this, job.cluster);
    }
    bail!("{MOST_JOBS} × {name} all run: nothing limits its queue")
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is no UTF-8", path.display()))
}
