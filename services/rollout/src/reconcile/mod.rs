//! Loops without input: what is in the rows decides what comes next. Every one can be driven by hand with `tick`.

pub mod advance;
pub mod decide;
pub mod dispatch;
pub mod fleets;
pub mod leader;
pub mod leave;
pub mod measure;
mod pass;
pub mod releases;
pub mod sources;
pub mod tidy;
pub mod verdict;
pub mod verify;
pub mod write;
