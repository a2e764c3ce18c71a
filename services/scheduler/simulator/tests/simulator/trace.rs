//! Small files in a folder that goes away with the test.

use std::fmt::Write;
use std::path::PathBuf;

use muster_scheduler_simulator::philly::{self, Window};
use muster_scheduler_simulator::{Fault, Workload};
use tempfile::TempDir;

pub struct Trace {
    folder: TempDir,
}

impl Trace {
    /// A trace whose lines behind the titles are these.
    pub fn new(lines: &str) -> Self {
        Self::raw(&format!("timestamp,duration,num_gpus,gpu_time,cluster\n{lines}"))
    }

    /// A trace with exactly this text.
    pub fn raw(text: &str) -> Self {
        let trace = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::write(trace.path(), text).unwrap();
        trace
    }

    /// Jobs (minute of submission, seconds, GPUs, queue) on 2017-10-01.
    pub fn of_jobs(jobs: &[(u32, u32, u32, &str)]) -> Self {
        let mut lines = String::new();
        for (minute, seconds, gpus, queue) in jobs {
            let (hour, minute) = (minute / 60, minute % 60);
            writeln!(lines, "2017-10-01 {hour:02}:{minute:02}:00,{seconds}.0,{gpus},0.0,{queue}").unwrap();
        }
        Self::new(&lines)
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("trace.csv")
    }

    pub fn with_queues(&self, text: &str) -> PathBuf {
        let path = self.folder.path().join("queues.csv");
        std::fs::write(&path, text).unwrap();
        path
    }

    pub fn read(&self) -> Result<Workload, Fault> {
        philly::read(&self.path(), None, Window::default())
    }

    /// The message of the fault, with the file's name without its folder.
    pub fn complaint(&self, fault: &Fault) -> String {
        fault.to_string().replace(&format!("{}/", self.folder.path().display()), "")
    }
}
