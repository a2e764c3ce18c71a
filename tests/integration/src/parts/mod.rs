//! Real parts: Postgres, Kafka, Kubernetes, Prometheus, git over HTTP and ssh. Who calls says where their programs are.

mod certificate;
pub mod git;
pub mod kafka;
pub mod kubernetes;
pub mod postgres;
pub mod prometheus;
pub mod ssh;
pub mod volcano;

use anyhow::Result;

use crate::process::{Leash, Process, Program};

/// A program that can be killed and started again with the same words, on the same ports.
#[derive(Debug)]
pub struct Part {
    program: Program,
    leash: Leash,
    process: Process,
}

impl Part {
    /// Starts it.
    ///
    /// # Errors
    /// It can't be started.
    pub fn start(program: Program, leash: &Leash) -> Result<Self> {
        let process = program.start(leash)?;
        Ok(Self { program, leash: leash.clone(), process })
    }

    /// Its process now.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Starts it again after it has ended.
    ///
    /// # Errors
    /// It can't be started.
    pub fn start_again(&mut self) -> Result<()> {
        self.process = self.program.start(&self.leash)?;
        Ok(())
    }
}
