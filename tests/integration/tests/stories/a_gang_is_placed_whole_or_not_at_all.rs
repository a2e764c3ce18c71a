//! A gang that doesn't fit as it stands waits whole, and starts whole when there is room.

use anyhow::Result;
use muster_proto::scheduler::v1 as scheduler;
use scheduler::job::State;

use crate::common;

#[tokio::test(flavor = "multi_thread")]
async fn a_gang_is_placed_whole_or_not_at_all() -> Result<()> {
    let platform = common::training_platform().await?;
    let clients = platform.clients()?;
    // Two of four nodes are taken; the gang needs three.
    common::submit(&clients, &common::job("first", "endless", 2, 8)).await?;
    common::job_is(&clients, "first", State::Running).await?;
    common::submit(&clients, &common::job("gang", "short", 3, 8)).await?;
    let waiting = common::job_is(&clients, "gang", State::Queued).await?;
    assert_eq!(waiting.cluster, "");

    let cancel = scheduler::CancelJobRequest { name: "namespaces/ml/jobs/first".to_owned(), ..Default::default() };
    clients.jobs().cancel_job(cancel).await?;
    common::job_is(&clients, "gang", State::Succeeded).await?;
    let pods = common::pods_by_run(&platform, "train")?;
    assert_eq!(pods.get("ml.gang.1"), Some(&3));
    Ok(())
}
