//! Traces of a few lines, written by the tests themselves.

mod faults;
mod formats;
mod openb;
mod plots;
mod policies;
mod spanning;
mod trace;
mod wishes;
