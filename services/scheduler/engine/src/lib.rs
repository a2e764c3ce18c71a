//! The scheduling engine: decides which gang goes to which cluster and, down to nodes, where.
//!
//! One writer over plain state, fed by [`Event`]s. [`Engine::apply`] folds a fact, [`Engine::plan`] decides everything
//! that can be decided now and takes its own decisions into its state, so that a second plan is empty. There is no I/O,
//! no clock and no randomness: the same facts in the same order give the same decisions. What must survive a restart is
//! in [`Rows`], and an engine restored from them decides as the one that wrote them would have.
//!
//! See the README beside this crate for the order of decisions, the formulas and their sources.

mod amounts;
mod class;
mod cluster;
mod engine;
mod estimate;
mod event;
mod explain;
mod fold;
mod groups;
mod interrupt;
mod jobs;
mod lanes;
mod memo;
mod nodes;
mod overdue;
mod plan;
mod promise;
mod queues;
mod ranking;
mod reason;
mod reclaim;
mod rows;
mod thought;
mod waiting;

pub use amounts::{Amounts, CPU, MEMORY, is_gpu, show};
pub use class::{MAX_GROUPS, MAX_WORKERS, check};
pub use engine::{Engine, Stats};
pub use estimate::{Finished, histories};
pub use event::{
    BoundNode, Budget, BudgetLimit, BudgetUnit, Cause, ClusterSpec, ClusterState, Decision, Epoch, Event, Gang, Interruption,
    JobId, JobSpec, NodeSpec, Placement, QueueSpec, Refused, RunEnd, Slot, Tier, TierOpens, Time, WorkerGroup,
};
pub use queues::MAX_DEPTH;
pub use reason::{ClusterVerdict, Explanation, Gap, Hold, Reason, Standing, show_budget};
pub use rows::{Audit, HistoryRow, JobRow, JobState, Promised, Remaining, Rows};
