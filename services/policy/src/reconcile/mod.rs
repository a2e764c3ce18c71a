//! The loops: who leads, clusters and fleets as the registry has them, git sources, ramps, distribution and its
//! verification, reports, and what is shown of these.
//!
//! Only the leading replica writes here. Each pass can be driven by hand.

pub mod clusters;
pub mod compliance;
pub mod distribute;
pub mod fleets;
pub mod leader;
pub mod ramps;
pub mod reports;
pub mod sources;
pub mod verify;

pub use clusters::Clusters;
pub use compliance::Compliance;
pub use distribute::Distribute;
pub use fleets::Fleets;
pub use leader::Leader;
pub use ramps::Ramps;
pub use reports::Reports;
pub use sources::Sources;
pub use verify::Verify;
