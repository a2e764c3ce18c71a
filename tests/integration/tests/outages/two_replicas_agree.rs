//! Two processes of every service, one of each killed in the middle: every job runs, and none twice; a release goes out;
//! and watches through either tell the same.

use anyhow::Result;
use muster_integration_tests::clients::{Addresses, Clients};
use muster_integration_tests::patience::look;
use muster_integration_tests::platform::Service;
use muster_integration_tests::repository::Repository;
use muster_integration_tests::{Platform, eventually};
use muster_proto::rollout::v1 as rollout;
use muster_proto::scheduler::v1 as scheduler;
use scheduler::job::State;
use serde_json::json;

use crate::common::release::{self, APPLICATION, server, tree};
use crate::watches::{Watches, common_part};
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
    // One begins where processes will be killed, and goes on elsewhere; the other is never cut off.
    let watches = [Watches::begin(&[first.clone(), second.clone()]), Watches::begin(std::slice::from_ref(&second))];

    jobs_run_once(&mut platform, &first, &second).await?;
    a_release_goes_out_once(&mut platform, &first, &second).await?;

    eventually("both watches have seen the same", async || {
        let (one, other) = common_part(&watches[0].seen(), &watches[1].seen());
        let differing = || {
            let names = one.keys().chain(other.keys()).filter(|name| one.get(*name) != other.get(*name));
            names.map(|name| format!("{name}: {:?} and {:?}", one.get(name), other.get(name))).collect::<Vec<_>>().join("\n")
        };
        Ok(look(one == other, (), differing))
    })
    .await?;
    let seen = watches[0].seen();
    for versions in seen.values() {
        assert!(versions.is_sorted(), "versions go up: {seen:?}");
    }
    for name in ["clusters/train", "namespaces/ml/jobs/job-0", APPLICATION, &format!("{APPLICATION}/releases/r2-")] {
        assert!(seen.keys().any(|known| known.starts_with(name)), "{name} was not told of: {:?}", seen.keys());
    }
    Ok(())
}

async fn jobs_run_once(platform: &mut Platform, first: &Clients, second: &Clients) -> Result<()> {
    for number in 0..JOBS {
        let through = if number % 2 == 0 { first } else { second };
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
        let one = common::job_is(first, &name, State::Succeeded).await?;
        let other = common::job_is(second, &name, State::Succeeded).await?;
        assert_eq!((one.run_epoch, &one.cluster), (other.run_epoch, &other.cluster));
    }
    let pods = common::pods_by_run(platform, "train")?;
    assert_eq!(pods.len(), JOBS as usize, "{pods:?}");
    assert!(pods.values().all(|count| *count == 2), "a run was started twice: {pods:?}");
    Ok(())
}

/// The rollout service's leader is killed while a release soaks: the other takes the release on.
async fn a_release_goes_out_once(platform: &mut Platform, first: &Clients, second: &Clients) -> Result<()> {
    let repository = Repository::create(&platform.folder().join("git"), &tree("one")).await?;
    release::apply(first, &repository, &["train"], json!({"minSuccessTime": "3s"})).await?;
    release::runs(platform, "train", "one").await?;
    release_is(second, 1, rollout::release::State::Completed).await?;
    let commit = repository.commit("Two", &[server("two")]).await?;
    release_is(second, 2, rollout::release::State::Progressing).await?;
    platform.crash(Service::Rollout)?;
    let completed = release_is(second, 2, rollout::release::State::Completed).await?;
    platform.start_again(Service::Rollout).await?;
    release::runs(platform, "train", "two").await?;
    assert_eq!(completed.commit, commit);
    let (one, other) = (releases(first).await?, releases(second).await?);
    assert_eq!(one, other, "the replicas list different releases");
    assert_eq!(one.len(), 2, "a commit was released twice");
    Ok(())
}

/// Newest first.
async fn releases(clients: &Clients) -> Result<Vec<rollout::Release>> {
    let request = rollout::ListReleasesRequest { parent: APPLICATION.to_owned(), ..Default::default() };
    Ok(clients.releases().list_releases(request).await?.into_inner().releases)
}

/// Returns when the application's release of this number is in a state.
async fn release_is(clients: &Clients, number: usize, state: rollout::release::State) -> Result<rollout::Release> {
    eventually(&format!("release {number} is {state:?}"), async || {
        let mut found = releases(clients).await?;
        found.reverse();
        let release = found.get(number - 1).cloned().unwrap_or_default();
        Ok(look(release.state() == state, release, || format!("{found:?}")))
    })
    .await
}
