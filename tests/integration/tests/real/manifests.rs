//! Manifests under `deploy/k8s`: rendered by kustomize, applied with kubectl, and read back as the API server has them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use muster_integration_tests::Setup;
use serde_json::Value;
use tokio::process::Command;

use crate::clients::run_aloud;
use crate::parts;

/// The repository's folder `deploy`.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy")
}

/// What kustomize makes of a folder under `deploy/k8s`.
pub async fn rendered(setup: &Setup, which: &str) -> Result<String> {
    let mut command = Command::new(&setup.kustomize);
    command.arg("build").arg(folder().join("k8s").join(which));
    let (output, warnings) = run_aloud(command, "").await?;
    // As of a field that kustomize will drop.
    ensure!(warnings.is_empty(), "kustomize says of {which}: {warnings}");
    Ok(output)
}

/// kubectl on one cluster.
pub struct Kubectl {
    program: String,
    kubeconfig: PathBuf,
    cache: PathBuf,
}

impl Kubectl {
    /// On the cluster whose folder this is; its cache of discovery goes into `cache`.
    pub fn on(cluster: &Path, cache: &Path) -> Result<Self> {
        let program = parts::variable("MUSTER_TEST_KUBECTL")?;
        Ok(Self { program, kubeconfig: cluster.join("kubeconfig"), cache: cache.join("kubectl") })
    }

    /// Runs it; answers what it printed, and what it printed as errors.
    pub async fn run(&self, arguments: &[&str], input: &str) -> Result<(String, String)> {
        let mut command = Command::new(&self.program);
        command.arg("--kubeconfig").arg(&self.kubeconfig).args(arguments).env("KUBECACHEDIR", &self.cache);
        run_aloud(command, input).await
    }

    /// Applies manifests, strictly; a warning of the API server is an error.
    pub async fn apply(&self, manifests: &str) -> Result<()> {
        let (_, warnings) = self.run(&["apply", "--server-side", "--validate=strict", "-f", "-"], manifests).await?;
        ensure!(warnings.is_empty(), "the API server warns: {warnings}");
        Ok(())
    }

    /// All objects of some kinds in a namespace.
    pub async fn objects(&self, namespace: &str, kinds: &str) -> Result<Vec<Value>> {
        let (text, _) = self.run(&["get", kinds, "--namespace", namespace, "-o", "json"], "").await?;
        let mut list: Value = serde_json::from_str(&text)?;
        let Value::Array(items) = list["items"].take() else { anyhow::bail!("kubectl lists no {kinds}") };
        Ok(items)
    }

    /// Whether a service account may do something everywhere.
    pub async fn may(&self, account: &str, verb: &str, resource: &str) -> Result<bool> {
        let arguments = ["auth", "can-i", verb, resource, "--all-namespaces", "--as", account];
        let mut command = Command::new(&self.program);
        command.arg("--kubeconfig").arg(&self.kubeconfig).args(arguments).env("KUBECACHEDIR", &self.cache);
        let output = command.output().await?;
        match String::from_utf8_lossy(&output.stdout).trim() {
            "yes" => Ok(true),
            "no" => Ok(false),
            other => anyhow::bail!("kubectl {arguments:?}: {other:?} {}", String::from_utf8_lossy(&output.stderr)),
        }
    }
}

/// A field that is a list, without which it counts as empty.
pub fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// A field that is a text, without which it counts as empty.
pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// `kind/name`, for messages.
pub fn called(object: &Value) -> String {
    format!("{}/{}", text(object, "/kind"), text(object, "/metadata/name"))
}

/// The objects of a kind.
pub fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

/// A ConfigMap's entries.
pub fn entries(config_map: &Value) -> BTreeMap<String, String> {
    let data = config_map["data"].as_object().into_iter().flatten();
    data.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// Whether a label selector takes these labels, as the API server's own do.
pub fn selects(selector: &Value, labels: &Value) -> bool {
    let equal = selector["matchLabels"].as_object().into_iter().flatten().all(|(key, value)| labels[key] == *value);
    let expressions = list(selector, "/matchExpressions").iter().all(|expression| {
        let label = &labels[text(expression, "/key")];
        match text(expression, "/operator") {
            "In" => list(expression, "/values").contains(label),
            "NotIn" => !list(expression, "/values").contains(label),
            "Exists" => !label.is_null(),
            "DoesNotExist" => label.is_null(),
            _ => false,
        }
    });
    equal && expressions
}
