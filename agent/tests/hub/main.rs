//! The agent and the real registry, in one process, over the real wire: enrolment, desired and observed state, questions,
//! an outage, a restored hub, renewal, leaving.

mod registry;
mod stories;
