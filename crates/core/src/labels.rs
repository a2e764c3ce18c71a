//! The labels and annotations Muster writes on objects in member clusters, in one place.

/// Which service owns the object: `scheduler`, `rollout`, `policy` or `fleet`.
pub const OWNER: &str = "muster.dev/owner";
/// Annotation: the item the object belongs to, as `owner/item-name`.
pub const ITEM: &str = "muster.dev/item";
/// The run a pod belongs to, as `namespace.job.epoch`.
pub const RUN: &str = "muster.dev/run";
/// The epoch of the run a pod belongs to; results count only from the current one.
pub const RUN_EPOCH: &str = "muster.dev/run-epoch";
/// Which part of its run an object or a pod is, from 0, of a job that may span clusters.
pub const PART: &str = "muster.dev/part";
/// Annotation: how many parts that run has, each in a cluster of its own.
pub const PARTS: &str = "muster.dev/parts";
/// Annotation: workers of all parts of that run.
pub const WORKERS: &str = "muster.dev/workers";
/// The queue a job was charged to.
pub const QUEUE: &str = "muster.dev/queue";
/// The revision of a workload copy: a hash of its pod template and the configuration it names.
pub const REVISION: &str = "muster.dev/revision";
/// Annotation of an exception from policies: who answers for it.
pub const EXCEPTION_OWNER: &str = "muster.dev/exception-owner";
/// Annotation of an exception from policies: when it ends, as in `2027-01-31T00:00:00Z` (RFC 3339).
pub const EXCEPTION_ENDS: &str = "muster.dev/exception-ends";
/// Annotation: the `traceparent` of the request that caused the object.
pub const TRACEPARENT: &str = "muster.dev/traceparent";
/// The label traffic rules tell versions apart by.
pub const VERSION: &str = "version";
/// Kubernetes' name of one NVIDIA GPU as an extended resource.
pub const GPU_RESOURCE: &str = "nvidia.com/gpu";
/// The node label that names the GPU model (NVIDIA GPU feature discovery).
pub const GPU_PRODUCT: &str = "nvidia.com/gpu.product";
/// The node label with the node's own name.
pub const HOSTNAME: &str = "kubernetes.io/hostname";
/// The environment variable in which a pod finds its run epoch.
pub const RUN_EPOCH_ENV: &str = "MUSTER_RUN_EPOCH";
/// The environment variable in which a pod finds which part of its run it is in, from 0, of a job that may span clusters.
pub const PART_ENV: &str = "MUSTER_PART";
/// How many parts that run has.
pub const PARTS_ENV: &str = "MUSTER_PARTS";
/// How many workers of the pod's group that run has in all parts.
pub const WORKERS_ENV: &str = "MUSTER_WORKERS";
/// How many of these are in the parts before: its own number within its part is counted from there.
pub const FIRST_WORKER_ENV: &str = "MUSTER_FIRST_WORKER";

/// One of these words in its key makes a node label one that says where the node stands.
const WHERE: [&str; 15] = [
    "topology",
    "region",
    "zone",
    "datacenter",
    "room",
    "row",
    "block",
    "rack",
    "switch",
    "leaf",
    "spine",
    "nvlink",
    "clique",
    "domain",
    "slice",
];

/// Whether a node label says where its node stands, so that workers may be asked to stand together in one of its values:
/// `topology.kubernetes.io/zone`, `cloud.provider.com/topology-rack`, `nvidia.com/gpu.clique`.
#[must_use]
pub fn says_where(key: &str) -> bool {
    has_word(key, |word| WHERE.contains(&word))
}

/// Whether a node label says which rack its node stands in.
#[must_use]
pub fn says_rack(key: &str) -> bool {
    has_word(key, |word| word == "rack")
}

fn has_word(key: &str, is: impl Fn(&str) -> bool) -> bool {
    key.split(['/', '.', '-', '_']).any(is)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_say_where_a_node_stands_are_told_by_their_words() {
        for key in ["topology.kubernetes.io/zone", "cloud.provider.com/topology-rack", "nvidia.com/gpu.clique", "example.com/row"]
        {
            assert!(says_where(key), "{key}");
        }
        for key in [HOSTNAME, GPU_PRODUCT, "kubernetes.io/arch", "example.com/tracks"] {
            assert!(!says_where(key), "{key}");
        }
        assert!(
            says_rack("cloud.provider.com/topology-rack") && says_rack("example.com/rack") && !says_rack("example.com/tracks")
        );
    }
}
