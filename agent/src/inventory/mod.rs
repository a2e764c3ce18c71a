//! What the cluster has, node by node: allocatable, used by others, used by each run of ours; and what enforces policies in it.
//!
//! Free on a node = allocatable − used by others − what Muster placed there. So whatever is not a run of a job counts as
//! "others", also the serving workloads that Muster itself applied: the scheduler has not placed them.

mod follow;
mod policy_kinds;
mod preflight;
mod usage;

pub use follow::{Feed, follow};
pub use policy_kinds::PolicyKinds;
pub use preflight::{ClockOffsets, Preflight, preflight};
pub use usage::{Inventory, Node, RunUsage, take};
