//! Traces of a few lines, written by the tests themselves.

mod faults;
mod plots;
mod policies;
mod trace;
