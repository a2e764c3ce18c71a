//! A fleet's policy reaches each cluster in the form that it can enforce: where there is no Kyverno its own API server
//! refuses what breaks it, by a translation that it has found well typed.

use anyhow::{Context, Result, ensure};
use muster_integration_tests::main_job::scene::{Scene, path};
use muster_integration_tests::main_job::simulation::{TRAIN_CLOUD, TRAIN_IDC};
use muster_integration_tests::patience::look;
use muster_integration_tests::{eventually, eventually_within};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::jobs::WITHIN;
use crate::{clients, parts, world};

const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
const BINDINGS: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings";

/// One that refuses in a namespace, one about Pods and what makes them, and one that has no other words.
const FLEET_POLICY: &str = "apiVersion: muster.dev/v1
kind: FleetPolicy
metadata: {name: governed}
spec:
  fleetRef: {name: fleet-train}
  policies:
    - name: owned-configuration
      action: enforce
      namespaces: [governed]
      inline:
        apiVersion: kyverno.io/v1
        kind: ClusterPolicy
        metadata: {name: owned-configuration}
        spec:
          rules:
            - name: owner
              match: {any: [{resources: {kinds: [ConfigMap]}}]}
              validate: {message: say whose it is, pattern: {metadata: {labels: {owner: \"?*\"}}}}
    - name: no-host-network
      action: audit
      namespaces: [\"govern*\"]
      inline:
        apiVersion: kyverno.io/v1
        kind: ClusterPolicy
        metadata: {name: no-host-network}
        spec:
          rules:
            - name: host-network
              match: {any: [{resources: {kinds: [Pod]}}]}
              validate: {message: not on the node's network, pattern: {spec: {\"=(hostNetwork)\": false}}}
    - name: only-at-noon
      action: audit
      namespaces: [governed]
      inline:
        apiVersion: kyverno.io/v1
        kind: ClusterPolicy
        metadata: {name: only-at-noon}
        spec:
          rules:
            - name: noon
              match: {any: [{resources: {kinds: [ConfigMap]}}]}
              validate: {deny: {conditions: {any: [{key: \"{{ request.object.data.hour || '' }}\", operator: Equals, value: noon}]}}}
";

#[test]
fn a_policy_holds_in_a_cluster_without_kyverno() -> Result<()> {
    world::play(async |world| {
        let scene = &world.scene;
        let api = &scene.platform.cluster(TRAIN_IDC)?.api;
        for namespace in ["governed", "elsewhere"] {
            let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
            api.create("/api/v1/namespaces", &namespace).await?;
        }
        let theirs = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": "theirs"}, "spec": {"policyName": "theirs", "validationActions": ["Audit"]},
        });
        api.create(BINDINGS, &theirs).await?;
        scene.apply("governed.yaml", FLEET_POLICY).await?;
        has_its_form(scene).await?;
        is_well_typed(scene).await?;

        let refused = eventually("the API server refuses by it", async || {
            let made = create(scene, "governed", "bare", json!({})).await.err().map(|refusal| refusal.to_string());
            Ok(look(made.is_some(), made, || "it is taken".to_owned()))
        })
        .await?
        .context("a refusal")?;
        ensure!(refused.contains("owned-configuration") && refused.contains("say whose it is"), "{refused}");
        create(scene, "governed", "owned", json!({"owner": "ada"})).await?;
        create(scene, "elsewhere", "bare", json!({})).await?;

        scene.muster().succeed(&["delete", "fleetPolicy", "governed"]).await?;
        eventually("its policies are gone", async || {
            let left = api.find(&format!("{POLICIES}/owned-configuration")).await?;
            Ok(look(left.is_none(), (), || "it is still there".to_owned()))
        })
        .await?;
        ensure!(api.find(&format!("{BINDINGS}/theirs")).await?.is_some(), "what Muster did not make is gone");
        api.delete(&format!("{BINDINGS}/theirs")).await?;
        Ok(())
    })
}

/// The cluster with Kyverno has the documents, the other one their translations; and what has none is said.
async fn has_its_form(scene: &Scene) -> Result<()> {
    let expected = |cluster: &str, form: &str| {
        let of = |policy: &str| match (form, policy) {
            ("ADMISSION_POLICY", "only-at-noon") => "EVALUATED_ONLY".to_owned(),
            (form, _) => form.to_owned(),
        };
        let forms = ["no-host-network", "only-at-noon", "owned-configuration"].map(of);
        json!({"cluster": format!("clusters/{cluster}"), "state": "IN_FORCE", "forms": forms})
    };
    let expected = json!([expected(TRAIN_CLOUD, "KYVERNO"), expected(TRAIN_IDC, "ADMISSION_POLICY")]);
    let shown = eventually_within(WITHIN, "every policy has its form", async || {
        let shown = scene.muster().json(&["get", "fleetPolicy", "governed"]).await?;
        let members = shown["clusters"].as_array().cloned().unwrap_or_default();
        let form = |member: &Value| {
            let policies = member["policies"].as_array().into_iter().flatten();
            let forms: Vec<&Value> = policies.map(|policy| &policy["form"]).collect();
            json!({"cluster": member["cluster"], "state": member["state"], "forms": forms})
        };
        let found: Value = members.iter().map(form).collect();
        Ok(look(found == expected, shown.clone(), || shown.to_string()))
    })
    .await?;
    let reason = "rule noon: validate.deny: has no counterpart in CEL here";
    ensure!(shown.to_string().contains(reason), "{shown}");
    let described = scene.muster().succeed(&["describe", "fleetPolicy", "governed"]).await?;
    ensure!(described.contains(reason) && described.contains("AdmissionPolicy"), "{described}");
    Ok(())
}

/// The controllers have checked every expression against the types it is about.
async fn is_well_typed(scene: &Scene) -> Result<()> {
    let api = &scene.platform.cluster(TRAIN_IDC)?.api;
    for name in ["owned-configuration", "no-host-network", "no-host-network-controllers", "no-host-network-cronjobs"] {
        let live = eventually(&format!("the types in {name} are checked"), async || {
            let live = api.find(&format!("{POLICIES}/{name}")).await?.unwrap_or_default();
            let observed = &live["status"]["observedGeneration"];
            let is_checked = !observed.is_null() && *observed == live["metadata"]["generation"];
            Ok(look(is_checked, live.clone(), || live.to_string()))
        })
        .await?;
        let warnings = &live["status"]["typeChecking"]["expressionWarnings"];
        ensure!(warnings.is_null(), "{name}: {warnings}");
    }
    Ok(())
}

/// `kubectl create` of a ConfigMap, as far as the API server goes before it keeps it.
async fn create(scene: &Scene, namespace: &str, name: &str, labels: Value) -> Result<String> {
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace, "labels": labels},
    });
    let file = scene.write(&format!("{namespace}-{name}.json"), &map.to_string())?;
    let mut command = Command::new(parts::variable("MUSTER_TEST_KUBECTL")?);
    command.arg("--kubeconfig").arg(&scene.platform.cluster(TRAIN_IDC)?.kubeconfig).args([
        "create",
        "--dry-run=server",
        "-f",
        path(&file)?,
    ]);
    command.env("KUBECACHEDIR", scene.platform.folder().join("kubectl"));
    clients::run(command, "").await
}
