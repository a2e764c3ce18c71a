//! A `batch/v1` Job, submitted to Muster, is run by Kubernetes' own Job controller and scheduler; its usage is what the Job's
//! own status says.

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;

use crate::{jobs, world};

#[test]
fn a_batch_job_runs_under_the_real_controllers() -> Result<()> {
    world::play(async |world| {
        let scene = &world.scene;
        jobs::submit(scene, &jobs::batch("lab", "sums", "short"), &[]).await?;
        let job = jobs::ended_well(scene, "lab/jobs/sums").await?;
        let cluster = scene.platform.cluster(job.cluster.trim_start_matches("clusters/"))?;
        let live = cluster.api.find("/apis/batch/v1/namespaces/lab/jobs/sums").await?.context("the Job is in its cluster")?;
        ensure!(live["status"]["succeeded"] == 1, "the Job controller says {}", live["status"]);
        let time = |field: &str| {
            live["status"][field].as_str().and_then(|text| text.parse::<Timestamp>().ok()).context(field.to_owned())
        };
        let ran = time("completionTime")?.duration_since(time("startTime")?).as_secs_f64();
        let usage = job.usage.context("the job has no usage")?;
        ensure!(
            (usage.gpu_seconds - ran).abs() < 1e-3,
            "{} GPU-seconds were charged, it ran {ran} s on one GPU",
            usage.gpu_seconds
        );
        Ok(())
    })
}

#[test]
fn a_batch_job_that_fails_says_its_exit_code() -> Result<()> {
    world::play(async |world| {
        let scene = &world.scene;
        jobs::submit(scene, &jobs::batch("lab", "breaks", "fails"), &[]).await?;
        let failed = |job: &muster_proto::scheduler::v1::Job| job.state() == muster_proto::scheduler::v1::job::State::Failed;
        let job = jobs::until(scene, "lab/jobs/breaks", "has failed", failed).await?;
        ensure!(job.reason.contains("exit code 7"), "the reason is {:?}", job.reason);
        Ok(())
    })
}
