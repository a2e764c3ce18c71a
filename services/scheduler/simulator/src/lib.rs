//! A workload, played in virtual time to the engine that the scheduler service runs, and to the policies it is compared with.
//!
//! The one thing to know: the engine is told what the service would tell it, submissions, ends and the time, and never how
//! long a job takes. There is no clock and no randomness, so the same files give the same bytes.

pub mod baseline;
pub mod dice;
pub mod fault;
pub mod figures;
pub mod gavel;
pub mod kueue;
pub mod manifests;
pub mod openb;
pub mod overflow;
pub mod packing;
pub mod philly;
pub mod play;
pub mod plot;
mod pool;
pub mod rounds;
pub mod scale;
pub mod scenario;
pub mod simulate;
pub mod speed;
pub mod study;
mod table;
pub mod timeline;
mod tree;
pub mod workload;

pub use fault::Fault;
pub use study::{EqualWait, Study, Terms, Tried, equal_wait, silo_easy, study, worst_off};
pub use workload::{Job, Workload};
