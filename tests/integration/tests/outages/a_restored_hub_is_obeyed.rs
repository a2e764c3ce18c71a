//! A hub whose database is an older one again is obeyed by agents that remember more, and harms nothing.

use anyhow::Result;
use muster_integration_tests::platform::Service;
use muster_proto::scheduler::v1 as scheduler;
use scheduler::job::State;

use crate::{ALONE, common};

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_hub_is_obeyed() -> Result<()> {
    let _alone = ALONE.lock().await;
    let mut platform = common::training_platform().await?;
    let clients = platform.clients()?;
    common::submit(&clients, &common::job("before", "endless", 1, 8)).await?;
    common::job_is(&clients, "before", State::Running).await?;

    platform.replica(Service::Registry).process().stop()?;
    platform.databases().back_up(Service::Registry).await?;
    platform.start_again(Service::Registry).await?;
    common::live(&platform, "train").await?;
    // The agent is told things that the backup knows nothing of.
    common::submit(&clients, &common::job("between", "endless", 1, 8)).await?;
    common::job_is(&clients, "between", State::Running).await?;

    platform.replica(Service::Registry).process().stop()?;
    platform.databases().restore(Service::Registry).await?;
    platform.start_again(Service::Registry).await?;
    common::live(&platform, "train").await?;

    common::submit(&clients, &common::job("after", "short", 1, 8)).await?;
    common::job_is(&clients, "after", State::Succeeded).await?;
    for name in ["before", "between"] {
        let job = common::job_is(&clients, name, State::Running).await?;
        assert_eq!(job.run_epoch, 1, "{name} was started anew");
    }
    let pods = common::pods_by_run(&platform, "train")?;
    assert!(pods.values().all(|count| *count == 1), "a run was started twice: {pods:?}");
    let removed = platform.cluster("train")?.audit.writes()?;
    let removed: Vec<_> = removed.iter().filter(|write| write.removed && write.resource == "pods").collect();
    assert!(removed.is_empty(), "a pod was removed: {removed:?}");
    Ok(())
}
