//! What the evaluator says of a workload's manifest before it leaves is what it says of everything that the controllers of a
//! real cluster make of it. `cargo xtask bench policy --real` asks the same of thousands, and Kyverno with it.

use anyhow::{Result, ensure};
use muster_core::manifest::parse_documents;
use muster_core::selector::Labels;
use muster_integration_tests::cluster_api::ClusterApi;
use muster_integration_tests::eventually;
use muster_integration_tests::made::{self, Compared, Schedules};
use muster_integration_tests::main_job::simulation::TRAIN_CLOUD;
use muster_integration_tests::patience::look;
use muster_policy_evaluator::Policy;

use crate::world;

/// Twelve of each kind.
const WORKLOADS: usize = 60;
const NAMESPACE: &str = "made-by-controllers";

/// Rules about what defaults, controllers and the API server put in, in patterns and in CEL.
const POLICIES: &str = r#"
apiVersion: kyverno.io/v1
kind: ClusterPolicy
metadata: {name: classic}
spec:
  rules:
    - name: requests
      match: {any: [{resources: {kinds: [Pod]}}]}
      validate: {pattern: {spec: {containers: [{resources: {requests: {memory: "?*"}}}]}}}
    - name: host-ports
      match: {any: [{resources: {kinds: [Pod]}}]}
      validate: {pattern: {spec: {containers: [{"=(ports)": [{"=(hostPort)": 0}]}]}}}
    - name: pulled
      match: {any: [{resources: {kinds: [Pod]}}]}
      validate: {pattern: {spec: {containers: [{imagePullPolicy: Always}]}}}
    - name: owned
      match: {any: [{resources: {kinds: [Pod]}}]}
      validate: {deny: {conditions: {all: [{key: "{{ request.object.metadata.ownerReferences[] || `[]` | length(@) }}", operator: Equals, value: 0}]}}}
    - name: read-only
      match: {any: [{resources: {kinds: [Pod]}}]}
      validate: {foreach: [{list: "request.object.spec.containers[].volumeMounts[]", deny: {conditions: {all: [{key: "{{ element.readOnly || `false` }}", operator: Equals, value: false}]}}}]}
    - name: hardened
      match: {any: [{resources: {kinds: [Pod]}}]}
      validate: {podSecurity: {level: restricted, version: latest}}
---
apiVersion: policies.kyverno.io/v1
kind: ValidatingPolicy
metadata: {name: in-cel}
spec:
  matchConstraints: {resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}]}
  validations:
    - expression: "has(object.spec.serviceAccountName) && object.spec.serviceAccountName != 'default'"
    - expression: "object.metadata.?labels.orValue({}).size() < 4"
    - expression: "object.spec.?tolerations.orValue([]).size() < 3"
"#;

#[test]
fn what_controllers_make_is_judged_as_foretold() -> Result<()> {
    // Some of the workloads want GPUs.
    world::play(async |world| {
        let api = world.scene.platform.cluster(TRAIN_CLOUD)?.api.clone();
        let compared = compared(&api).await;
        api.delete(&format!("/api/v1/namespaces/{NAMESPACE}")).await?;
        eventually("the workloads are gone", async || {
            let pods = api.list(&format!("/api/v1/namespaces/{NAMESPACE}/pods")).await?;
            Ok(look(pods.is_empty(), (), || format!("{} Pods are there", pods.len())))
        })
        .await?;
        // In what the objects differ is the bench's to list: here it counts only where it changes a verdict.
        let Compared { objects, answers, failed, not_evaluated, verdicts, shapes: _, foretold: _ } = compared?;
        ensure!(verdicts.is_empty(), "{} verdicts were foretold otherwise:\n{}", verdicts.len(), verdicts.join("\n"));
        ensure!(objects >= 2 * WORKLOADS && not_evaluated == 0, "{objects} objects, {not_evaluated} not evaluated");
        ensure!(failed > answers / 10 && failed < answers, "{failed} of {answers} fail: the workloads say nothing");
        Ok(())
    })
}

async fn compared(api: &ClusterApi) -> Result<Compared> {
    let documents = parse_documents(POLICIES)?;
    let policies = documents.iter().map(|document| Ok(Policy::parse(&document.value)?)).collect::<Result<Vec<_>>>()?;
    let workloads = (0..WORKLOADS).map(|number| made::built_in(number, NAMESPACE)).collect();
    let families = made::make(api, NAMESPACE, workloads, Schedules::ByHand).await?;
    let labels = Labels::from([("kubernetes.io/metadata.name".to_owned(), NAMESPACE.to_owned())]);
    let mut compared = Compared::default();
    made::compare(&policies, (NAMESPACE, &labels), &families, &mut compared);
    Ok(compared)
}
