//! How far the workers of a gang may be apart, and what there is to say of one that is split: plain values.

use crate::event::{BoundNode, Slot};

/// At most so many clusters for one gang: each of them has to start its part before any worker gets anything done.
pub const MOST_PARTS: usize = 8;

/// How far the workers of a gang may be apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Span {
    /// All of them are on one cluster.
    #[default]
    Cluster,
    /// On one cluster if one has room for all of them, else on up to [`MOST_PARTS`] clusters of one region and one tier, all on one GPU
    /// model. A cluster of which the region is not known stands in none.
    Region,
}

impl Span {
    /// What has to hold all workers, in words.
    pub(crate) fn whole(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Region => "cluster or region",
        }
    }
}

/// What a gang that is split has on one cluster more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Which cluster. Each is there once.
    pub cluster: String,
    /// Price of one GPU-hour there at the moment of the decision, in millionths; `None` if there is none for it.
    pub price_micros: Option<i64>,
    /// What moving the gang's dataset there costs, once, in millionths; 0 if it has none, if it is there, or if nobody says.
    pub egress_micros: i64,
    /// GPUs of the workers there, parts rounded up to whole ones.
    pub gpus: i64,
    /// The plan down to nodes.
    pub slots: Vec<Slot>,
}

/// What a run that is split has on one cluster more, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartRow {
    /// Which cluster.
    pub cluster: String,
    /// The plan.
    pub slots: Vec<Slot>,
    /// Where its pods are, once all those of this cluster are bound.
    pub bound: Option<Vec<BoundNode>>,
}
