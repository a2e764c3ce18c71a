//! From what the domain refuses to what a caller is told.

use muster_kit::Error;

use crate::domain::Fault;

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self::invalid(fault.field, fault.why)
    }
}
