//! Two processes of every service, one of each killed in the middle: every job runs, and none twice.

use anyhow::Result;
use muster_integration_tests::clients::{Addresses, Clients};
use muster_integration_tests::platform::Service;
use muster_proto::scheduler::v1 as scheduler;
use scheduler::job::State;

use crate::{ALONE, common};

const JOBS: u32 = 12;

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_agree() -> Result<()> {
    let _alone = ALONE.lock().await;
    let mut platform = common::training_platform().await?;
    let second = Addresses {
        registry: platform.add_replica(Service::Registry).await?,
        scheduler: platform.add_replica(Service::Scheduler).await?,
        rollout: platform.add_replica(Service::Rollout).await?,
        policy: platform.add_replica(Service::Policy).await?,
    };
    let token = std::fs::read_to_string(platform.token_file())?;
    let second = Clients::new(&second, &platform.pki().ca(), Some(token.trim()))?;
    let first = platform.clients()?;
    for number in 0..JOBS {
        let through = if number % 2 == 0 { &first } else { &second };
        common::submit(through, &common::job(&format!("job-{number}"), "short", 2, 4)).await?;
        if number == JOBS / 2 {
            // The ones that have led so far; the others take over.
            platform.crash(Service::Scheduler)?;
            platform.crash(Service::Policy)?;
            platform.start_again(Service::Policy).await?;
            platform.start_again(Service::Scheduler).await?;
        }
    }
    platform.crash(Service::Registry)?;
    platform.start_again(Service::Registry).await?;
    for number in 0..JOBS {
        let name = format!("job-{number}");
        let one = common::job_is(&first, &name, State::Succeeded).await?;
        let other = common::job_is(&second, &name, State::Succeeded).await?;
        assert_eq!((one.run_epoch, &one.cluster), (other.run_epoch, &other.cluster));
    }
    let pods = common::pods_by_run(&platform, "train")?;
    assert_eq!(pods.len(), JOBS as usize, "{pods:?}");
    assert!(pods.values().all(|count| *count == 2), "a run was started twice: {pods:?}");
    Ok(())
}
