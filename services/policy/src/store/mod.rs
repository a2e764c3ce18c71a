//! The service's tables. Rows are private to each file; what leaves is the domain's or a plain record.

pub mod bound;
pub mod catalog;
pub mod compliance;
pub mod distribution;
pub mod fleet_policy;
pub mod installation;
pub mod policy;
pub mod projection;
pub mod ramp;
pub mod report;

pub use bound::{BoundRecord, GitSource};
pub use fleet_policy::FleetPolicyRecord;
pub use policy::PolicyRecord;
pub use ramp::RampRecord;
