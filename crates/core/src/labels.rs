//! The labels and annotations Muster writes on objects in member clusters, in one place.

/// Which service owns the object: `scheduler`, `rollout`, `policy` or `fleet`.
pub const OWNER: &str = "muster.dev/owner";
/// Annotation: the item the object belongs to, as `owner/item-name`.
pub const ITEM: &str = "muster.dev/item";
/// The run a pod belongs to, as `namespace.job.epoch`.
pub const RUN: &str = "muster.dev/run";
/// The epoch of the run a pod belongs to; results count only from the current one.
pub const RUN_EPOCH: &str = "muster.dev/run-epoch";
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
/// The environment variable in which a pod finds its run epoch.
pub const RUN_EPOCH_ENV: &str = "MUSTER_RUN_EPOCH";
