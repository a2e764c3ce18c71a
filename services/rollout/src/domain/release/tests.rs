//! Releases told as stories: a small world of clusters, a clock, and the state machine driven by hand.

use super::*;
use crate::domain::spec::{Proportion, RolloutSpec, WaveSelector, WaveSpec};
use jiff::{SignedDuration, Timestamp};
use muster_core::Version;
use std::collections::BTreeMap;
use std::time::Duration;

pub(super) fn wave(selector: &[&str]) -> WaveSpec {
    let mut wave = RolloutSpec::default_rollout().waves.remove(0);
    wave.selector = WaveSelector::Clusters(selector.iter().map(|name| (*name).to_owned()).collect());
    wave
}

/// A release and the clusters it goes to, with agents that say what the test tells them to.
pub(super) struct World {
    pub view: View,
    pub now: Timestamp,
    generation: u64,
    pub last: Outcome,
}

impl World {
    pub fn new(waves: Vec<WaveSpec>) -> Self {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let mut targets = Vec::new();
        let mut availability = BTreeMap::new();
        for (index, wave) in waves.iter().enumerate() {
            let WaveSelector::Clusters(names) = &wave.selector else { panic!("tests name their clusters") };
            for name in names {
                let mut target = Target::new(name.clone(), index, now);
                target.has_last_good = true;
                targets.push(target);
                availability.insert(name.clone(), Availability::Here);
            }
        }
        let release = Release {
            state: ReleaseState::Progressing,
            lane: Lane::Waves,
            waves,
            keep_stable_for: Duration::from_secs(60),
            fast_concurrency: 100,
            wave: 0,
            step: 0,
            promoted: false,
            reason: String::new(),
            finished_at: None,
        };
        let view = View {
            release,
            targets,
            availability,
            observations: BTreeMap::new(),
            measurements: Vec::new(),
            verdict_is_current: true,
        };
        Self { view, now, generation: 0, last: Outcome::Advance(vec![]) }
    }

    /// Steps until nothing comes next, and hands over to the registry what was told.
    pub fn settle(&mut self) -> Vec<Change> {
        let mut made = Vec::new();
        for _ in 0..1_000 {
            self.last = step(&self.view, self.now);
            match self.last.clone() {
                Outcome::Wait { .. } | Outcome::Judge => {
                    assert_eq!(step(&self.view, self.now), self.last, "a second plan is empty");
                    self.hand_over();
                    return made;
                }
                Outcome::Advance(changes) => {
                    assert!(!changes.is_empty(), "an advance changes something");
                    for change in changes {
                        self.view.apply(&change, self.now);
                        made.push(change);
                    }
                }
            }
        }
        panic!("the release never comes to rest: {:?}", self.last);
    }

    fn hand_over(&mut self) {
        for target in &mut self.view.targets {
            let told = !matches!(target.phase, TargetPhase::Waiting) && !target.unchanged;
            if told && target.generation.is_none() {
                self.generation += 1;
                target.generation = Some(Version::new(1, self.generation));
                target.told_at = Some(self.now);
            }
        }
    }

    pub fn after(&mut self, seconds: i64) -> Vec<Change> {
        self.now += SignedDuration::from_secs(seconds);
        self.settle()
    }

    pub fn target(&self, cluster: &str) -> &Target {
        self.view.targets.iter().find(|target| target.cluster == cluster).unwrap()
    }

    pub fn target_mut(&mut self, cluster: &str) -> &mut Target {
        self.view.targets.iter_mut().find(|target| target.cluster == cluster).unwrap()
    }

    pub fn says(&mut self, cluster: &str, phase: ObservedPhase) -> Vec<Change> {
        if let Some(generation) = self.target(cluster).generation {
            let observation = Observation { generation, phase, reason: "because".to_owned() };
            self.view.observations.insert(cluster.to_owned(), observation);
        }
        self.settle()
    }

    pub fn goes(&mut self, cluster: &str, availability: Availability) -> Vec<Change> {
        self.view.availability.insert(cluster.to_owned(), availability);
        self.settle()
    }

    pub fn measures(&mut self, verdict: Verdict) -> Vec<Change> {
        assert!(matches!(self.last, Outcome::Wait { measure: true, .. }), "a measurement is due: {:?}", self.last);
        self.view.measurements.push(Measurement {
            wave: self.view.release.wave,
            step: self.view.release.step,
            at: self.now,
            verdict,
            reason: "error rate".to_owned(),
        });
        self.settle()
    }

    pub fn phases(&self) -> String {
        let phases = self.view.targets.iter().map(|target| format!("{}={:?}", target.cluster, target.phase));
        phases.collect::<Vec<_>>().join(" ")
    }

    fn waits_for(&self) -> &str {
        match &self.last {
            Outcome::Wait { reason, .. } => reason,
            Outcome::Advance(_) | Outcome::Judge => "",
        }
    }
}

fn away() -> Availability {
    Availability::Away("offline".to_owned())
}

fn start(cluster: &str, step: usize) -> Change {
    Change::Start { cluster: cluster.to_owned(), step }
}

#[test]
fn a_release_goes_wave_by_wave_and_moves_last_good_at_the_end_alone() {
    let mut world = World::new(vec![wave(&["edge-1"]), wave(&["serve"])]);
    assert_eq!(world.settle(), [start("edge-1", 0)]);
    let made = world.says("edge-1", ObservedPhase::Healthy);
    assert_eq!(made, [Change::BecomeHealthy { cluster: "edge-1".into() }, Change::NextWave, start("serve", 0)]);
    assert!(world.target("edge-1").settled_at.is_none(), "not per wave");
    let made = world.says("serve", ObservedPhase::Healthy);
    assert_eq!(made, [Change::BecomeHealthy { cluster: "serve".into() }, Change::Complete]);
    assert_eq!(world.view.release.state, ReleaseState::Completed);
    assert!(world.view.targets.iter().all(|target| target.settled_at == Some(world.now)));
}

#[test]
fn health_of_an_older_generation_does_not_count() {
    let mut world = World::new(vec![wave(&["a"])]);
    world
        .view
        .observations
        .insert("a".into(), Observation { generation: Version::new(1, 0), phase: ObservedPhase::Healthy, reason: String::new() });
    world.settle();
    assert_eq!(world.phases(), "a=Progressing");
    world.says("a", ObservedPhase::Underway);
    assert_eq!(world.phases(), "a=Progressing");
}

#[test]
fn a_wave_soaks_and_a_break_of_health_starts_the_soak_anew() {
    let mut first = wave(&["a"]);
    first.min_success_time = Duration::from_secs(300);
    let mut world = World::new(vec![first, wave(&["b"])]);
    world.settle();
    world.says("a", ObservedPhase::Healthy);
    assert!(world.waits_for().contains("soaks"), "{}", world.waits_for());
    assert_eq!(world.after(299), []);
    world.says("a", ObservedPhase::Unhealthy);
    world.after(10);
    world.says("a", ObservedPhase::Healthy);
    assert_eq!(world.after(299), []);
    assert_eq!(world.after(1), [Change::NextWave, start("b", 0)]);
}

#[test]
fn traffic_moves_by_the_weights_within_one_wave() {
    let mut world = World::new(vec![wave(&["serve", "spare"]), wave(&["edge"])]);
    world.target_mut("serve").weights = vec![10, 100];
    assert_eq!(world.settle(), [start("serve", 0), start("spare", 0)]);
    world.says("spare", ObservedPhase::Healthy);
    assert_eq!(
        world.says("serve", ObservedPhase::Healthy),
        [Change::BecomeHealthy { cluster: "serve".into() }, Change::NextStep, start("serve", 1)]
    );
    assert_eq!(world.target("serve").weight_at(1), Some(100));
    assert_eq!(
        world.says("serve", ObservedPhase::Healthy),
        [Change::BecomeHealthy { cluster: "serve".into() }, Change::NextWave, start("edge", 0)]
    );
}

#[test]
fn a_target_that_is_not_healthy_in_time_turns_everything_touched_back_at_once() {
    let mut world = World::new(vec![wave(&["a"]), wave(&["b", "c"]), wave(&["d"])]);
    world.settle();
    world.says("a", ObservedPhase::Healthy);
    world.says("b", ObservedPhase::Unhealthy);
    assert_eq!(world.after(599), []);
    world.after(1);
    assert_eq!(world.view.release.state, ReleaseState::RollingBack);
    assert_eq!(world.phases(), "a=RollingBack b=RollingBack c=RollingBack d=Waiting");
    assert!(world.view.release.reason.contains("b: not healthy within its deadline"), "{}", world.view.release.reason);
    for cluster in ["a", "b", "c"] {
        world.says(cluster, ObservedPhase::Healthy);
    }
    assert_eq!(world.view.release.state, ReleaseState::Failed);
    assert_eq!(world.phases(), "a=RolledBack b=RolledBack c=RolledBack d=Waiting");
}

#[test]
fn a_failed_release_goes_back_as_many_clusters_at_once_as_it_may_whatever_its_waves_say() {
    let mut world = World::new(vec![wave(&["a", "b", "c", "d", "e"])]);
    world.view.release.fast_concurrency = 2;
    world.settle();
    for cluster in ["a", "b", "c", "d"] {
        world.says(cluster, ObservedPhase::Healthy);
    }
    world.goes("d", away());
    let told = |made: Vec<Change>| made.iter().filter_map(|change| change.tells().map(str::to_owned)).collect::<Vec<_>>();
    assert_eq!(told(world.says("e", ObservedPhase::Refused)), ["a", "b", "d"], "who is away hears it on its return");
    assert_eq!(world.phases(), "a=RollingBack b=RollingBack c=AwaitingRollback d=RollingBack e=AwaitingRollback");
    assert_eq!(told(world.says("c", ObservedPhase::Unhealthy)), [] as [&str; 0], "what it still runs decides nothing");
    assert_eq!(told(world.says("b", ObservedPhase::Healthy)), ["c"]);
    assert_eq!(told(world.goes("e", away())), ["e"]);
    world.goes("e", Availability::Here);
    for cluster in ["a", "c", "e"] {
        assert_eq!(world.view.release.state, ReleaseState::RollingBack);
        world.says(cluster, ObservedPhase::Healthy);
    }
    assert_eq!(world.view.release.state, ReleaseState::Failed, "the one that is away holds nothing up");
    world.goes("d", Availability::Here);
    world.says("d", ObservedPhase::Healthy);
    assert_eq!(world.phases(), "a=RolledBack b=RolledBack c=RolledBack d=RolledBack e=RolledBack");
}

#[test]
fn a_refusal_by_the_cluster_is_not_waited_for() {
    let mut world = World::new(vec![wave(&["a"])]);
    world.settle();
    world.says("a", ObservedPhase::Refused);
    assert_eq!(world.view.release.state, ReleaseState::RollingBack);
}

#[test]
fn the_first_deployment_that_fails_stops_and_is_shown_and_nothing_is_told() {
    let mut world = World::new(vec![wave(&["a", "b"])]);
    for cluster in ["a", "b"] {
        world.target_mut(cluster).has_last_good = false;
    }
    world.settle();
    world.says("b", ObservedPhase::Healthy);
    let made = world.says("a", ObservedPhase::Refused);
    assert!(made.iter().all(|change| change.tells().is_none()), "{made:?}");
    assert_eq!(world.view.release.state, ReleaseState::Failed);
    assert_eq!(world.phases(), "a=Failed b=Failed");
    assert!(world.view.targets.iter().all(|target| target.generation.is_some()), "nobody is told anything new");
}

#[test]
fn a_failure_that_the_wave_bears_turns_back_one_target_only() {
    let mut first = wave(&["a", "b", "c", "d"]);
    first.max_failures = Proportion::Percent(25);
    let mut world = World::new(vec![first]);
    world.settle();
    world.says("a", ObservedPhase::Refused);
    assert_eq!(world.view.release.state, ReleaseState::Progressing);
    assert_eq!(world.target("a").phase, TargetPhase::RollingBack);
    world.says("a", ObservedPhase::Healthy);
    for cluster in ["b", "c", "d"] {
        world.says(cluster, ObservedPhase::Healthy);
    }
    assert_eq!(world.view.release.state, ReleaseState::Completed);
    assert!(world.target("a").settled_at.is_none(), "its last good has not moved");
    let mut second = World::new(vec![world.view.release.waves[0].clone()]);
    second.settle();
    second.says("a", ObservedPhase::Refused);
    second.says("b", ObservedPhase::Refused);
    assert_eq!(second.view.release.state, ReleaseState::RollingBack);
}

fn gated() -> World {
    let mut first = wave(&["a"]);
    first.gate = Some(crate::domain::spec::GateSpec {
        query: "up".into(),
        min: Some(0.99),
        max: None,
        interval: Duration::from_secs(30),
        count: 2,
    });
    let mut world = World::new(vec![first, wave(&["b"])]);
    world.settle();
    world.says("a", ObservedPhase::Healthy);
    world
}

#[test]
fn a_gate_wants_its_count_of_good_measurements() {
    let mut world = gated();
    assert_eq!(world.measures(Verdict::Pass), []);
    assert_eq!(world.after(29), []);
    world.after(1);
    assert_eq!(world.measures(Verdict::Pass), [Change::NextWave, start("b", 0)]);
}

#[test]
fn a_gate_that_fails_once_fails_the_release() {
    let mut world = gated();
    world.measures(Verdict::Pass);
    world.after(30);
    world.measures(Verdict::Fail);
    assert_eq!(world.view.release.state, ReleaseState::RollingBack);
    assert_eq!(world.phases(), "a=RollingBack b=Waiting", "nothing of it ever reached another cluster");
}

#[test]
fn no_data_holds_the_wave_for_ever_and_a_person_can_pass_it() {
    let mut world = gated();
    for _ in 0..100 {
        assert_eq!(world.measures(Verdict::Inconclusive), []);
        assert!(world.waits_for().contains("inconclusive"), "{}", world.waits_for());
        world.after(30);
    }
    world.view.release.promoted = true;
    assert_eq!(world.settle(), [Change::NextWave, start("b", 0)]);
    assert!(!world.view.release.promoted, "once");
}

#[test]
fn measurements_from_before_a_break_of_health_do_not_count() {
    let mut world = gated();
    world.measures(Verdict::Pass);
    world.after(20);
    world.says("a", ObservedPhase::Unhealthy);
    world.after(5);
    world.says("a", ObservedPhase::Healthy);
    assert_eq!(world.measures(Verdict::Pass), []);
    world.after(30);
    assert_eq!(world.measures(Verdict::Pass), [Change::NextWave, start("b", 0)]);
}

#[test]
fn a_value_is_judged_only_where_there_is_one() {
    let gate = gated().view.release.waves[0].gate.clone().unwrap();
    let verdict = |values: &[f64]| judge(&gate, &Reading::Values(values.to_vec())).0;
    assert_eq!(verdict(&[0.995]), Verdict::Pass);
    assert_eq!(verdict(&[0.995, 0.5]), Verdict::Fail);
    assert_eq!(verdict(&[]), Verdict::Inconclusive);
    assert_eq!(verdict(&[f64::NAN]), Verdict::Inconclusive);
    assert_eq!(judge(&gate, &Reading::Unreachable("refused".into())), (Verdict::Inconclusive, "refused".into()));
}

#[test]
fn an_offline_edge_is_pending_and_catches_up_when_it_returns() {
    let mut world = World::new(vec![wave(&["a", "b"])]);
    world.goes("b", away());
    assert_eq!(world.phases(), "a=Progressing b=Waiting");
    world.says("a", ObservedPhase::Healthy);
    assert_eq!(world.view.release.state, ReleaseState::Completed);
    world.after(86_400);
    assert_eq!(world.phases(), "a=Healthy b=Waiting", "not failed and not forgotten");
    assert_eq!(world.goes("b", Availability::Here), [Change::Return { cluster: "b".into() }, start("b", 0)]);
    world.says("b", ObservedPhase::Healthy);
    assert!(world.target("b").settled_at.is_some(), "its last good moves when it is done");
}

#[test]
fn a_latecomer_that_fails_is_turned_back_alone() {
    let mut world = World::new(vec![wave(&["a", "b"])]);
    world.goes("b", away());
    world.says("a", ObservedPhase::Healthy);
    world.goes("b", Availability::Here);
    world.says("b", ObservedPhase::Refused);
    assert_eq!(world.view.release.state, ReleaseState::Completed);
    assert_eq!(world.phases(), "a=Healthy b=RollingBack");
}

#[test]
fn time_away_does_not_count_towards_the_deadline() {
    let mut world = World::new(vec![wave(&["a", "b"])]);
    world.settle();
    world.after(500);
    world.goes("b", away());
    world.says("a", ObservedPhase::Healthy);
    world.after(10_000);
    assert_eq!(world.phases(), "a=Healthy b=Progressing");
    world.goes("b", Availability::Here);
    world.after(599);
    assert_eq!(world.target("b").phase, TargetPhase::Progressing);
    world.after(1);
    assert_eq!(world.target("b").phase, TargetPhase::RollingBack);
}

#[test]
fn a_wave_whose_clusters_are_all_away_does_not_pass() {
    let mut world = World::new(vec![wave(&["a"]), wave(&["b"])]);
    world.goes("a", away());
    world.after(86_400);
    assert_eq!(world.phases(), "a=Waiting b=Waiting");
    assert!(world.waits_for().contains("away"), "{}", world.waits_for());
}

#[test]
fn a_cluster_away_during_a_rollback_is_told_last_good_for_its_return() {
    let mut world = World::new(vec![wave(&["a", "b"])]);
    world.settle();
    world.says("a", ObservedPhase::Healthy);
    world.goes("a", away());
    world.says("b", ObservedPhase::Refused);
    assert_eq!(world.phases(), "a=RollingBack b=RollingBack");
    world.says("b", ObservedPhase::Healthy);
    assert_eq!(world.view.release.state, ReleaseState::Failed);
    world.goes("a", Availability::Here);
    world.says("a", ObservedPhase::Healthy);
    assert_eq!(world.phases(), "a=RolledBack b=RolledBack");
}

#[test]
fn a_paused_release_starts_nothing_new_and_still_turns_back() {
    let mut world = World::new(vec![wave(&["a"]), wave(&["b"])]);
    world.settle();
    world.view.release.state = ReleaseState::Paused;
    world.says("a", ObservedPhase::Healthy);
    assert_eq!(world.phases(), "a=Healthy b=Waiting");
    world.view.release.state = ReleaseState::Progressing;
    assert_eq!(world.settle(), [Change::NextWave, start("b", 0)]);
    world.view.release.state = ReleaseState::Paused;
    world.says("b", ObservedPhase::Refused);
    assert_eq!(world.view.release.state, ReleaseState::RollingBack);
}

#[test]
fn the_fast_lane_neither_soaks_nor_measures() {
    let mut world = gated();
    world.view.release.lane = Lane::Fast;
    world.view.release.waves[0].min_success_time = Duration::from_secs(300);
    assert_eq!(world.settle(), [Change::NextWave, start("b", 0)]);
}

#[test]
fn the_previous_copy_stays_for_a_while_after_completion_and_then_leaves() {
    let mut world = World::new(vec![wave(&["serve"]), wave(&["edge"])]);
    let serve = world.target_mut("serve");
    serve.weights = vec![10, 100];
    serve.two_copies = true;
    world.settle();
    world.says("serve", ObservedPhase::Healthy);
    world.says("serve", ObservedPhase::Healthy);
    world.after(100);
    assert!(world.target("serve").two_copies, "until it is complete everywhere");
    world.says("edge", ObservedPhase::Healthy);
    assert_eq!(world.after(59), []);
    assert_eq!(world.after(1), [Change::RemoveStable { cluster: "serve".into() }]);
    assert_eq!(world.after(1_000), []);
}

#[test]
fn a_cluster_is_left_only_when_the_application_stands_elsewhere() {
    let leave = |cluster: &str| Change::Leave { cluster: cluster.to_owned() };
    let mut world = World::new(vec![wave(&["old", "new"])]);
    world.target_mut("old").phase = TargetPhase::Leaving;
    world.target_mut("new").has_last_good = false;
    assert_eq!(world.settle(), [start("new", 0)]);
    let made = world.says("new", ObservedPhase::Healthy);
    assert_eq!(made, [Change::BecomeHealthy { cluster: "new".into() }, Change::Complete, leave("old")]);
    assert_eq!(leave("old").tells(), Some("old"));
    assert_eq!(world.after(86_400), []);

    let mut failing = World::new(vec![wave(&["old", "new"])]);
    failing.target_mut("old").phase = TargetPhase::Leaving;
    failing.target_mut("new").has_last_good = false;
    failing.settle();
    failing.says("new", ObservedPhase::Refused);
    assert_eq!(failing.view.release.state, ReleaseState::Failed);
    assert_eq!(failing.target("old").phase, TargetPhase::Leaving, "the application would come down to nothing");
}

#[test]
fn what_has_left_neither_holds_a_release_nor_is_told_of_it() {
    let mut world = World::new(vec![wave(&["a", "gone"]), wave(&["b"])]);
    world.target_mut("gone").phase = TargetPhase::Left;
    world.settle();
    world.says("a", ObservedPhase::Healthy);
    world.says("b", ObservedPhase::Refused);
    assert_eq!(world.phases(), "a=RollingBack gone=Left b=RollingBack");
}

#[test]
fn nothing_new_is_told_before_policy_was_asked_and_what_goes_back_does_not_wait() {
    let mut world = World::new(vec![wave(&["a"]), wave(&["b"])]);
    world.view.verdict_is_current = false;
    assert_eq!(world.settle(), []);
    assert_eq!(world.last, Outcome::Judge);
    world.view.verdict_is_current = true;
    assert_eq!(world.settle(), [start("a", 0)]);
    world.view.verdict_is_current = false;
    world.says("a", ObservedPhase::Healthy);
    assert_eq!((world.phases().as_str(), &world.last), ("a=Healthy b=Waiting", &Outcome::Judge));
    world.says("a", ObservedPhase::Unhealthy);
    assert_eq!(world.phases(), "a=Progressing b=Waiting", "health is seen meanwhile");
    world.after(600);
    assert_eq!(world.phases(), "a=RollingBack b=Waiting");
}

#[test]
fn a_target_that_runs_it_already_is_left_alone() {
    let mut world = World::new(vec![wave(&["a"]), wave(&["b"])]);
    world.target_mut("a").unchanged = true;
    assert_eq!(world.settle(), [Change::NextWave, start("b", 0)]);
    world.says("b", ObservedPhase::Refused);
    assert_eq!(world.phases(), "a=Waiting b=RollingBack");
}

#[test]
fn what_a_superseded_release_touched_goes_back_with_the_newer_one_that_fails() {
    let mut world = World::new(vec![wave(&["a"]), wave(&["b"])]);
    world.target_mut("b").touched = true;
    world.settle();
    world.says("a", ObservedPhase::Refused);
    assert_eq!(world.phases(), "a=RollingBack b=RollingBack");
}

#[test]
fn a_commit_is_what_its_renderings_make_it() {
    let target = |cluster, rendered, desired, completed_before, blocked| TargetArrival {
        cluster,
        rendered,
        desired,
        completed_before,
        blocked,
    };
    assert_eq!(classify(&[target("a", "x", Some("x"), true, false)]), Arrival::NoChange);
    assert_eq!(classify(&[target("a", "x", None, false, false)]), Arrival::Waves);
    assert_eq!(classify(&[target("a", "x", Some("y"), true, false), target("b", "z", Some("z"), false, false)]), Arrival::Fast);
    assert_eq!(classify(&[target("a", "x", Some("y"), true, false), target("b", "z", Some("w"), false, false)]), Arrival::Waves);
    assert_eq!(
        classify(&[target("a", "x", Some("y"), false, true), target("b", "z", Some("w"), false, false)]),
        Arrival::Blocked(vec!["a".to_owned()])
    );
    assert_eq!(classify(&[target("a", "x", Some("x"), true, true)]), Arrival::NoChange, "blocked, and never left");
}

#[test]
fn a_cluster_goes_with_the_first_wave_that_takes_it() {
    let mut fleet = wave(&[]);
    fleet.selector = WaveSelector::Fleet("canary".into());
    let mut rest = wave(&[]);
    rest.selector = WaveSelector::All;
    let waves = [fleet, wave(&["serve", "edge-1"]), rest];
    let labels = BTreeMap::new();
    let canary = ["canary".to_owned()];
    let clusters = [("edge-1", &labels, &canary[..]), ("serve", &labels, &[][..]), ("edge-2", &labels, &[][..])];
    assert_eq!(assign_waves(&waves, clusters), [0, 1, 2]);
}
