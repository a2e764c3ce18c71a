//! What the stories, the demo and the benchmark share: a whole Muster on one machine.
//!
//! The one thing to know: every process it starts is on a leash ([`process`]), so that nothing outlives
//! the test or command that started it, however that ends.

pub mod process;
