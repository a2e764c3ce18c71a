//! The program: what it writes, and how it ends.

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const CONFIG: &str = "clusters:\n- {name: one, nodes: [{count: 2, gpus: 8, gpuModel: V100}], crds: [istio, volcano, kyverno]}\n- {name: two, prometheus: false}\n";

fn start(directory: &Path, wrapper: &[&str]) -> Child {
    std::fs::write(directory.join("sim.yaml"), CONFIG).unwrap();
    let program = env!("CARGO_BIN_EXE_muster-simcluster");
    let mut words: Vec<&str> = wrapper.to_vec();
    words.push(program);
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).arg("--config").arg(directory.join("sim.yaml")).arg("--state-dir").arg(directory);
    command.arg("--exit-with-parent").stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "{what} did not come true");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn endpoints(directory: &Path) -> Value {
    eventually("endpoints.json", || serde_json::from_str(&std::fs::read_to_string(directory.join("endpoints.json")).ok()?).ok())
}

#[tokio::test]
async fn it_writes_where_its_clusters_are_and_ends_when_told() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = start(directory.path(), &[]);
    let endpoints = endpoints(directory.path());
    assert!(endpoints["one"]["prometheus"].is_string() && endpoints["two"]["prometheus"].is_null(), "{endpoints}");
    for name in ["one", "two"] {
        let file = Kubeconfig::read_from(directory.path().join(format!("{name}.kubeconfig"))).unwrap();
        let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.unwrap();
        let client = Client::try_from(config).unwrap();
        assert_eq!(client.apiserver_version().await.unwrap().git_version, "v1.37.2");
        let namespaces: kube::Api<k8s_openapi::api::core::v1::Namespace> = kube::Api::all(client);
        let uid = namespaces.get("kube-system").await.unwrap().metadata.uid.unwrap();
        assert_eq!(endpoints[name]["uid"], uid.as_str());
    }
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
    let status = eventually("the end", || child.try_wait().unwrap());
    assert!(status.success(), "{status}");
}

#[test]
fn it_ends_with_its_parent() {
    let directory = tempfile::tempdir().unwrap();
    // The shell is the parent: it stays, because a command follows, until it is killed.
    let script = "\"$@\" & echo $! > \"$0\"; wait; exit 0";
    let pid_file = directory.path().join("pid");
    let mut shell = start(directory.path(), &["sh", "-c", script, pid_file.to_str().unwrap()]);
    endpoints(directory.path());
    let pid: i32 = std::fs::read_to_string(&pid_file).unwrap().trim().parse().unwrap();
    shell.kill().unwrap();
    shell.wait().unwrap();
    eventually("the end of the orphan", || kill(Pid::from_raw(pid), None).is_err().then_some(()));
}
