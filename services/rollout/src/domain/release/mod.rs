//! Releases: one commit on its way through the waves, as a pure state machine.
//!
//! [`step`] looks at a release, its targets and what is observed, and either says what it waits for or which changes come
//! next; [`View::apply`] makes a change. Whoever holds the rows applies the changes and stores the result; applying them
//! and asking again at the same instant ends in a wait.

mod change;
mod classify;
mod gate;
mod model;
mod step;
mod wave;

pub use change::Change;
pub use classify::{Arrival, TargetArrival, classify};
pub use gate::{Reading, judge};
pub use model::{
    Availability, Lane, Measurement, Observation, ObservedPhase, Release, ReleaseState, Target, TargetPhase, Verdict, View,
};
pub use step::{Outcome, step};
pub use wave::assign_waves;

#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod tests;
