//! What moving a job's dataset costs: once for each run, whose work it is spread over where places are compared, so that a
//! cheaper hour elsewhere counts only as far as it saves more than that.

use std::fmt;

use crate::amounts::{MEMORY, show};
use crate::class::Class;
use crate::cluster::Cluster;
use crate::spec::{ClusterSpec, Dataset};

/// Milliseconds of an hour, for which prices are.
pub(crate) const HOUR_MS: i128 = 3_600_000;

/// A dataset that would have to be moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moving {
    /// The region it is in.
    pub from: String,
    /// How large it is.
    pub bytes: i64,
    /// What moving it costs, in millionths; `None`: nobody says.
    pub micros: Option<i64>,
}

impl fmt::Display for Moving {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, bytes, micros } = self;
        let size = show(MEMORY, *bytes);
        match micros {
            Some(micros) => {
                let (whole, hundredths) = (micros / 1_000_000, micros % 1_000_000 / 10_000);
                write!(out, "moving {size} out of {from} costs {whole}.{hundredths:02}")
            }
            None => write!(out, "moving {size} out of {from} has no price"),
        }
    }
}

impl Dataset {
    /// What moving it costs at a price of a GiB in millionths, rounded up.
    fn micros(&self, per_gib: i64) -> i64 {
        let micros = (i128::from(self.bytes) * i128::from(per_gib)).div_euclid(i128::from(Self::GIB));
        let rest = (i128::from(self.bytes) * i128::from(per_gib)).rem_euclid(i128::from(Self::GIB));
        i64::try_from(micros + i128::from(rest > 0)).unwrap_or(i64::MAX)
    }
}

impl Cluster {
    /// What moving the dataset of a class to the cluster costs, in millionths; 0 if it has none or is there; `None`: nobody says.
    pub(crate) fn egress(&self, class: &Class) -> Option<i64> {
        self.moving(class).map_or(Some(0), |moving| moving.micros)
    }

    /// The dataset that would have to be moved to the cluster.
    pub(crate) fn moving(&self, class: &Class) -> Option<Moving> {
        let dataset = class.gang.dataset.as_ref().filter(|dataset| dataset.region != self.spec.region)?;
        let ClusterSpec { egress, .. } = &self.spec;
        let per_gib = egress.get(&dataset.region).or_else(|| egress.get(ClusterSpec::ANY_REGION));
        let micros = per_gib.map(|per_gib| dataset.micros(*per_gib));
        Some(Moving { from: dataset.region.clone(), bytes: dataset.bytes, micros })
    }
}

/// What it adds to the price of an hour's work on one GPU of a gang that is expected to be of so much work.
pub(crate) fn of_an_hour(egress: i64, lasts_ms: i64, gpus: i64) -> i64 {
    if egress == 0 {
        return 0;
    }
    let spread = i128::from(lasts_ms.max(1)) * i128::from(gpus.max(1));
    i64::try_from(i128::from(egress) * HOUR_MS / spread).unwrap_or(i64::MAX)
}
