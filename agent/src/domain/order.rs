//! In which order objects are written, and what is never removed.
//!
//! Adding goes down this list, removing goes up it: whatever a thing needs is there before it and leaves after it.

use super::object::ObjectRef;

/// When an object is written, relative to the others of its bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Namespaces.
    Namespace,
    /// Custom resource definitions; what follows waits until they are Established.
    Definition,
    /// Service accounts, roles and bindings.
    Access,
    /// Configuration, storage, quotas and policies.
    Config,
    /// Volcano queues and pod groups.
    Queue,
    /// Services and gateways.
    Service,
    /// What runs, and custom resources of unknown meaning.
    Workload,
    /// Autoscalers, disruption budgets and monitors.
    Attachment,
    /// Destination rules: what routes refer to.
    Subset,
    /// Virtual services, HTTP routes and ingresses.
    Route,
}

/// The stage of an object, by group and kind.
pub fn stage(object: &ObjectRef) -> Stage {
    match object.group_kind() {
        ("", "Namespace") => Stage::Namespace,
        ("apiextensions.k8s.io", _) => Stage::Definition,
        ("", "ServiceAccount") | ("rbac.authorization.k8s.io", _) => Stage::Access,
        ("", "ConfigMap" | "Secret" | "PersistentVolume" | "PersistentVolumeClaim" | "ResourceQuota" | "LimitRange")
        | ("storage.k8s.io" | "scheduling.k8s.io" | "admissionregistration.k8s.io" | "kyverno.io" | "policies.kyverno.io", _)
        | ("networking.k8s.io", "NetworkPolicy" | "IngressClass") => Stage::Config,
        ("scheduling.volcano.sh", _) => Stage::Queue,
        ("", "Service" | "Endpoints")
        | ("discovery.k8s.io", _)
        | ("networking.istio.io", "Gateway" | "ServiceEntry")
        | ("gateway.networking.k8s.io", "Gateway" | "GatewayClass") => Stage::Service,
        ("autoscaling" | "policy" | "monitoring.coreos.com", _) => Stage::Attachment,
        ("networking.istio.io", "DestinationRule") => Stage::Subset,
        ("networking.istio.io", "VirtualService") | ("gateway.networking.k8s.io", _) | ("networking.k8s.io", "Ingress") => {
            Stage::Route
        }
        _ => Stage::Workload,
    }
}

/// Whether an object may be removed at all: namespaces and definitions take what others hold with them.
pub fn may_be_pruned(object: &ObjectRef) -> bool {
    !matches!(stage(object), Stage::Namespace | Stage::Definition)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(group: &str, kind: &str) -> ObjectRef {
        ObjectRef { group: group.into(), kind: kind.into(), namespace: String::new(), name: "x".into() }
    }

    #[test]
    fn what_a_thing_needs_comes_before_it() {
        let order = [
            object("", "Namespace"),
            object("apiextensions.k8s.io", "CustomResourceDefinition"),
            object("rbac.authorization.k8s.io", "Role"),
            object("", "ConfigMap"),
            object("scheduling.volcano.sh", "Queue"),
            object("", "Service"),
            object("apps", "Deployment"),
            object("autoscaling", "HorizontalPodAutoscaler"),
            object("networking.istio.io", "DestinationRule"),
            object("networking.istio.io", "VirtualService"),
        ];
        let stages: Vec<_> = order.iter().map(stage).collect();
        assert!(stages.is_sorted_by(|a, b| a < b), "{stages:?}");
    }

    #[test]
    fn namespaces_and_definitions_are_never_pruned() {
        assert!(!may_be_pruned(&object("", "Namespace")));
        assert!(!may_be_pruned(&object("apiextensions.k8s.io", "CustomResourceDefinition")));
        assert!(may_be_pruned(&object("apps", "Deployment")));
    }
}
