//! The kinds a cluster serves: the built-in ones, and those that CustomResourceDefinitions add while it runs.

use crate::{
    json,
    schema::{self, Field, Scalar, Schema, Struct, openapi},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

/// One kind with all its versions.
#[derive(Debug)]
pub struct ResourceType {
    /// API group; "" for the core group.
    pub group: String,
    /// The kind, `Deployment`.
    pub kind: String,
    /// The name in paths, `deployments`.
    pub plural: String,
    /// The name of one, `deployment`.
    pub singular: String,
    /// The kind of a list of them.
    pub list_kind: String,
    /// What `kubectl` also calls them.
    pub short_names: Vec<String>,
    /// Groups of kinds this one is in, `all`.
    pub categories: Vec<String>,
    /// Lives in namespaces.
    pub namespaced: bool,
    /// Counts changes of its spec in `metadata.generation`.
    pub counts_generation: bool,
    /// Comes from a CustomResourceDefinition.
    pub custom: bool,
    /// Its versions, the one that is stored first.
    pub versions: Vec<Version>,
}

/// One version of a kind.
#[derive(Debug)]
pub struct Version {
    /// `v1`.
    pub name: String,
    /// Answers requests.
    pub served: bool,
    /// The shape of its objects.
    pub schema: Arc<Schema>,
    /// The OpenAPI schema its objects are checked with, for custom kinds.
    pub openapi: Option<Arc<Value>>,
    /// Has `/status`.
    pub status: bool,
    /// Has `/scale`: the paths of the wanted and the observed replicas.
    pub scale: Option<(String, String)>,
    /// What `kubectl get` shows of it: name and JSON path.
    pub columns: Vec<(String, String)>,
}

impl ResourceType {
    /// `deployments.apps`, or `pods` for the core group: unique in a cluster.
    pub fn qualified(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// `apps/v1`, of the version at this index.
    pub fn api_version(&self, version: usize) -> String {
        let name = &self.versions[version].name;
        if self.group.is_empty() { name.clone() } else { format!("{}/{name}", self.group) }
    }

    /// The index of a served version.
    pub fn served(&self, name: &str) -> Option<usize> {
        self.versions.iter().position(|version| version.served && version.name == name)
    }
}

/// group, version, kind, plural, short names, flags: n namespaced, g generation, s status, c scale, a in category `all`.
const BUILTIN: &[(&str, &str, &str, &str, &str, &str)] = &[
    ("", "v1", "Namespace", "namespaces", "ns", "s"),
    ("", "v1", "Pod", "pods", "po", "ngsa"),
    ("", "v1", "Service", "services", "svc", "nsa"),
    ("", "v1", "Endpoints", "endpoints", "ep", "n"),
    ("", "v1", "ConfigMap", "configmaps", "cm", "n"),
    ("", "v1", "Secret", "secrets", "", "n"),
    ("", "v1", "Node", "nodes", "no", "s"),
    ("", "v1", "ServiceAccount", "serviceaccounts", "sa", "n"),
    ("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", "pvc", "ns"),
    ("", "v1", "PersistentVolume", "persistentvolumes", "pv", "s"),
    ("", "v1", "Event", "events", "ev", "n"),
    ("", "v1", "LimitRange", "limitranges", "limits", "n"),
    ("", "v1", "ResourceQuota", "resourcequotas", "quota", "ns"),
    ("apps", "v1", "Deployment", "deployments", "deploy", "ngsca"),
    ("apps", "v1", "ReplicaSet", "replicasets", "rs", "ngsca"),
    ("apps", "v1", "StatefulSet", "statefulsets", "sts", "ngsca"),
    ("apps", "v1", "DaemonSet", "daemonsets", "ds", "ngsa"),
    ("apps", "v1", "ControllerRevision", "controllerrevisions", "", "n"),
    ("batch", "v1", "Job", "jobs", "", "ngsa"),
    ("batch", "v1", "CronJob", "cronjobs", "cj", "ngsa"),
    ("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", "hpa", "nsa"),
    ("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", "pdb", "ngs"),
    ("rbac.authorization.k8s.io", "v1", "Role", "roles", "", "n"),
    ("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings", "", "n"),
    ("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles", "", ""),
    ("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings", "", ""),
    ("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", "crd,crds", "gs"),
    ("coordination.k8s.io", "v1", "Lease", "leases", "", "n"),
    ("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", "", "ng"),
    ("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses", "pc", "g"),
    ("storage.k8s.io", "v1", "StorageClass", "storageclasses", "sc", ""),
    ("networking.k8s.io", "v1", "Ingress", "ingresses", "ing", "ngs"),
    ("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", "netpol", "ng"),
    ("admissionregistration.k8s.io", "v1", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations", "", "g"),
    ("admissionregistration.k8s.io", "v1", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations", "", "g"),
    ("admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies", "", "gs"),
    ("admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", "", "g"),
    ("apiregistration.k8s.io", "v1", "APIService", "apiservices", "", "s"),
];

/// The built-in kinds; made once and shared by every cluster in the process.
pub fn builtin_types() -> &'static [Arc<ResourceType>] {
    static TYPES: OnceLock<Vec<Arc<ResourceType>>> = OnceLock::new();
    TYPES.get_or_init(|| {
        let each = BUILTIN.iter();
        each.map(|(group, version, kind, plural, short, flags)| {
            let scale = flags.contains('c').then(|| (".spec.replicas".to_owned(), ".status.replicas".to_owned()));
            Arc::new(ResourceType {
                group: (*group).to_owned(),
                kind: (*kind).to_owned(),
                plural: (*plural).to_owned(),
                singular: kind.to_lowercase(),
                list_kind: format!("{kind}List"),
                short_names: short.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
                categories: if flags.contains('a') { vec!["all".to_owned()] } else { Vec::new() },
                namespaced: flags.contains('n'),
                counts_generation: flags.contains('g'),
                custom: false,
                versions: vec![Version {
                    name: (*version).to_owned(),
                    served: true,
                    schema: Arc::new(top_level(kind)),
                    openapi: None,
                    status: flags.contains('s'),
                    scale,
                    columns: Vec::new(),
                }],
            })
        })
        .collect()
    })
}

fn top_level(kind: &str) -> Schema {
    let mut shape = match schema::builtin(kind) {
        Some(Schema::Struct(shape)) => shape.clone(),
        Some(_) | None => Struct { open: true, ..Struct::default() },
    };
    let field = |schema| Field { schema, required: false, default: None };
    shape.fields.insert("apiVersion".to_owned(), field(Schema::Scalar(Scalar::Text)));
    shape.fields.insert("kind".to_owned(), field(Schema::Scalar(Scalar::Text)));
    shape.fields.insert("metadata".to_owned(), field(Schema::Named("ObjectMeta".to_owned(), false)));
    Schema::Struct(shape)
}

/// The kind a CustomResourceDefinition describes.
pub fn custom_type(definition: &Value) -> ResourceType {
    let words =
        |pointer: &str| json::list(definition, pointer).iter().filter_map(|word| word.as_str().map(str::to_owned)).collect();
    let kind = json::text(definition, "/spec/names/kind").to_owned();
    let or = |pointer: &str, other: String| match json::text(definition, pointer) {
        "" => other,
        text => text.to_owned(),
    };
    let mut versions: Vec<(bool, Version)> = json::list(definition, "/spec/versions")
        .iter()
        .map(|version| {
            let openapi = version.pointer("/schema/openAPIV3Schema");
            let scale = version.pointer("/subresources/scale").map(|scale| {
                let path = |name: &str| json::text(scale, name).to_owned();
                (path("/specReplicasPath"), path("/statusReplicasPath"))
            });
            let column = |column: &Value| (json::text(column, "/name").to_owned(), json::text(column, "/jsonPath").to_owned());
            let read = Version {
                name: json::text(version, "/name").to_owned(),
                served: json::flag(version, "/served"),
                schema: Arc::new(openapi::shape_of_kind(openapi)),
                openapi: openapi.cloned().map(Arc::new),
                status: version.pointer("/subresources/status").is_some(),
                scale,
                columns: json::list(version, "/additionalPrinterColumns").iter().map(column).collect(),
            };
            (json::flag(version, "/storage"), read)
        })
        .collect();
    versions.sort_by_key(|(stored, _)| !stored);
    ResourceType {
        group: json::text(definition, "/spec/group").to_owned(),
        plural: json::text(definition, "/spec/names/plural").to_owned(),
        singular: or("/spec/names/singular", kind.to_lowercase()),
        list_kind: or("/spec/names/listKind", format!("{kind}List")),
        kind,
        short_names: words("/spec/names/shortNames"),
        categories: words("/spec/names/categories"),
        namespaced: json::text(definition, "/spec/scope") == "Namespaced",
        counts_generation: true,
        custom: true,
        versions: versions.into_iter().map(|(_, version)| version).collect(),
    }
}

/// The kinds of one cluster by their qualified name.
#[derive(Debug, Clone)]
pub struct Types {
    by_name: BTreeMap<String, Arc<ResourceType>>,
}

impl Default for Types {
    fn default() -> Self {
        let by_name = builtin_types().iter().map(|kind| (kind.qualified(), Arc::clone(kind))).collect();
        Self { by_name }
    }
}

impl Types {
    /// The kind with this qualified name.
    pub fn get(&self, qualified: &str) -> Option<&Arc<ResourceType>> {
        self.by_name.get(qualified)
    }

    /// The kind at a path, with the index of its version.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<(&Arc<ResourceType>, usize)> {
        let qualified = if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") };
        let found = self.by_name.get(&qualified)?;
        Some((found, found.served(version)?))
    }

    /// The kind of this name in a group.
    pub fn of_kind(&self, group: &str, kind: &str) -> Option<&Arc<ResourceType>> {
        self.by_name.values().find(|found| found.group == group && found.kind == kind)
    }

    /// Serves a kind from now on, in place of any of its name.
    pub fn register(&mut self, kind: ResourceType) -> Arc<ResourceType> {
        let kind = Arc::new(kind);
        self.by_name.insert(kind.qualified(), Arc::clone(&kind));
        kind
    }

    /// Serves a kind no longer.
    pub fn remove(&mut self, qualified: &str) {
        if self.by_name.get(qualified).is_some_and(|kind| kind.custom) {
            self.by_name.remove(qualified);
        }
    }

    /// Every kind, by name.
    pub fn all(&self) -> impl Iterator<Item = &Arc<ResourceType>> {
        self.by_name.values()
    }
}

/// A field path like `.spec.replicas` as a JSON pointer.
pub fn pointer_of(path: &str) -> String {
    path.replace('.', "/")
}

/// The `status` part of a CustomResourceDefinition once it is served.
pub fn established(definition: &Value, now: &str) -> Value {
    let condition = |kind: &str, reason: &str, message: &str| json!({"type": kind, "status": "True", "lastTransitionTime": now, "reason": reason, "message": message});
    let stored: Vec<&str> = json::list(definition, "/spec/versions")
        .iter()
        .filter(|version| json::flag(version, "/storage"))
        .map(|version| json::text(version, "/name"))
        .collect();
    let previous = definition.pointer("/status/conditions").filter(|list| list.as_array().is_some_and(|list| !list.is_empty()));
    let conditions = previous.cloned().unwrap_or_else(|| {
        json!([
            condition("NamesAccepted", "NoConflicts", "no conflicts found"),
            condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        ])
    });
    json!({
        "conditions": conditions,
        "acceptedNames": definition.pointer("/spec/names").cloned().unwrap_or_default(),
        "storedVersions": stored,
    })
}
