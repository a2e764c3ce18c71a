//! What is to be true of the workloads under `deploy/k8s`, and of the policies, budgets and Services around them.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use muster_integration_tests::platform::{Ports, Service};
use serde_json::{Value, json};

use crate::manifests::{called, entries, list, of_kind, selects, text};

/// How many of each service there are, and where there are two, a budget for each.
pub fn replicated(objects: &[Value], replicas: u64) -> Result<()> {
    let deployments = of_kind(objects, "Deployment");
    let names: BTreeSet<&str> = deployments.iter().map(|deployment| text(deployment, "/metadata/name")).collect();
    ensure!(names == Service::ALL.map(Service::name).into_iter().collect(), "the Deployments are {names:?}");
    let budgets = of_kind(objects, "PodDisruptionBudget");
    for deployment in &deployments {
        ensure!(deployment["spec"]["replicas"] == replicas, "{} has {}", called(deployment), deployment["spec"]["replicas"]);
        let of = |budget: &&&Value| selects(&budget["spec"]["selector"], pod_labels(deployment));
        let count = budgets.iter().filter(of).count() as u64;
        ensure!(count == u64::from(replicas > 1), "{} has {count} budgets", called(deployment));
    }
    ensure!(budgets.len() == if replicas > 1 { deployments.len() } else { 0 }, "{} budgets", budgets.len());
    Ok(())
}

/// The Services have the documented ports.
pub fn addressed(objects: &[Value]) -> Result<()> {
    for service in Service::ALL {
        let there = named(objects, "Service", service.name())?;
        let ports: Vec<(&str, u64)> = list(there, "/spec/ports")
            .iter()
            .map(|port| (text(port, "/name"), port["port"].as_u64().unwrap_or_default()))
            .collect();
        let Ports { grpc, http } = Ports::documented(service);
        ensure!(ports == [("grpc", u64::from(grpc)), ("http", u64::from(http))], "{}: {ports:?}", called(there));
        let containers = list(pod(named(objects, "Deployment", service.name())?), "/containers/0/ports");
        let inside: Vec<u64> = containers.iter().filter_map(|port| port["containerPort"].as_u64()).collect();
        ensure!(inside == [u64::from(grpc), u64::from(http)], "{}'s containers have {inside:?}", service.name());
    }
    Ok(())
}

/// A pod that can harm neither its node nor its neighbours, and says what it takes.
pub fn harmless(workload: &Value) -> Result<()> {
    let pod = pod(workload);
    let security = &pod["securityContext"];
    ensure!(security["runAsNonRoot"] == true && security["runAsUser"].as_u64() > Some(0), "it may be root");
    ensure!(security["seccompProfile"]["type"] == "RuntimeDefault", "it may call everything of the kernel");
    ensure!(pod["enableServiceLinks"] == false, "it is told of every Service");
    let has_rights = text(workload, "/metadata/name") == "muster-agent";
    ensure!(has_rights || pod["automountServiceAccountToken"] == false, "it has a token that it does not need");
    let containers = list(pod, "/containers");
    ensure!(containers.len() == 1 && list(pod, "/initContainers").is_empty(), "there are containers that nobody checked");
    let container = &containers[0];
    let security = &container["securityContext"];
    ensure!(security["readOnlyRootFilesystem"] == true, "it writes its root");
    ensure!(security["allowPrivilegeEscalation"] == false, "it may gain rights");
    ensure!(security["capabilities"] == json!({"drop": ["ALL"]}), "its capabilities are {}", security["capabilities"]);
    for kind in ["requests", "limits"] {
        for what in ["cpu", "memory"] {
            ensure!(container["resources"][kind][what].is_string(), "no {kind} of {what}");
        }
    }
    let tag = text(container, "/image").rsplit_once('/').and_then(|(_, name)| name.split_once(':')).map(|(_, tag)| tag);
    ensure!(tag.is_some_and(|tag| tag != "latest"), "its image is {}", container["image"]);
    ensure!(container["imagePullPolicy"] == "IfNotPresent", "its image is pulled {}", container["imagePullPolicy"]);
    Ok(())
}

/// Probes ask what the programs answer, on the port where they do.
pub fn probed(workload: &Value) -> Result<()> {
    let container = &pod(workload)["containers"][0];
    for (probe, path) in [("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")] {
        let get = &container[probe]["httpGet"];
        ensure!(get["path"] == path && get["scheme"] == "HTTP", "{probe} asks {get}");
        ensure!(has_port(workload, &get["port"]), "{probe} asks port {}", get["port"]);
    }
    Ok(())
}

/// A policy is about pods that are there, and lets in only what listens.
pub fn reaching(policy: &Value, workloads: &[&Value]) -> Result<()> {
    let of = |selector: &Value| -> Vec<&Value> {
        workloads.iter().copied().filter(|workload| selects(selector, pod_labels(workload))).collect()
    };
    let own = of(&policy["spec"]["podSelector"]);
    ensure!(!own.is_empty(), "it is about nobody");
    for rule in list(policy, "/spec/ingress") {
        ensure!(!list(rule, "/ports").is_empty(), "it lets in everything");
        for port in list(rule, "/ports") {
            ensure!(own.iter().all(|workload| has_port(workload, &port["port"])), "not all have port {}", port["port"]);
        }
        for peer in list(rule, "/from").iter().filter(|peer| peer["podSelector"].is_object()) {
            ensure!(!of(&peer["podSelector"]).is_empty(), "nobody is {}", peer["podSelector"]);
        }
    }
    for rule in list(policy, "/spec/egress") {
        ensure!(!list(rule, "/ports").is_empty(), "it lets out everything");
        for peer in list(rule, "/to").iter().filter(|peer| peer["podSelector"].is_object()) {
            let first = rule["ports"][0]["port"].as_u64().context("a port by number")?;
            let last = rule["ports"][0]["endPort"].as_u64().unwrap_or(first);
            let targets = of(&peer["podSelector"]);
            for number in first..=last {
                let listens = targets.iter().any(|workload| {
                    list(pod(workload), "/containers/0/ports").iter().any(|port| port["containerPort"] == number)
                });
                ensure!(listens, "nobody listens on {number}");
            }
        }
    }
    Ok(())
}

/// The variables that a workload's pods have from ConfigMaps.
pub fn environment(workload: &Value, objects: &[Value]) -> Vec<(String, String)> {
    let container = &pod(workload)["containers"][0];
    let maps = list(container, "/envFrom").iter().map(|from| text(from, "/configMapRef/name"));
    maps.filter_map(|name| named(objects, "ConfigMap", name).ok()).flat_map(entries).collect()
}

/// Everything that makes pods.
pub fn workloads(objects: &[Value]) -> Vec<&Value> {
    ["Deployment", "StatefulSet", "Job"].iter().flat_map(|kind| of_kind(objects, kind)).collect()
}

/// One object by its kind and name.
pub fn named<'a>(objects: &'a [Value], kind: &str, name: &str) -> Result<&'a Value> {
    let found = of_kind(objects, kind).into_iter().find(|object| object["metadata"]["name"] == name);
    found.with_context(|| format!("no {kind} {name:?}"))
}

/// What its pods are like.
pub fn pod(workload: &Value) -> &Value {
    &workload["spec"]["template"]["spec"]
}

/// The labels of its pods.
pub fn pod_labels(workload: &Value) -> &Value {
    &workload["spec"]["template"]["metadata"]["labels"]
}

/// Whether a workload's container has a port of this name or number.
pub fn has_port(workload: &Value, port: &Value) -> bool {
    list(pod(workload), "/containers/0/ports").iter().any(|own| own["name"] == *port || own["containerPort"] == *port)
}
