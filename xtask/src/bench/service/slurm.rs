//! The same jobs through the running service and through Slurm's controller, one after the other on this machine.
//!
//! The one thing to know: both only allocate. Slurm's nodes are such as a cloud would start, and none does; what it is told to do is
//! written down by it, and no node hears of it. A job has one of a node's eight CPUs there, which spares Slurm the accounting of
//! generic resources, and all of them are one array, which is one call. Here each is a call, durable before it is answered, and
//! counts when its agent has it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use muster_integration_tests::platform::Ports;
use muster_integration_tests::process::{Leash, Process, Program, printed};
use nix::unistd::{User, getuid};
use serde_json::json;
use tempfile::TempDir;
use tokio::process::Command;

use super::fleet::{self, Nodes};
use super::load;
use super::load_of_the_machine;
use super::parts::Parts;
use crate::setup::debian;

const JOBS: u32 = 8_000;
const NODES: u32 = 1_000;
const EACH: u32 = 8;
const UP_WITHIN: Duration = Duration::from_secs(60);
const ENDS_WITHIN: Duration = Duration::from_secs(900);
/// Between two looks at what still waits: each takes the controller some time.
const LOOK: Duration = Duration::from_millis(500);

/// What Slurm's own guide to high throughput and its measurements at scale come to for this workload.
const TUNED: &str = "default_queue_depth=20000,partition_job_depth=0,max_sched_time=49,sched_interval=1,\
                     bf_max_job_test=20000,bf_interval=30";

/// Measures both and prints them side by side.
///
/// # Errors
/// A job is refused or not allocated in time, or Slurm can't be fetched or started.
pub async fn measure(parts: Parts) -> Result<()> {
    println!("\nS   {JOBS} one-GPU jobs on {NODES} nodes × {EACH}");
    println!("    load of the machine before: {}", load_of_the_machine()?);
    let ours = through_the_service(&parts).await?;
    // It shares the machine with nobody.
    drop(parts);
    let theirs = through_slurm().await?;
    let per_second = |took: Duration| f64::from(JOBS) / took.as_secs_f64();
    let (ours, theirs) = (per_second(ours), per_second(theirs));
    println!("    the service, each submitted, durable and leased: {ours:8.0} allocations/s");
    println!("    Slurm 22.05, tuned, one array:                   {theirs:8.0} allocations/s");
    println!("    ours ÷ Slurm's:                                  {:8.1}", ours / theirs);
    println!("    load of the machine after: {}", load_of_the_machine()?);
    Ok(())
}

async fn through_the_service(parts: &Parts) -> Result<Duration> {
    let nodes = Nodes { count: NODES, gpus: EACH, cpu: 96 };
    let members = fleet::join(parts, &["slurm".to_owned()], nodes, Arc::new(|_: &str| None)).await?;
    fleet::queue(parts, load::QUEUE, json!({"weight": 1})).await?;
    let began = Instant::now();
    load::submit(parts, JOBS, u32::MAX).await?;
    load::wait_for_leases(&members.seen, JOBS as usize).await?;
    Ok(began.elapsed())
}

async fn through_slurm() -> Result<Duration> {
    let slurm = Slurm::start(debian::slurm().await?).await?;
    let began = Instant::now();
    slurm.submit().await?;
    while slurm.any_waits().await? {
        if began.elapsed() > ENDS_WITHIN {
            bail!("Slurm has not allocated all jobs after {ENDS_WITHIN:?}: {}", slurm.controller.log_tail());
        }
        tokio::time::sleep(LOOK).await;
    }
    let took = began.elapsed();
    let allocated = slurm.says("squeue", &["--noheader", "--array", "--states=CF,R", "--format=%i"]).await?.lines().count();
    if allocated != JOBS as usize {
        bail!("Slurm has allocated {allocated} of {JOBS} jobs");
    }
    Ok(took)
}

/// A controller, for as long as this lives.
struct Slurm {
    controller: Process,
    programs: PathBuf,
    folder: TempDir,
}

impl Slurm {
    /// Starts one of the unpacked packages, and returns when it answers.
    async fn start(programs: PathBuf) -> Result<Self> {
        let folder = TempDir::with_prefix("muster-slurm-")?;
        fs::create_dir(folder.path().join("state"))?;
        let configuration = folder.path().join("slurm.conf");
        fs::write(&configuration, configured(&programs, folder.path())?)?;
        fs::write(folder.path().join("job.sh"), "#!/bin/sh\nsleep 86400\n")?;
        let controller = Program::new("slurmctld", programs.join("usr/sbin/slurmctld-wlm"))
            .argument("-D")
            .variable("SLURM_CONF", configuration.to_str().context("a folder that is no UTF-8")?)
            .variable("LD_LIBRARY_PATH", libraries(&programs))
            .log(folder.path().join("slurmctld.out"))
            .start(&Leash::this_program())?;
        let mut slurm = Self { controller, programs, folder };
        let began = Instant::now();
        while !slurm.says("scontrol", &["ping"]).await.is_ok_and(|said| said.contains("is UP")) {
            slurm.controller.expect_running()?;
            if began.elapsed() > UP_WITHIN {
                bail!("Slurm's controller does not answer: {}", slurm.controller.log_tail());
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(slurm)
    }

    async fn submit(&self) -> Result<()> {
        let array = format!("--array=0-{}", JOBS - 1);
        let words = [array.as_str(), "--nodes=1", "--ntasks=1", "--cpus-per-task=1", "--output=/dev/null", "job.sh"];
        self.says("sbatch", &words).await.map(drop)
    }

    /// Whether any job has no nodes yet. What waits of an array is one line.
    async fn any_waits(&self) -> Result<bool> {
        Ok(!self.says("squeue", &["--noheader", "--states=PENDING", "--format=%i"]).await?.trim().is_empty())
    }

    async fn says(&self, program: &str, words: &[&str]) -> Result<String> {
        let mut command = Command::new(self.programs.join("usr/bin").join(program));
        command
            .args(words)
            .current_dir(self.folder.path())
            .env("SLURM_CONF", self.folder.path().join("slurm.conf"))
            .env("LD_LIBRARY_PATH", libraries(&self.programs));
        printed(command, program).await
    }
}

fn plugins(programs: &Path) -> String {
    programs.join("usr/lib/x86_64-linux-gnu/slurm-wlm").display().to_string()
}

fn libraries(programs: &Path) -> String {
    format!("{}:{}", programs.join("usr/lib/x86_64-linux-gnu").display(), plugins(programs))
}

fn configured(programs: &Path, folder: &Path) -> Result<String> {
    let user = User::from_uid(getuid())?.context("a user without a name")?.name;
    let (controller, node) = (Ports::free()?, Ports::free()?);
    let (plugins, folder) = (plugins(programs), folder.display());
    Ok(format!(
        "ClusterName=bench
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={}
SlurmdPort={}
SlurmUser={user}
AuthType=auth/none
CredType=cred/none
PluginDir={plugins}
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmctldDebug=error
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters={TUNED}
MessageTimeout=100
MaxJobCount={}
MaxArraySize={}
PrivateData=cloud
ResumeProgram=/bin/true
SuspendProgram=/bin/true
SuspendTime=86400
ResumeTimeout=65535
NodeName=node[0-{}] CPUs={EACH} Sockets=1 CoresPerSocket={EACH} ThreadsPerCore=1 RealMemory=786432 State=CLOUD
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
",
        controller.http,
        node.http,
        2 * JOBS,
        JOBS + 1,
        NODES - 1
    ))
}
