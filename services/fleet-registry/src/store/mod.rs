//! Rows in and out. Row types stay here; what leaves is the domain's.

pub mod bundle;
pub mod cluster;
pub mod desired;
pub mod fleet;
pub mod observation;
pub mod question;
pub mod token;
pub mod verdict;
