//! What routes are judged by: the services, destination rules, deployments and pods of the namespaces they point to.

use super::split::{Destination, service_of_host};
use crate::domain::{
    object::{list, text},
    workload::{deployment_is_full, labels, pod_is_ready, selects},
};
use muster_core::selector::Labels;
use serde_json::Value;

/// Live objects of the namespaces in question; each list may span several.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// Services.
    pub services: Vec<Value>,
    /// DestinationRules, as they are or as they are about to be.
    pub rules: Vec<Value>,
    /// Routes as they are live.
    pub routes: Vec<Value>,
    /// Deployments.
    pub deployments: Vec<Value>,
    /// Pods.
    pub pods: Vec<Value>,
}

/// Whether a destination can take requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// Not a Service with a selector in this cluster: not ours to judge.
    Foreign,
    /// No ready pod, or no such subset.
    None,
    /// At least one ready pod, fewer than asked for.
    Some,
    /// Ready at full size.
    Full,
}

impl World {
    /// Whether a destination can take requests.
    pub fn readiness(&self, destination: &Destination) -> Readiness {
        let Some(selector) = self.selector(&destination.namespace, &destination.service) else {
            return Readiness::Foreign;
        };
        match destination.subset.as_str() {
            "" => self.behind(&destination.namespace, &selector),
            name => match self.subset_labels(destination, name) {
                Some(subset) => self.readiness_with(&destination.namespace, &selector, &subset),
                None => Readiness::None,
            },
        }
    }

    /// The same for a subset with given labels, as it would be after a change of the rule.
    pub fn readiness_of_labels(&self, namespace: &str, service: &str, subset: &Labels) -> Readiness {
        match self.selector(namespace, service) {
            Some(selector) => self.readiness_with(namespace, &selector, subset),
            None => Readiness::Foreign,
        }
    }

    fn readiness_with(&self, namespace: &str, selector: &Labels, subset: &Labels) -> Readiness {
        let mut all = selector.clone();
        all.extend(subset.clone());
        self.behind(namespace, &all)
    }

    fn behind(&self, namespace: &str, wanted: &Labels) -> Readiness {
        let ready = self
            .pods
            .iter()
            .any(|pod| in_namespace(pod, namespace) && pod_is_ready(pod) && selects(wanted, &labels(pod, "/metadata/labels")));
        if !ready {
            return Readiness::None;
        }
        let mut makers = self.deployments.iter().filter(|deployment| {
            in_namespace(deployment, namespace) && selects(wanted, &labels(deployment, "/spec/template/metadata/labels"))
        });
        let Some(first) = makers.next() else { return Readiness::Full };
        if std::iter::once(first).chain(makers).any(deployment_is_full) { Readiness::Full } else { Readiness::Some }
    }

    fn selector(&self, namespace: &str, service: &str) -> Option<Labels> {
        let service =
            self.services.iter().find(|live| in_namespace(live, namespace) && text(live, "/metadata/name") == service)?;
        Some(labels(service, "/spec/selector")).filter(|selector| !selector.is_empty())
    }

    fn subset_labels(&self, destination: &Destination, name: &str) -> Option<Labels> {
        self.rules
            .iter()
            .filter(|rule| {
                let (service, namespace) = service_of_host(text(rule, "/spec/host"), text(rule, "/metadata/namespace"));
                service == destination.service && namespace == destination.namespace
            })
            .flat_map(|rule| list(rule, "/spec/subsets"))
            .find(|subset| text(subset, "/name") == name)
            .map(|subset| labels(subset, "/labels"))
    }
}

fn in_namespace(object: &Value, namespace: &str) -> bool {
    text(object, "/metadata/namespace") == namespace
}
