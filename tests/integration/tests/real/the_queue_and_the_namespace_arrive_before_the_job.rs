//! What a job needs is there before it: the namespace and Volcano's queue, in the order of the cluster's own audit log.

use anyhow::{Context, Result, ensure};
use muster_integration_tests::main_job::documents;

use crate::{jobs, world};

#[test]
fn the_queue_and_the_namespace_arrive_before_the_job() -> Result<()> {
    world::play(async |world| {
        let scene = &world.scene;
        scene
            .apply("early-queue.yaml", "apiVersion: muster.dev/v1\nkind: Queue\nmetadata: {name: early}\nspec: {weight: 1}\n")
            .await?;
        let manifest = documents::job("first-of-all", "early", "v3", 1, 1).replace("namespace: ml", "namespace: early-lab");
        let file = scene.write("early.yaml", &manifest)?;
        scene.muster().succeed(&["submit", "-f", muster_integration_tests::main_job::scene::path(&file)?]).await?;
        let job = jobs::ended_well(scene, "early-lab/jobs/first-of-all").await?;
        let writes = scene.platform.cluster(job.cluster.trim_start_matches("clusters/"))?.audit.writes()?;
        let first = |resource: &str, name: &str| {
            let at = writes.iter().position(|write| write.resource == resource && write.name == name);
            at.with_context(|| format!("{resource} {name} was never written"))
        };
        let namespace = first("namespaces", "early-lab")?;
        let queue = first("queues.scheduling.volcano.sh", "early")?;
        let job = first("jobs.batch.volcano.sh", "first-of-all")?;
        ensure!(namespace < job && queue < job, "namespace {namespace}, queue {queue}, job {job}");
        Ok(())
    })
}
