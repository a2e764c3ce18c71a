//! Traces of a few lines, written by the tests themselves.

mod faults;
mod policies;
mod trace;
