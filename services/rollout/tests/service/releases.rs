//! Releases from the commit to the clusters, and back.

use crate::stage::{APPLICATION, GATE, Stage, component};
use muster_proto::rollout::v1::{
    self as wire,
    application::State as ApplicationState,
    release::{Revert, State},
    target_status::State as TargetState,
};
use std::collections::BTreeMap;
use wire::{application_service_server::ApplicationService as _, release_service_server::ReleaseService as _};

fn shares(pairs: &[(&str, i64)]) -> BTreeMap<String, i64> {
    pairs.iter().map(|(subset, weight)| ((*subset).to_owned(), *weight)).collect()
}

/// A stage on which v2 is completed everywhere.
pub async fn with_v2() -> Stage {
    completed_v2(Stage::new().await).await
}

async fn completed_v2(stage: Stage) -> Stage {
    for cluster in ["edge-1", "edge-2", "serve-online"] {
        stage.measure(cluster, "v2", 1.0);
    }
    stage.apply(GATE).await;
    stage.until(State::Completed).await;
    stage
}

#[tokio::test]
async fn the_first_deployment_reaches_every_target_and_the_application_is_healthy() {
    let stage = with_v2().await;
    for cluster in ["edge-1", "edge-2", "serve-online"] {
        assert_eq!(stage.images(cluster), ["registry.example.com/detector:v2"]);
    }
    assert_eq!(stage.weights("serve-online"), shares(&[("v2", 100), ("v3", 0)]));
    let application = stage.application().await;
    assert_eq!(application.state(), ApplicationState::Healthy, "{}", application.reason);
    assert_eq!(application.targets.len(), 3);
    let told = stage.world.with(|world| world.told.len());
    stage.seconds(10).await;
    assert_eq!(stage.world.with(|world| world.told.len()), told, "a second plan is empty");
}

#[tokio::test]
async fn a_good_version_goes_from_the_canary_over_ten_percent_to_everyone() {
    let stage = with_v2().await;
    stage.ship("v3");
    for cluster in ["edge-1", "edge-2", "serve-online"] {
        stage.measure(cluster, "v3", 0.999);
    }
    let mut seen: Vec<BTreeMap<String, i64>> = vec![stage.weights("serve-online")];
    let mut edge_2_followed = false;
    for _ in 0..60 {
        stage.seconds(1).await;
        let weights = stage.weights("serve-online");
        assert_eq!(weights.values().sum::<i64>(), 100, "at every instant");
        if seen.last() != Some(&weights) {
            seen.push(weights.clone());
        }
        let everything = weights == shares(&[("v2", 0), ("v3", 100)]);
        edge_2_followed |= stage.was_told("edge-2", ":v3");
        assert!(!edge_2_followed || everything, "every edge comes after all of the traffic");
    }
    assert_eq!(seen, [shares(&[("v2", 100), ("v3", 0)]), shares(&[("v2", 90), ("v3", 10)]), shares(&[("v2", 0), ("v3", 100)])]);
    let release = &stage.releases().await[0];
    assert_eq!(release.state(), State::Completed, "{}", release.reason);
    assert_eq!(stage.images("serve-online"), ["registry.example.com/detector:v3"], "the old copy left after keepStableFor");
    let waves: Vec<u32> = release.history.iter().filter(|one| one.state() == State::Progressing).map(|one| one.wave).collect();
    assert_eq!(waves, [1, 2, 3]);
    assert!(release.measurements.iter().all(|one| one.verdict() == wire::measurement::Verdict::Pass));
    assert_eq!(stage.releases().await.len(), 2);
}

#[tokio::test]
async fn a_bad_version_is_turned_back_at_the_canary_and_never_leaves_it() {
    let stage = with_v2().await;
    stage.ship("v3");
    stage.measure("edge-1", "v3", 0.5);
    let release = stage.until(State::Failed).await;
    assert!(release.reason.contains("gate failed"), "{}", release.reason);
    assert_eq!(release.targets.iter().find(|one| one.cluster == "clusters/edge-1").unwrap().state(), TargetState::RolledBack);
    for cluster in ["edge-2", "serve-online"] {
        assert!(!stage.was_told(cluster, ":v3"), "nothing of it ever reached {cluster}");
    }
    assert_eq!(stage.images("edge-1"), ["registry.example.com/detector:v2"]);
    stage.seconds(5).await;
    let release = &stage.releases().await[0];
    assert_eq!(release.revert(), Revert::Pushed, "{:?}", release.warnings);
    assert_eq!(stage.log()[0], "Revert \"serve v3\"");
    assert_eq!(stage.releases().await.len(), 2, "the revert renders to what runs, and is no release");
}

#[tokio::test]
async fn what_was_rolled_back_is_not_shipped_again_by_an_unrelated_commit_on_top() {
    let stage = with_v2().await;
    stage.ship("v3");
    stage.measure("edge-1", "v3", 0.5);
    stage.until(State::Failed).await;
    stage.seconds(5).await;
    stage.commit("again, with a note", &[("models/detector/kustomization.yaml", component("v3")), ("NOTES.md", "x\n".into())]);
    stage.seconds(10).await;
    assert_eq!(stage.releases().await.len(), 2);
    let application = stage.application().await;
    assert_eq!(application.state(), ApplicationState::Degraded);
    assert!(application.reason.contains("rolled back there"), "{}", application.reason);

    // A person may let it.
    stage.measure("edge-1", "v3", 1.0);
    stage.measure("serve-online", "v3", 1.0);
    stage.measure("edge-2", "v3", 1.0);
    let failed = stage.releases().await[0].name.clone();
    let request = wire::RetryReleaseRequest { name: failed, ..wire::RetryReleaseRequest::default() };
    stage.server.retry_release(stage.by_operator(request)).await.unwrap();
    stage.until(State::Completed).await;
    assert_eq!(stage.releases().await.len(), 3);
}

#[tokio::test]
async fn a_version_that_is_bad_only_under_ten_percent_is_turned_back_everywhere() {
    let stage = with_v2().await;
    stage.ship("v3");
    stage.measure("edge-1", "v3", 1.0);
    stage.measure("serve-online", "v3", 0.9);
    stage.until(State::Failed).await;
    assert_eq!(stage.images("edge-1"), ["registry.example.com/detector:v2"]);
    assert_eq!(stage.images("serve-online"), ["registry.example.com/detector:v2"]);
    assert_eq!(stage.weights("serve-online"), shares(&[("v2", 100), ("v3", 0)]));
    assert!(!stage.was_told("edge-2", ":v3"));
}

#[tokio::test]
async fn clusters_go_back_as_many_at_once_as_the_service_allows_and_what_failed_is_blocked_at_once() {
    let stage = completed_v2(Stage::with_fast_concurrency(1).await).await;
    stage.ship("v3");
    stage.measure("edge-1", "v3", 1.0);
    stage.seconds(30).await;
    assert_eq!(stage.images("serve-online").len(), 2, "v3 stands beside v2");
    // On the way back the site cannot pull v2 for a while, and the service allows one cluster at once.
    stage.world.with(|world| world.broken_images.insert("detector:v2".into()));
    stage.measure("serve-online", "v3", 0.9);
    let release = stage.until(State::RollingBack).await;
    stage.seconds(5).await;
    assert_eq!(stage.images("edge-1"), ["registry.example.com/detector:v2"]);
    assert_eq!(stage.images("serve-online").len(), 2, "its turn has not come");
    let shown = stage.releases().await[0].targets.clone();
    let online = shown.iter().find(|target| target.cluster == "clusters/serve-online").unwrap();
    assert_eq!((online.state(), online.reason.as_str()), (TargetState::RollingBack, "awaits its turn"), "{release:?}");

    stage.world.with(|world| world.broken_images.clear());
    stage.until(State::Failed).await;
    assert_eq!(stage.images("serve-online"), ["registry.example.com/detector:v2"]);
    assert!(!stage.was_told("edge-2", ":v3"));
}

#[tokio::test]
async fn no_data_holds_the_wave_and_a_person_may_promote_it() {
    let stage = with_v2().await;
    stage.ship("v3");
    stage.seconds(40).await;
    let release = &stage.releases().await[0];
    assert_eq!((release.state(), release.wave), (State::Progressing, 1));
    assert!(release.reason.contains("inconclusive"), "{}", release.reason);
    let request = wire::PromoteReleaseRequest { name: release.name.clone(), ..wire::PromoteReleaseRequest::default() };
    stage.server.promote_release(stage.by_operator(request)).await.unwrap();
    stage.seconds(2).await;
    assert_eq!(stage.releases().await[0].wave, 2);
    stage.seconds(20).await;
    assert_eq!(stage.releases().await[0].wave, 2, "once");
}

#[tokio::test]
async fn a_version_that_never_becomes_healthy_is_turned_back_after_its_deadline() {
    let stage = with_v2().await;
    stage.world.with(|world| world.broken_images.insert("detector:v3".into()));
    stage.ship("v3");
    let release = stage.until(State::Failed).await;
    assert!(release.reason.contains("ImagePullBackOff"), "{}", release.reason);
    assert_eq!(stage.images("edge-1"), ["registry.example.com/detector:v2"]);
}

#[tokio::test]
async fn a_commit_that_renders_to_what_runs_is_no_release() {
    let stage = with_v2().await;
    stage.commit("a note", &[("NOTES.md", "nothing that is served\n".into())]);
    stage.seconds(5).await;
    assert_eq!(stage.releases().await.len(), 1);
    assert_eq!(stage.application().await.state(), ApplicationState::Healthy);
}

#[tokio::test]
async fn the_previous_copy_stays_for_keep_stable_for_after_the_release_is_complete_everywhere() {
    let stage = with_v2().await;
    ["edge-1", "edge-2", "serve-online"].into_iter().for_each(|cluster| stage.measure(cluster, "v3", 1.0));
    stage.ship("v3");
    stage.until(State::Completed).await;
    let both = ["registry.example.com/detector:v2", "registry.example.com/detector:v3"];
    assert_eq!(stage.images("serve-online"), both);
    stage.seconds(4).await;
    assert_eq!(stage.images("serve-online"), both, "five seconds are not over");
    stage.seconds(3).await;
    assert_eq!(stage.images("serve-online"), ["registry.example.com/detector:v3"]);
}

#[tokio::test]
async fn routes_before_a_stateful_set_are_refused_by_name() {
    let stage = with_v2().await;
    let set = "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: { name: detector }\nspec: { serviceName: detector, selector: { matchLabels: { app: detector } }, template: { metadata: { labels: { app: detector } }, spec: { containers: [{ name: server, image: registry.example.com/detector }] } } }\n";
    stage.commit("pods with names", &[("serving/base/deployment.yaml", set.into())]);
    stage.seconds(5).await;
    let application = stage.application().await;
    assert_eq!(application.state(), ApplicationState::Degraded);
    assert!(application.reason.contains("StatefulSet detector cannot be a traffic workload"), "{}", application.reason);
    assert_eq!(stage.images("serve-online"), ["registry.example.com/detector:v2"]);
}

#[tokio::test]
async fn a_revert_that_conflicts_is_shown_and_the_clusters_stay_rolled_back() {
    let stage = with_v2().await;
    stage.ship("v3");
    stage.seconds(5).await;
    stage.measure("edge-1", "v3", 0.5);
    for _ in 0..10 {
        stage.seconds(1).await;
        if stage.releases().await[0].state() == State::RollingBack {
            break;
        }
    }
    assert_eq!(stage.releases().await[0].state(), State::RollingBack);
    // Somebody touches the same line before the revert is written; it renders to the same.
    let noted = component("v3").replace("newTag: v3", "newTag: v3 # looked at by Ada");
    stage.commit("a note on v3", &[("models/detector/kustomization.yaml", noted)]);
    stage.seconds(10).await;
    let release = &stage.releases().await[0];
    assert_eq!((release.state(), release.revert()), (State::Failed, Revert::Blocked), "{:?}", release.warnings);
    assert!(release.warnings.iter().any(|warning| warning.contains("the revert is not in git")), "{:?}", release.warnings);
    assert_eq!(stage.log()[0], "a note on v3", "nothing is forced over it");
    assert_eq!(stage.images("edge-1"), ["registry.example.com/detector:v2"]);
    assert!(stage.application().await.reason.contains("rolled back there"));
}

#[tokio::test]
async fn the_first_deployment_that_fails_is_shown_and_nothing_is_removed() {
    let stage = Stage::new().await;
    stage.world.with(|world| world.broken_images.insert("detector:v2".into()));
    stage.apply(GATE).await;
    let release = stage.until(State::Failed).await;
    assert_eq!(stage.images("edge-1"), ["registry.example.com/detector:v2"]);
    assert_eq!(release.revert(), Revert::Unspecified);
    assert_eq!(stage.application().await.state(), ApplicationState::Degraded);

    // An unrelated commit on top does not ship it again.
    stage.commit("a note", &[("NOTES.md", "nothing that is served\n".into())]);
    stage.seconds(10).await;
    assert_eq!(stage.releases().await.len(), 1);
}

#[tokio::test]
async fn an_offline_edge_is_pending_and_catches_up_to_the_present_state() {
    let stage = with_v2().await;
    for cluster in ["edge-1", "edge-2", "serve-online"] {
        stage.measure(cluster, "v3", 1.0);
        stage.measure(cluster, "v4", 1.0);
    }
    stage.set_cluster("edge-2", Some("offline")).await;
    stage.ship("v3");
    // edge-2's wave has nobody else to be done, so it holds; a newer commit takes the place.
    stage.seconds(30).await;
    let target = stage.releases().await[0].targets.iter().find(|one| one.cluster == "clusters/edge-2").unwrap().clone();
    assert_eq!((target.state(), target.reason.as_str()), (TargetState::Pending, "offline"));
    stage.ship("v4");
    stage.seconds(30).await;
    assert_eq!(stage.releases().await[1].state(), State::Superseded);
    stage.set_cluster("edge-2", None).await;
    stage.until(State::Completed).await;
    assert_eq!(stage.images("edge-2"), ["registry.example.com/detector:v4"]);
    assert!(!stage.was_told("edge-2", ":v3"), "it catches up to what is, not to what was");
}

#[tokio::test]
async fn what_an_absent_edge_was_told_is_taken_back_when_a_newer_commit_comes() {
    let stage = with_v2().await;
    for cluster in ["edge-1", "edge-2", "serve-online"] {
        stage.measure(cluster, "v3", 1.0);
        stage.measure(cluster, "v4", 1.0);
    }
    stage.ship("v3");
    // The edge is cut off, and the hub has not noticed when it is told.
    stage.world.with(|world| world.offline.insert("edge-2".into()));
    let mut waited = 0;
    while stage.images("edge-2") != ["registry.example.com/detector:v3"] {
        stage.seconds(1).await;
        waited += 1;
        assert!(waited < 40, "the last wave never begins: {}", stage.releases().await[0].reason);
    }
    stage.set_cluster("edge-2", Some("offline")).await;
    stage.seconds(2).await;
    stage.ship("v4");
    stage.seconds(3).await;
    assert_eq!(stage.images("edge-2"), ["registry.example.com/detector:v2"], "it would find v3 on its return");
    stage.seconds(30).await;
    stage.set_cluster("edge-2", None).await;
    stage.until(State::Completed).await;
    assert_eq!(stage.images("edge-2"), ["registry.example.com/detector:v4"]);
}

#[tokio::test]
async fn a_git_revert_takes_the_fast_lane() {
    let stage = with_v2().await;
    for cluster in ["edge-1", "edge-2", "serve-online"] {
        stage.measure(cluster, "v3", 1.0);
    }
    stage.ship("v3");
    stage.until(State::Completed).await;
    stage.world.with(|world| world.policy_away = true);
    stage.ship("v2");
    stage.seconds(3).await;
    let release = &stage.releases().await[0];
    assert!(release.fast_lane);
    assert_eq!(release.state(), State::Completed, "no soak, no gate, and policy does not hold it: {}", release.reason);
    for cluster in ["edge-1", "edge-2"] {
        assert_eq!(stage.images(cluster), ["registry.example.com/detector:v2"]);
    }
    assert_eq!(stage.weights("serve-online"), shares(&[("v2", 100), ("v3", 0)]));
}

#[tokio::test]
async fn a_rollback_by_hand_goes_to_the_release_before_and_writes_the_revert() {
    let stage = with_v2().await;
    for cluster in ["edge-1", "edge-2", "serve-online"] {
        stage.measure(cluster, "v3", 1.0);
    }
    stage.ship("v3");
    stage.until(State::Completed).await;
    let request = wire::RollbackApplicationRequest { name: APPLICATION.into(), ..wire::RollbackApplicationRequest::default() };
    let release = stage.server.rollback_application(stage.by_operator(request)).await.unwrap().into_inner();
    assert!(release.fast_lane);
    stage.seconds(5).await;
    assert_eq!(stage.images("edge-2"), ["registry.example.com/detector:v2"]);
    assert_eq!(stage.log()[0], "Revert \"serve v3\"");
    stage.seconds(5).await;
    assert_eq!(stage.releases().await.len(), 3, "the revert in git is no further release");
    assert_eq!(stage.releases().await[0].revert(), Revert::Pushed);
}

#[tokio::test]
async fn policy_refuses_before_anything_is_told_and_its_absence_holds() {
    let stage = with_v2().await;
    stage.world.with(|world| world.policy_away = true);
    stage.ship("v3");
    stage.seconds(5).await;
    let release = &stage.releases().await[0];
    assert_eq!(release.state(), State::Pending);
    assert!(release.reason.contains("policy service is away"), "{}", release.reason);
    stage.world.with(|world| {
        world.policy_away = false;
        world.refusals = vec!["policies/limits/gpu: Deployment vision/detector".into()];
    });
    let release = stage.until(State::Refused).await;
    assert!(release.reason.contains("policies/limits"), "{}", release.reason);
    assert!(!stage.was_told("edge-1", ":v3"));
}

#[tokio::test]
async fn a_paused_release_waits_for_a_person_and_an_aborted_one_goes_back() {
    let stage = with_v2().await;
    stage.measure("edge-1", "v3", 1.0);
    stage.ship("v3");
    stage.seconds(2).await;
    let name = stage.releases().await[0].name.clone();
    let pause = wire::PauseReleaseRequest { name: name.clone(), ..wire::PauseReleaseRequest::default() };
    stage.server.pause_release(stage.by_operator(pause)).await.unwrap();
    stage.seconds(20).await;
    assert_eq!((stage.releases().await[0].state(), stage.releases().await[0].wave), (State::Paused, 1));
    let resume = wire::ResumeReleaseRequest { name: name.clone(), ..wire::ResumeReleaseRequest::default() };
    stage.server.resume_release(stage.by_operator(resume)).await.unwrap();
    stage.seconds(5).await;
    assert_eq!(stage.weights("serve-online"), shares(&[("v2", 90), ("v3", 10)]));
    let abort = wire::AbortReleaseRequest { name: name.clone(), ..wire::AbortReleaseRequest::default() };
    stage.server.abort_release(stage.by_operator(abort)).await.unwrap();
    let release = stage.until(State::Failed).await;
    assert_eq!(release.name, name);
    assert!(release.reason.contains("aborted by ada"), "{}", release.reason);
    assert_eq!(stage.images("serve-online"), ["registry.example.com/detector:v2"]);
}

#[tokio::test]
async fn without_automated_a_commit_waits_until_it_is_resumed() {
    let stage = Stage::new().await;
    stage.apply_repository().await;
    let manifest = crate::stage::application("").replace("automated: { prune: true, selfHeal: true }", "{}");
    let application =
        wire::Application { manifest: manifest.replace("syncPolicy:\n    {}", "syncPolicy: {}"), ..wire::Application::default() };
    let request = wire::CreateApplicationRequest { application: Some(application), ..wire::CreateApplicationRequest::default() };
    stage.server.create_application(stage.by_operator(request)).await.unwrap();
    stage.seconds(5).await;
    let release = &stage.releases().await[0];
    assert_eq!(release.state(), State::Paused);
    let resume = wire::ResumeReleaseRequest { name: release.name.clone(), ..wire::ResumeReleaseRequest::default() };
    stage.server.resume_release(stage.by_operator(resume)).await.unwrap();
    stage.until(State::Completed).await;
    assert!(stage.world.with(|world| world.judged) > 0, "resuming does not pass policy by");
}

#[tokio::test]
async fn an_overlay_that_does_not_render_is_shown_and_what_runs_goes_on() {
    let stage = with_v2().await;
    stage.commit("broken", &[("serving/overlays/edge/kustomization.yaml", "resources: [missing.yaml]\n".into())]);
    stage.seconds(5).await;
    let application = stage.application().await;
    assert_eq!(application.state(), ApplicationState::Degraded);
    assert!(application.reason.contains("missing.yaml"), "{}", application.reason);
    assert_eq!(stage.images("edge-1"), ["registry.example.com/detector:v2"]);
}

#[tokio::test]
async fn a_registry_that_remembers_more_is_adopted_and_one_that_is_away_is_waited_for() {
    let stage = with_v2().await;
    for cluster in ["edge-1", "edge-2", "serve-online"] {
        stage.measure(cluster, "v3", 1.0);
    }
    stage.world.with(|world| {
        world.generations.insert("edge-1".into(), 40);
        world.registry_away = true;
    });
    stage.ship("v3");
    stage.seconds(60).await;
    assert_eq!(stage.releases().await[0].state(), State::Progressing, "what was never told has no deadline");
    stage.world.with(|world| world.registry_away = false);
    stage.until(State::Completed).await;
    assert!(stage.world.with(|world| world.generations["edge-1"]) > 40);
}

#[tokio::test]
async fn a_registry_that_lost_what_it_was_told_is_told_again() {
    let stage = with_v2().await;
    stage.world.with(|world| {
        world.held.retain(|(cluster, _), _| cluster == "serve-online");
        let kept: Vec<String> = world.held.values().map(|(_, digest)| digest.clone()).collect();
        world.bundles.retain(|digest, _| kept.contains(digest));
        world.generations = [("serve-online".to_owned(), 7)].into();
        world.held.values_mut().for_each(|(generation, _)| *generation = 7);
    });
    let health = muster_kit::health::Health::default();
    let verify = muster_rollout::reconcile::verify::VerifyReconciler {
        app: stage.app.clone(),
        leader: stage.leader.clone(),
        health: health.clone(),
    };
    muster_kit::reconcile::Reconciler::tick(&verify).await.unwrap();
    stage.seconds(2).await;
    assert_eq!(stage.images("edge-1"), ["registry.example.com/detector:v2"]);
    stage.ship("v3");
    for cluster in ["edge-1", "edge-2", "serve-online"] {
        stage.measure(cluster, "v3", 1.0);
    }
    stage.until(State::Completed).await;
    stage.world.with(|world| world.held.insert(("edge-1".into(), "applications/gone/gone".into()), (1, "sha256:x".into())));
    muster_kit::reconcile::Reconciler::tick(&verify).await.unwrap();
    let problems: Vec<String> = health.parts().into_iter().filter_map(|part| part.problem).collect();
    assert!(problems.iter().any(|problem| problem.contains("Orphaned") && problem.contains("edge-1")), "{problems:?}");
    assert!(stage.world.with(|world| world.held.contains_key(&("edge-1".into(), "applications/gone/gone".into()))));
}

#[tokio::test]
async fn two_replicas_agree_because_one_decides() {
    let stage = with_v2().await;
    stage.ship("v3");
    let other = muster_rollout::reconcile::leader::Leader::new(stage.db.pool().clone());
    assert_eq!(other.epoch().await.unwrap(), None);
    let decide = muster_rollout::reconcile::decide::DecisionReconciler { app: stage.app.clone(), leader: other };
    muster_kit::reconcile::Reconciler::tick(&decide).await.unwrap();
    assert_eq!(stage.releases().await.len(), 1);
}

#[tokio::test]
async fn a_diff_says_what_would_change_and_stores_nothing() {
    let stage = with_v2().await;
    let commit = stage.ship("v3");
    let request = wire::DiffReleaseRequest { application: APPLICATION.into(), commit: commit.clone() };
    let diff = stage.server.diff_release(stage.by_operator(request)).await.unwrap().into_inner();
    assert_eq!(diff.commit, commit);
    let online = diff.targets.iter().find(|one| one.cluster == "clusters/serve-online").unwrap();
    assert!(online.added.iter().any(|one| one.starts_with("Deployment vision/detector-")), "{online:#?}");
    let changed: Vec<&str> = online.changed.iter().map(|one| one.object.as_str()).collect();
    assert!(changed.contains(&"VirtualService vision/detector"), "{changed:?}");
    let edge = diff.targets.iter().find(|one| one.cluster == "clusters/edge-1").unwrap();
    assert!(edge.changed[0].diff.contains("+"), "{edge:#?}");
    assert_eq!(stage.releases().await.len(), 1);
}

#[tokio::test]
async fn an_application_that_is_deleted_leaves_its_workloads_unless_told_otherwise() {
    for remove in [false, true] {
        let stage = with_v2().await;
        let request = wire::DeleteApplicationRequest {
            name: APPLICATION.into(),
            remove_workloads: remove,
            ..wire::DeleteApplicationRequest::default()
        };
        stage.server.delete_application(stage.by_operator(request)).await.unwrap();
        stage.seconds(2).await;
        assert_eq!(stage.images("edge-1").is_empty(), remove);
    }
}

#[tokio::test]
async fn what_nobody_needs_is_forgotten_and_what_a_rollback_needs_is_kept() {
    let stage = with_v2().await;
    for statement in [
        "update bundle set created_at = now() - interval '2 days'",
        "insert into bundle (digest, content, created_at) values ('sha256:stray', '', now() - interval '2 days')",
    ] {
        sqlx::query(statement).execute(stage.db.pool()).await.unwrap();
    }
    let tidy = muster_rollout::reconcile::tidy::TidyReconciler { app: stage.app.clone(), leader: stage.leader.clone() };
    muster_kit::reconcile::Reconciler::tick(&tidy).await.unwrap();
    let stray: i64 =
        sqlx::query_scalar("select count(*) from bundle where digest = 'sha256:stray'").fetch_one(stage.db.pool()).await.unwrap();
    assert_eq!(stray, 0);
    stage.ship("v3");
    stage.measure("edge-1", "v3", 0.5);
    stage.until(State::Failed).await;
    assert_eq!(stage.images("edge-1"), ["registry.example.com/detector:v2"]);
}
