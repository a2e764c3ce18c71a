//! The story of one model's routes through its releases, as whole bundles, and what is refused on the way.

use super::*;
use crate::domain::spec::TrafficSpec;
use muster_core::manifest::parse_documents;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What an overlay with routes renders: one Deployment, subsets v2 and v3, 90 to 10.
fn rendered(tag: &str) -> Vec<Value> {
    parse(&format!(
        r#"
apiVersion: v1
kind: ConfigMap
metadata: {{ name: detector-model, namespace: vision }}
data: {{ uri: "s3://models/detector/{tag}" }}
---
apiVersion: v1
kind: Service
metadata: {{ name: detector, namespace: vision }}
spec:
  selector: {{ app: detector }}
  ports: [{{ name: http, port: 80, targetPort: http }}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {{ name: detector, namespace: vision }}
spec:
  replicas: 2
  selector: {{ matchLabels: {{ app: detector }} }}
  template:
    metadata: {{ labels: {{ app: detector }} }}
    spec:
      containers:
        - name: server
          image: registry.example.com/vision/detector:{tag}
          env:
            - name: MODEL_URI
              valueFrom: {{ configMapKeyRef: {{ name: detector-model, key: uri }} }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {{ name: detector, namespace: vision }}
spec:
  minAvailable: 1
  selector: {{ matchLabels: {{ app: detector }} }}
---
apiVersion: networking.istio.io/v1beta1
kind: DestinationRule
metadata: {{ name: detector, namespace: vision }}
spec:
  host: detector
  trafficPolicy: {{ loadBalancer: {{ simple: LEAST_REQUEST }} }}
  subsets:
    - name: v2
      labels: {{ version: v2 }}
    - name: v3
      labels: {{ version: v3 }}
---
apiVersion: networking.istio.io/v1beta1
kind: VirtualService
metadata: {{ name: detector, namespace: vision }}
spec:
  hosts: [detector.vision.svc.cluster.local]
  http:
    - route:
        - destination: {{ host: detector, subset: v2 }}
          weight: 90
        - destination: {{ host: detector, subset: v3 }}
          weight: 10
"#
    ))
}

fn parse(text: &str) -> Vec<Value> {
    parse_documents(text).expect("valid YAML").into_iter().map(|manifest| manifest.value).collect()
}

fn without<'a>(objects: &[Value], kinds: impl IntoIterator<Item = &'a str> + Clone) -> Vec<Value> {
    objects.iter().filter(|object| !kinds.clone().into_iter().any(|kind| object["kind"] == kind)).cloned().collect()
}

fn alone(rendered: &[Value]) -> Composed {
    compose(Wanted { rendered, traffic: None, stable: None, weight: 100 }).unwrap()
}

fn beside(rendered: &[Value], stable: &[Value], weight: u8) -> Composed {
    let subsets = alone(stable).candidate_subsets();
    let stable = Some(Stable { rendered: stable, subsets: &subsets });
    compose(Wanted { rendered, traffic: None, stable, weight }).unwrap()
}

fn text(composed: &Composed) -> String {
    let copies: Vec<String> = composed
        .copies
        .iter()
        .map(|copy| {
            let role = if copy.candidate { "candidate" } else { "stable" };
            format!("{role} {} {} subset {} weight {}", copy.workload, copy.revision, copy.subset, copy.weight)
        })
        .collect();
    format!("{}\n{}", copies.join("\n"), serde_json::to_string_pretty(&composed.objects).unwrap())
}

fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    objects
        .iter()
        .find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
        .unwrap_or_else(|| panic!("no {kind} {name} in {objects:#?}"))
}

fn weights(objects: &[Value]) -> Vec<(String, i64)> {
    find(objects, "VirtualService", "detector")["spec"]["http"][0]["route"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| (entry["destination"]["subset"].as_str().unwrap_or_default().to_owned(), entry["weight"].as_i64().unwrap()))
        .collect()
}

fn subset_labels(objects: &[Value], subset: &str) -> Value {
    find(objects, "DestinationRule", "detector")["spec"]["subsets"]
        .as_array()
        .unwrap()
        .iter()
        .find(|entry| entry["name"] == subset)
        .unwrap_or_else(|| panic!("no subset {subset}"))["labels"]
        .clone()
}

#[test]
fn story_1_the_first_deployment_has_all_of_the_traffic() {
    insta::assert_snapshot!(text(&alone(&rendered("v2"))));
}

#[test]
fn story_2_the_next_version_starts_with_the_users_ten_percent() {
    let (old, new) = (rendered("v2"), rendered("v3"));
    let subsets = alone(&old).candidate_subsets();
    let stable = Some(Stable { rendered: &old, subsets: &subsets });
    let wanted = Wanted { rendered: &new, traffic: None, stable, weight: 10 };
    assert_eq!(steps(wanted, &[]).unwrap(), [10, 100]);
    assert_eq!(steps(wanted, &[5, 50]).unwrap(), [10, 50, 100]);
    insta::assert_snapshot!(text(&compose(wanted).unwrap()));
}

#[test]
fn story_3_promotion_is_a_change_of_weights_and_nothing_else() {
    let (ten, all) = (beside(&rendered("v3"), &rendered("v2"), 10), beside(&rendered("v3"), &rendered("v2"), 100));
    let changed: Vec<&Value> = all.objects.iter().filter(|object| !ten.objects.contains(object)).collect();
    assert_eq!(changed.len(), 1, "{changed:#?}");
    assert_eq!(changed[0]["kind"], "VirtualService");
    insta::assert_snapshot!(text(&all));
}

#[test]
fn story_4_removal_leaves_the_new_copy_as_it_is() {
    let (all, removed) = (beside(&rendered("v3"), &rendered("v2"), 100), alone(&rendered("v3")));
    for object in removed.objects.iter().filter(|object| object["kind"] == "Deployment") {
        assert!(all.objects.contains(object), "no pod is restarted by a removal");
    }
    insta::assert_snapshot!(text(&removed));
}

#[test]
fn story_5_a_rollback_before_removal_only_shifts_and_removes() {
    let (ten, back) = (beside(&rendered("v3"), &rendered("v2"), 10), alone(&rendered("v2")));
    for object in
        back.objects.iter().filter(|object| !["VirtualService", "DestinationRule"].contains(&object["kind"].as_str().unwrap()))
    {
        assert!(ten.objects.contains(object), "{} was not there before", object["metadata"]["name"]);
    }
    assert_eq!(weights(&back.objects), [("v2".to_owned(), 100), ("v3".to_owned(), 0)]);
    insta::assert_snapshot!(text(&back));
}

#[test]
fn story_6_a_rollback_after_removal_starts_the_old_copy_beside_the_new_one() {
    let back = beside(&rendered("v2"), &rendered("v3"), 100);
    assert_eq!(weights(&back.objects), [("v2".to_owned(), 100), ("v3".to_owned(), 0)]);
    insta::assert_snapshot!(text(&back));
}

#[test]
fn story_7_a_fourth_version_gets_a_subset_of_its_own() {
    let (old, new) = (rendered("v3"), rendered("v4"));
    let subsets = alone(&old).candidate_subsets();
    let stable = Some(Stable { rendered: &old, subsets: &subsets });
    let wanted = Wanted { rendered: &new, traffic: None, stable, weight: 20 };
    assert_eq!(steps(wanted, &[20, 100]).unwrap(), [20, 100], "git says nothing of v4, so the rollout's first");
    let composed = compose(wanted).unwrap();
    assert_eq!(weights(&composed.objects), [("v2".to_owned(), 0), ("v3".to_owned(), 80), ("v4".to_owned(), 20)]);
    insta::assert_snapshot!(text(&composed));
}

#[test]
fn weights_total_100_for_every_share_and_every_pair_of_versions() {
    for (old, new) in [("v1", "v2"), ("v2", "v3"), ("v3", "v4"), ("v7", "v8"), ("v3", "v2"), ("v3", "v3")] {
        for weight in 0..=100 {
            let composed = beside(&rendered(new), &rendered(old), weight);
            let weights = weights(&composed.objects);
            assert_eq!(weights.iter().map(|(_, weight)| weight).sum::<i64>(), 100, "{old} to {new} at {weight}");
            for (subset, weight) in weights {
                let copy = composed.copies.iter().find(|copy| copy.subset == subset);
                assert_eq!(copy.map_or(0, |copy| i64::from(copy.weight)), weight, "{subset} without a copy has 0");
            }
        }
    }
}

#[test]
fn every_subset_with_weight_selects_exactly_the_pods_of_its_copy() {
    let composed = beside(&rendered("v4"), &rendered("v3"), 30);
    for copy in &composed.copies {
        let labels = subset_labels(&composed.objects, &copy.subset);
        assert_eq!(labels, json!({ "version": copy.version, "muster.dev/revision": copy.revision }));
        let pods = find(&composed.objects, "Deployment", &format!("detector-{}", copy.revision));
        for (key, value) in labels.as_object().unwrap() {
            assert_eq!(&pods["spec"]["template"]["metadata"]["labels"][key], value);
            assert_eq!(&pods["spec"]["selector"]["matchLabels"][key], value);
        }
    }
}

#[test]
fn the_services_selector_never_changes() {
    let git = rendered("v3");
    for composed in [alone(&git), beside(&git, &rendered("v2"), 50)] {
        assert_eq!(find(&composed.objects, "Service", "detector"), find(&git, "Service", "detector"));
    }
}

#[test]
fn a_change_of_configuration_alone_is_a_new_revision_of_the_same_version() {
    let old = rendered("v3");
    let mut new = old.clone();
    new[0]["data"]["uri"] = json!("s3://models/detector/v3-fixed");
    let composed = beside(&new, &old, 10);
    let [candidate, stable] = &composed.copies[..] else { panic!("two copies") };
    assert_ne!(candidate.revision, stable.revision);
    assert_eq!((candidate.version.as_str(), stable.version.as_str()), ("v3", "v3"));
    assert_eq!(stable.subset, "v3", "the copy that serves keeps its subset");
    assert_eq!(candidate.subset, format!("v3-{}", candidate.revision));
    assert_eq!(
        subset_labels(&composed.objects, "v3")["muster.dev/revision"],
        json!(stable.revision),
        "the same version twice is told apart by revision"
    );

    // One release later the copy is the stable one, and is still known by its subset.
    let subsets = composed.candidate_subsets();
    let newest = rendered("v4");
    let next = compose(Wanted {
        rendered: &newest,
        traffic: None,
        stable: Some(Stable { rendered: &new, subsets: &subsets }),
        weight: 40,
    })
    .unwrap();
    assert_eq!(next.copies[1].subset, candidate.subset);
    assert!(weights(&next.objects).contains(&(candidate.subset.clone(), 60)));
}

#[test]
fn the_same_pods_from_another_commit_are_the_same_copy() {
    let old = rendered("v3");
    let mut new = old.clone();
    new[1]["spec"]["ports"][0]["port"] = json!(8080);
    let composed = beside(&new, &old, 10);
    assert_eq!(composed.copies.len(), 1);
    assert_eq!(composed.copies[0].weight, 100);
    assert_eq!(composed.copies[0].revision, alone(&old).copies[0].revision);
}

#[test]
fn a_hash_of_kustomize_is_not_suffixed_again_and_a_plain_name_is() {
    let plain = alone(&rendered("v3"));
    let revision = &plain.copies[0].revision;
    find(&plain.objects, "ConfigMap", &format!("detector-model-{revision}"));
    let hashed: Vec<Value> = rendered("v3")
        .into_iter()
        .map(|object| serde_json::from_str(&object.to_string().replace("detector-model", "detector-model-7hk5tm96b8")).unwrap())
        .collect();
    let composed = alone(&hashed);
    find(&composed.objects, "ConfigMap", "detector-model-7hk5tm96b8");
    assert!(composed.objects.iter().all(|object| object["metadata"]["name"] != "detector-model"));
}

#[test]
fn replicas_are_left_to_the_autoscaler_of_each_copy() {
    let hpa = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": { "name": "detector", "namespace": "vision" },
        "spec": { "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "detector" }, "maxReplicas": 5 },
    });
    let (mut old, mut new) = (rendered("v2"), rendered("v3"));
    old.push(hpa.clone());
    new.push(hpa);
    let composed = beside(&new, &old, 10);
    for copy in &composed.copies {
        let name = format!("detector-{}", copy.revision);
        assert!(find(&composed.objects, "Deployment", &name)["spec"].get("replicas").is_none());
        let hpa = find(&composed.objects, "HorizontalPodAutoscaler", &name);
        assert_eq!(hpa["spec"]["scaleTargetRef"]["name"], json!(name));
        let budget = find(&composed.objects, "PodDisruptionBudget", &name);
        assert_eq!(budget["spec"]["selector"]["matchLabels"]["muster.dev/revision"], json!(copy.revision));
    }
    let in_place = alone(&without(&new, ["VirtualService", "DestinationRule"]));
    assert!(find(&in_place.objects, "Deployment", "detector")["spec"].get("replicas").is_none());
}

#[test]
fn a_target_without_routes_updates_in_place_under_the_plain_name() {
    let git = without(&rendered("v3"), ["VirtualService", "DestinationRule"]);
    let composed = alone(&git);
    assert_eq!(composed.objects, git);
    assert!(composed.copies.is_empty());
    let wanted = Wanted { rendered: &git, traffic: None, stable: None, weight: 100 };
    assert!(steps(wanted, &[10, 100]).unwrap().is_empty());
    let traffic = TrafficSpec { kind: "Deployment".to_owned(), workload: "detector".to_owned() };
    assert!(inspect(&git, Some(&traffic)).unwrap().is_empty(), "an edge has no room for two");
}

#[test]
fn the_users_own_two_deployments_are_untouched() {
    let mut git = without(&rendered("v3"), ["Deployment"]);
    for version in ["v2", "v3"] {
        let mut own = find(&rendered(version), "Deployment", "detector").clone();
        own["metadata"]["name"] = json!(format!("detector-{version}"));
        own["spec"]["template"]["metadata"]["labels"]["version"] = json!(version);
        git.push(own);
    }
    assert_eq!(alone(&git).objects, git);
}

#[test]
fn a_plain_deployment_that_serves_is_adopted_and_kept_until_the_copy_is_there() {
    let old = without(&rendered("v2"), ["VirtualService", "DestinationRule"]);
    let none = BTreeMap::new();
    let new = rendered("v3");
    let wanted = Wanted { rendered: &new, traffic: None, stable: Some(Stable { rendered: &old, subsets: &none }), weight: 10 };
    let composed = compose(wanted).unwrap();
    assert_eq!(find(&composed.objects, "Deployment", "detector"), find(&old, "Deployment", "detector"));
    find(&composed.objects, "ConfigMap", "detector-model");
    assert_eq!(weights(&composed.objects), [("v2".to_owned(), 0), ("v3".to_owned(), 100)], "no subset can select it");
    assert_eq!(steps(wanted, &[10, 100]).unwrap(), [100]);
}

#[test]
fn a_plain_deployment_with_a_version_of_its_own_shares_the_traffic() {
    let mut old = without(&rendered("v2"), ["VirtualService", "DestinationRule"]);
    old[2]["spec"]["template"]["metadata"]["labels"]["version"] = json!("v2");
    let none = BTreeMap::new();
    let new = rendered("v3");
    let wanted = Wanted { rendered: &new, traffic: None, stable: Some(Stable { rendered: &old, subsets: &none }), weight: 10 };
    let composed = compose(wanted).unwrap();
    assert_eq!(weights(&composed.objects), [("v2".to_owned(), 90), ("v3".to_owned(), 10)]);
    assert_eq!(subset_labels(&composed.objects, "v2"), json!({ "version": "v2" }), "its pods have no revision label");
}

#[test]
fn only_a_deployment_can_be_a_traffic_workload() {
    let mut git = rendered("v3");
    git[2]["kind"] = json!("StatefulSet");
    let refused = TrafficError::NotADeployment { kind: "StatefulSet".to_owned(), name: "detector".to_owned() };
    assert_eq!(inspect(&git, None), Err(refused.clone()));
    git = without(&git, ["DestinationRule"]);
    let traffic = TrafficSpec { kind: "Deployment".to_owned(), workload: "detector".to_owned() };
    assert_eq!(inspect(&git, Some(&traffic)), Err(refused));
}

#[test]
fn routes_that_cannot_be_understood_are_refused_by_name() {
    let no_service = without(&rendered("v3"), ["Service"]);
    assert!(matches!(inspect(&no_service, None), Err(TrafficError::NoWorkload { .. })));
    let mut two = rendered("v3");
    let mut second = two[2].clone();
    second["metadata"]["name"] = json!("detector-spare");
    two.push(second);
    assert!(matches!(inspect(&two, None), Err(TrafficError::Ambiguous { names, .. }) if names.len() == 2));
    let named = TrafficSpec { kind: "Deployment".to_owned(), workload: "detector".to_owned() };
    assert_eq!(inspect(&two, Some(&named)).unwrap()[0].workload, "detector");
    let mut mixed = rendered("v3");
    mixed[5]["spec"]["http"][0]["route"][0]["destination"]["host"] = json!("legacy");
    mixed[5]["spec"]["http"][0]["route"][0]["destination"]["subset"] = Value::Null;
    let refused = compose(Wanted { rendered: &mixed, traffic: None, stable: None, weight: 100 });
    assert!(matches!(refused, Err(TrafficError::MixedRoute { path, .. }) if path == "spec.http[0]"));
    let mut long = rendered("v3");
    let name = "d".repeat(60);
    long[2]["metadata"]["name"] = json!(name);
    let refused = compose(Wanted { rendered: &long, traffic: None, stable: None, weight: 100 });
    assert!(matches!(refused, Err(TrafficError::NameTooLong(_))));
}

#[test]
fn a_rule_for_some_requests_that_names_a_running_version_is_left_alone() {
    let with_preview = |tag: &str| {
        let mut git = rendered(tag);
        let preview = json!({
            "match": [{ "headers": { "x-preview": { "exact": "true" } } }],
            "route": [{ "destination": { "host": "detector", "subset": "v3" } }],
        });
        git[5]["spec"]["http"].as_array_mut().unwrap().push(preview);
        git
    };
    let both = beside(&with_preview("v3"), &with_preview("v2"), 10);
    let rule = &find(&both.objects, "VirtualService", "detector")["spec"]["http"][1];
    assert_eq!(rule["route"], json!([{ "destination": { "host": "detector", "subset": "v3" } }]));
    let first = alone(&with_preview("v2"));
    let rule = &find(&first.objects, "VirtualService", "detector")["spec"]["http"][1];
    assert_eq!(rule["route"][0]["weight"], 0, "v3 has no pods yet");
    assert_eq!(rule["route"][1]["destination"]["subset"], "v2");
}

#[test]
fn traffic_named_by_the_rollout_makes_its_own_rule() {
    let mut git = without(&rendered("v3"), ["DestinationRule"]);
    git[4]["spec"]["http"] = json!([{ "route": [{ "destination": { "host": "detector" } }] }]);
    assert!(inspect(&git, None).unwrap().is_empty());
    let traffic = TrafficSpec { kind: "Deployment".to_owned(), workload: "detector".to_owned() };
    let composed = compose(Wanted { rendered: &git, traffic: Some(&traffic), stable: None, weight: 100 }).unwrap();
    assert_eq!(weights(&composed.objects), [("v3".to_owned(), 100)]);
    assert_eq!(subset_labels(&composed.objects, "v3")["version"], "v3");
}

#[test]
fn a_site_with_one_gpu_is_updated_without_room_for_two() {
    let mut git = without(&rendered("v3"), ["VirtualService", "DestinationRule"]);
    git[2]["spec"]["template"]["spec"]["containers"][0]["resources"] = json!({ "limits": { "nvidia.com/gpu": "1" } });
    let strategy = |git: &[Value]| find(&alone(git).objects, "Deployment", "detector")["spec"]["strategy"].clone();
    let one_by_one = json!({ "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 0, "maxUnavailable": 1 } });
    assert_eq!(strategy(&git), one_by_one);
    git[2]["spec"]["strategy"] = json!({ "type": "Recreate" });
    assert_eq!(strategy(&git), json!({ "type": "Recreate" }), "what git says stands");
}
