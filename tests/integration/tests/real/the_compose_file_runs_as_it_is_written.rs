//! `deploy/compose/compose.yaml` is a Compose file by the specification's own loader, and what it starts comes up in the order
//! that it says: authority, topics, tables, the four services, enrolment, agents; until the clusters are Live and one of them
//! has run a job. No container is started: programs get what their containers would get (see `composition`), on a real
//! Postgres, a real Kafka with the file's own settings, and real clusters in the place of k3s.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use muster_integration_tests::patience::{Look, look};
use muster_integration_tests::platform::{Ports, Service};
use muster_integration_tests::process::Program;
use muster_integration_tests::spans::Spans;
use muster_integration_tests::{Setup, eventually_within};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, PgConnection};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::composition::{Container, Machine, loaded};
use crate::manifests::{self, Kubectl, list, rendered, text};
use crate::{clients, jobs, parts};

/// What is started; the rest are programs of others, which something real plays where it is needed.
const STARTED: [&str; 17] = [
    "topics",
    "pki",
    "fleet-registry-migration",
    "scheduler-migration",
    "rollout-migration",
    "policy-migration",
    "fleet-registry",
    "scheduler",
    "rollout",
    "policy",
    "admin",
    "gitops",
    "enrol",
    "agent-train",
    "agent-serve",
    "muster",
    "kafka",
];

/// What is played by something else, or not there: there are two real clusters, so the third has no agent.
const PLAYED: [&str; 7] =
    ["postgres", "otel-collector", "model-server", "furnish-train", "furnish-serve", "furnish-edge", "agent-edge"];

/// A job has to be placed, sent, scheduled, run and observed.
const JOB_WITHIN: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread")]
async fn the_compose_file_runs_as_it_is_written() -> Result<()> {
    rustls::crypto::ring::default_provider().install_default().ok();
    let setup = Setup::for_tests(env!("CARGO_BIN_EXE_leash"), json!({}))?;
    let mut databases = Databases { url: setup.database_url.clone(), made: Vec::new() };
    let outcome = play(&setup, &mut databases).await;
    databases.drop().await?;
    outcome
}

#[tokio::test]
async fn the_example_model_server_counts_its_requests_by_version() -> Result<()> {
    let mut command = Command::new("go");
    command.args(["test", "./..."]).current_dir(file("model-server")).env("GOFLAGS", "").env("GOWORK", "off");
    clients::run(command, "").await.map(drop)
}

async fn play(setup: &Setup, databases: &mut Databases) -> Result<()> {
    let folder = TempDir::with_prefix("muster-compose-")?;
    let spans = Spans::receive().await?;
    let file = file("compose.yaml");
    // Once as it is: every variable has a default. Then with what this machine has.
    let project = loaded(&file, &[]).await?;
    sound(&project)?;
    let mut machine = Machine::new(&project, folder.path(), setup.leash.clone(), path(setup)?);
    let hosts: Vec<String> =
        Service::ALL.iter().map(|service| Ok(machine.address(service.name())?.to_string())).collect::<Result<_>>()?;
    let server = reqwest::Url::parse(&setup.database_url)?;
    let variables = [
        ("POSTGRES_USER", server.username().to_owned()),
        ("POSTGRES_PASSWORD", server.password().unwrap_or_default().to_owned()),
        ("MUSTER_HOSTS", hosts.join(" ")),
    ];
    let project = loaded(&file, &variables).await?;

    let address = format!("{}:{}", server.host_str().context("the server's host")?, server.port().unwrap_or(5432));
    machine.play("postgres:5432", address);
    machine.play("otel-collector:4317", spans.endpoint().trim_start_matches("http://"));
    machine.image_has("/usr/local/bin/kustomize", &setup.kustomize);
    machine.image_has("/opt/kafka/bin", kafkas_scripts(folder.path())?);
    databases.make(&std::fs::read_to_string(self::file("postgres/databases.sql"))?).await?;
    kafka(&mut machine, &project, setup, folder.path()).await?;
    let clusters = parts::clusters()?;
    let [serve, train, ..] = clusters.as_slice() else { anyhow::bail!("{} clusters were started, not two", clusters.len()) };
    let kubectl = Kubectl::on(train, folder.path())?;
    let rights = rights(setup, &kubectl, train).await?;
    std::fs::write(machine.volume("kube-train")?.join("kubeconfig"), rights)?;
    std::fs::copy(serve.join("kubeconfig"), machine.volume("kube-serve")?.join("kubeconfig"))?;

    let mut containers = Vec::new();
    for name in STARTED.into_iter().filter(|name| *name != "kafka") {
        let mut container = Container::of(&project, name)?;
        if name == "muster" {
            container.health.retain(|word| word != "edge");
        }
        containers.push(container);
    }
    let [cli, registry, rollout] = ["muster", "fleet-registry", "rollout"]
        .map(|wanted| containers.iter().find(|container| container.name == wanted).cloned().expect("it was just made"));
    machine.up(containers, &[&PLAYED[..], &["kafka"]].concat()).await?;

    for service in Service::ALL {
        listens(&machine, &project, service).await?;
    }
    authority_is_kept(&machine, &registry).await?;
    dashboards_show_what_is_there(&machine).await?;
    let work = Work { machine: &machine, cli: &cli, rollout: &rollout, folder: folder.path() };
    work.runs_a_job().await?;
    work.releases_and_takes_back(&kubectl).await?;
    kubectl.run(&["delete", "namespace", "muster-agent", "--wait=false"], "").await?;
    Ok(())
}

fn file(name: &str) -> PathBuf {
    manifests::folder().join("compose").join(name)
}

/// Where a container of Muster's image finds its programs.
fn path(setup: &Setup) -> Result<std::ffi::OsString> {
    let own = std::env::var_os("PATH").context("PATH")?;
    Ok(std::env::join_paths([setup.programs.clone()].into_iter().chain(std::env::split_paths(&own)))?)
}

/// What can be said of the file without starting anything.
fn sound(project: &Value) -> Result<()> {
    let services = project["services"].as_object().context("services")?;
    let names: BTreeSet<&str> = services.keys().map(String::as_str).collect();
    let others = ["agent-edge", "edge", "furnish-edge", "furnish-serve", "furnish-train", "grafana", "model-server"];
    let more = ["otel-collector", "postgres", "prometheus", "serve", "train"];
    let known: BTreeSet<&str> = STARTED.into_iter().chain(others).chain(more).collect();
    ensure!(names == known, "services that no test knows: {:?}", names.symmetric_difference(&known));
    for (name, service) in services {
        for mount in list(service, "/volumes").iter().filter(|mount| mount["type"] == "bind") {
            let source = Path::new(text(mount, "/source"));
            ensure!(source.exists(), "{name}: {} is not there", source.display());
        }
        if let Some(context) = service["build"]["context"].as_str() {
            let dockerfile = Path::new(context).join(service["build"]["dockerfile"].as_str().unwrap_or("Dockerfile"));
            ensure!(dockerfile.exists(), "{name}: {} is not there", dockerfile.display());
        }
        for port in list(service, "/ports") {
            ensure!(port["host_ip"] == "127.0.0.1", "{name} is open to everybody by default");
        }
        let once = services.values().any(|other| other["depends_on"][name]["condition"] == "service_completed_successfully");
        ensure!(once == service["restart"].is_null(), "{name} runs once and is restarted, or does not and is not");
        if service["image"] == "muster:local" {
            ensure!(service["read_only"] == true && service["cap_drop"] == json!(["ALL"]), "{name} may do more than it needs");
        }
    }
    Ok(())
}

/// Kafka's scripts of which the file speaks, as programs here.
fn kafkas_scripts(folder: &Path) -> Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let scripts = folder.join("kafka-scripts");
    std::fs::create_dir(&scripts)?;
    let jars = PathBuf::from(parts::variable("MUSTER_TEST_KAFKA_JARS")?).join("*");
    for (script, class) in [("kafka-topics.sh", "TopicCommand"), ("kafka-broker-api-versions.sh", "BrokerApiVersionsCommand")] {
        let file = scripts.join(script);
        let java = format!("exec java -XX:TieredStopAtLevel=1 -cp '{}' org.apache.kafka.tools.{class} \"$@\"", jars.display());
        std::fs::write(&file, format!("#!/bin/sh\n{java}\n"))?;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755))?;
    }
    Ok(scripts)
}

/// Starts Kafka with the settings that its image makes of the container's environment.
async fn kafka(machine: &mut Machine, project: &Value, setup: &Setup, folder: &Path) -> Result<()> {
    let container = Container::of(project, "kafka")?;
    let mut settings = String::new();
    for (name, value) in &container.environment {
        if let Some(name) = name.strip_prefix("KAFKA_") {
            let name = name.to_lowercase().replace('_', ".");
            settings.push_str(&format!("{name}={}\n", machine.translated(&container, value)?));
        }
    }
    let file = folder.join("kafka.properties");
    std::fs::write(&file, settings)?;
    let file = file.display().to_string();
    let jars = PathBuf::from(parts::variable("MUSTER_TEST_KAFKA_JARS")?).join("*").display().to_string();
    let java = |class: &str| -> Vec<String> {
        ["-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", &jars, class].map(str::to_owned).to_vec()
    };
    let mut format = Command::new("java");
    format.args(java("kafka.tools.StorageTool")).args(["format", "-t", &container.environment["CLUSTER_ID"], "-c", &file]);
    clients::run(format, "").await?;
    let mut process = Program::new("kafka", "java")
        .arguments(java("kafka.Kafka"))
        .argument(file)
        .folder(folder)
        .log(folder.join("kafka.log"))
        .start(&setup.leash)?;
    eventually_within(Duration::from_secs(90), "kafka is well", async || {
        process.expect_running()?;
        let asked = machine.exec(&container, &container.health).await;
        Ok(look(asked.is_ok(), (), || format!("{:#}", asked.expect_err("it is not well"))))
    })
    .await?;
    machine.started(container, process);
    Ok(())
}

/// A kubeconfig with the rights that `deploy/k8s/agent` gives an agent.
async fn rights(setup: &Setup, kubectl: &Kubectl, cluster: &Path) -> Result<String> {
    kubectl.apply(&rendered(setup, "agent").await?).await?;
    let (token, _) = kubectl.run(&["create", "token", "muster-agent", "--namespace", "muster-agent"], "").await?;
    let mut kubeconfig: Value = serde_json::from_slice(&std::fs::read(cluster.join("kubeconfig"))?)?;
    kubeconfig["users"][0]["user"]["token"] = token.into();
    Ok(kubeconfig.to_string())
}

/// A service has the documented ports, on the machine as in its container, and listens on them.
async fn listens(machine: &Machine, project: &Value, service: Service) -> Result<()> {
    let container = Container::of(project, service.name())?;
    let Ports { grpc, http } = Ports::documented(service);
    let documented = [grpc, http].map(|port| (port.to_string(), u64::from(port)));
    ensure!(container.ports == documented, "{} publishes {:?}", container.name, container.ports);
    for port in [grpc, http] {
        let address = SocketAddr::from((machine.address(service.name())?, port));
        TcpStream::connect(address).await.with_context(|| format!("{} on port {port}", container.name))?;
    }
    Ok(())
}

/// Brought up a second time, what is done once changes nothing: the same authority signs.
async fn authority_is_kept(machine: &Machine, registry: &Container) -> Result<()> {
    let file = machine.volume("pki")?.join("ca.crt");
    let before = std::fs::read(&file)?;
    let again = ["muster-fleet-registry", "bootstrap-pki", "--dir", "/var/lib/muster-pki"].map(str::to_owned);
    machine.exec(registry, &again).await?;
    ensure!(std::fs::read(&file)? == before, "another authority signs");
    Ok(())
}

/// Every metric of Muster's that a dashboard asks for is exported by who is scraped for it.
async fn dashboards_show_what_is_there(machine: &Machine) -> Result<()> {
    let scraped = std::fs::read_to_string(file("prometheus/prometheus.yaml"))?;
    let mut exported = String::new();
    let agents = [("agent-train", 7510), ("agent-serve", 7510)];
    for (name, port) in Service::ALL.map(|service| (service.name(), Ports::documented(service).http)).into_iter().chain(agents) {
        ensure!(scraped.contains(&format!("{name}:{port}")), "Prometheus does not scrape {name}");
        let url = format!("http://{}:{port}/metrics", machine.address(name)?);
        exported.push_str(&reqwest::get(url).await?.error_for_status()?.text().await?);
    }
    let mut asked = BTreeSet::new();
    for dashboard in std::fs::read_dir(file("grafana/dashboards"))? {
        let dashboard: Value = serde_json::from_slice(&std::fs::read(dashboard?.path())?)?;
        for target in list(&dashboard, "/panels").iter().flat_map(|panel| list(panel, "/targets")) {
            let words = text(target, "/expr").split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            asked.extend(words.filter(|word| word.starts_with("muster_")).map(str::to_owned));
        }
    }
    ensure!(asked.len() >= 6, "the dashboards ask for {asked:?} only");
    // A counter of what went wrong is there from the first time on: its family is what counts.
    let families: BTreeMap<&str, ()> =
        exported.lines().filter_map(|line| Some((line.strip_prefix("# TYPE ")?.split(' ').next()?, ()))).collect();
    for metric in asked {
        let family = metric.trim_end_matches("_bucket");
        ensure!(families.contains_key(family), "nobody exports {metric}");
    }
    Ok(())
}

/// What the clusters are asked to do, by the command line of the container `muster`; one of them with the rights that an agent
/// has by its manifests.
struct Work<'a> {
    machine: &'a Machine,
    cli: &'a Container,
    rollout: &'a Container,
    folder: &'a Path,
}

impl Work<'_> {
    async fn muster(&self, arguments: &[&str]) -> Result<String> {
        let words: Vec<String> = ["muster"].iter().chain(arguments).map(|word| (*word).to_owned()).collect();
        self.machine.exec(self.cli, &words).await
    }

    /// Applies a document of the first day, or what is made of one.
    async fn apply(&self, name: &str, change: impl Fn(&str) -> String) -> Result<()> {
        let document = std::fs::read_to_string(manifests::folder().join("../examples/first-day").join(name))?;
        let file = self.folder.join(name);
        std::fs::write(&file, self.machine.translated(self.rollout, &change(&document))?)?;
        self.muster(&["apply", "-f", &file.display().to_string(), "--wait", "--wait-timeout", "2m"]).await.map(drop)
    }

    /// A job is queued, placed, run by a cluster and done.
    async fn runs_a_job(&self) -> Result<()> {
        self.apply("queue.yaml", str::to_owned).await?;
        let mut job = jobs::batch("first-steps", "first", "short");
        job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = "research".into();
        let manifest = self.folder.join("first.json");
        std::fs::write(&manifest, job.to_string())?;
        self.muster(&["submit", "-f", &manifest.display().to_string()]).await?;
        eventually_within(JOB_WITHIN, "the job has run", async || {
            let job = self.muster(&["get", "job/first", "-n", "first-steps", "-o", "json"]).await?;
            let job: Value = serde_json::from_str(&job)?;
            Ok(match text(&job, "/state") {
                "SUCCEEDED" => Look::Is(()),
                "FAILED" | "REFUSED" => Look::Never(job.to_string()),
                _ => Look::NotYet(job.to_string()),
            })
        })
        .await
    }

    /// The model of the file's own repository is released, and taken away with its application. Without a gate: pods of kwok
    /// answer no request, so there is nothing to measure.
    async fn releases_and_takes_back(&self, kubectl: &Kubectl) -> Result<()> {
        self.apply("fleets.yaml", str::to_owned).await?;
        self.apply("repository.yaml", str::to_owned).await?;
        let application = |document: &str| {
            let (head, _) = document.split_once("  targets:").unwrap_or((document, ""));
            let head = head.replace("name: serving", "name: everything");
            format!("{head}  targets:\n    - cluster: train\n      path: ./serving/classifier/overlays/edge\n")
        };
        self.apply("application.yaml", application).await?;
        let live = async || kubectl.objects("ml", "deployments,services").await;
        let ours = |object: &&Value| text(object, "/metadata/name").starts_with("classifier");
        let kinds: BTreeSet<String> = live().await?.iter().filter(ours).map(|object| text(object, "/kind").to_owned()).collect();
        ensure!(kinds == ["Deployment", "Service"].map(str::to_owned).into(), "the cluster has {kinds:?}");
        self.muster(&["delete", "app/classifier", "-n", "ml", "--remove-workloads"]).await?;
        eventually_within(JOB_WITHIN, "the release is taken away", async || {
            let left: Vec<String> = live().await?.iter().filter(ours).map(manifests::called).collect();
            Ok(look(left.is_empty(), (), || left.join(", ")))
        })
        .await
    }
}

/// The four databases of the file, by their own names, on the tests' server.
struct Databases {
    url: String,
    made: Vec<String>,
}

impl Databases {
    async fn connection(&self) -> Result<PgConnection> {
        let options: sqlx::postgres::PgConnectOptions = self.url.parse()?;
        Ok(options.connect().await?)
    }

    /// Runs the script that makes them, one statement after the other. One that is there already is somebody else's.
    async fn make(&mut self, script: &str) -> Result<()> {
        let mut connection = self.connection().await?;
        let lines: Vec<&str> = script.lines().filter(|line| !line.starts_with("--")).collect();
        for statement in lines.join("\n").split(';').map(str::trim).filter(|statement| !statement.is_empty()) {
            let name = statement.strip_prefix("create database ").with_context(|| format!("{statement:?} makes no database"))?;
            connection.execute(AssertSqlSafe(statement.to_owned())).await.with_context(|| statement.to_owned())?;
            self.made.push(name.to_owned());
        }
        let meant = Service::ALL.map(Service::database);
        ensure!(self.made == meant, "the script makes {:?}", self.made);
        Ok(())
    }

    async fn drop(self) -> Result<()> {
        let mut connection = self.connection().await?;
        for name in self.made {
            connection.execute(AssertSqlSafe(format!("drop database {name} with (force)"))).await?;
        }
        Ok(())
    }
}
