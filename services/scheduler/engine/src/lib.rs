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
mod egress;
mod engine;
mod estimate;
mod event;
mod explain;
mod fold;
mod forecast;
mod freeing;
mod groups;
mod grow;
mod holding;
mod interrupt;
mod jobs;
mod lanes;
mod learned;
mod memo;
mod mix;
mod moving;
mod nodes;
mod overdue;
mod parts;
mod plan;
mod prefer;
mod promise;
mod queues;
mod ranking;
mod reason;
mod reclaim;
mod refusal;
mod regions;
mod restore;
mod rows;
mod shrink;
mod size;
mod smaller;
mod span;
mod spec;
mod surplus;
mod thought;
mod typical;
mod vector;
mod waiting;

pub use amounts::{Amounts, CPU, MEMORY, is_gpu, is_on_gpu, part_of_gpu, show};
pub use class::{MAX_GROUPS, MAX_WORKERS, check};
pub use egress::Moving;
pub use engine::{Engine, Stats};
pub use estimate::{Finished, histories};
pub use event::{
    BoundNode, Cause, ClusterState, Decision, Epoch, Event, Interruption, JobId, Placement, Refused, Resize, RunEnd, SizeChange,
    Slot, Time,
};
pub use forecast::{Forecast, Outlook, Start};
pub use learned::ModelRuns;
pub use prefer::{By, ModelVerdict, Preference, SpeedFrom, WorkPrice};
pub use queues::MAX_DEPTH;
pub use reason::{Apart, ClusterVerdict, Explanation, Gap, Hold, QueueShare, Reason, Standing, Threshold, show_budget};
pub use regions::SpanVerdict;
pub use rows::{Audit, GrowthRefused, HistoryRow, JobRow, JobState, MixRow, Promised, Remaining, Resized, Rows};
pub use smaller::{SizeVerdict, Smaller};
pub use span::{MOST_PARTS, Part, PartRow, Span};
pub use spec::{
    Budget, BudgetLimit, BudgetUnit, ClusterSpec, Dataset, Elastic, Gang, JobSpec, NodeSpec, Prefers, QueueSpec, Tier, TierOpens,
    Topology, TopologyMode, WorkerGroup,
};
