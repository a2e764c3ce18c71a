//! Ramps step by step: what is seen in, who enforces and why it waits out.

use super::*;
use muster_core::labels::EXCEPTION_OWNER;
use std::{collections::BTreeSet, time::Duration};

const HOUR: i64 = 3_600;

/// A ramp of one policy in a fleet that is seen as it is told.
struct Fleet {
    ramp: Ramp,
    spec: RampSpec,
    seen: Seen,
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + second).expect("a time")
}

fn wave(selector: WaveSelector) -> RampWave {
    RampWave { selector, soak: Duration::from_secs(3_600) }
}

fn fleet(clusters: &[&str], waves: Vec<WaveSelector>) -> Fleet {
    let waves = waves.into_iter().chain([WaveSelector::All]).map(wave).collect();
    let spec = RampSpec { waves, audit_soak: Duration::from_secs(3_600), max_new_violations: 0 };
    let members = clusters.iter().map(|cluster| ((*cluster).to_owned(), reporting(0))).collect();
    Fleet { ramp: Ramp::begin("d".to_owned(), at(0)), spec, seen: Seen { now: at(0), members } }
}

fn reporting(failing: i64) -> MemberSeen {
    let failing = Some(BTreeMap::from([("p".to_owned(), failing)]));
    MemberSeen { is_in_force: true, failing, ..MemberSeen::default() }
}

impl Fleet {
    /// A step; then it is told who enforces. Another step changes nothing.
    fn step(&mut self) {
        self.ramp = self.ramp.clone().step(&self.spec, "d", &self.seen);
        for (cluster, member) in &mut self.seen.members {
            member.enforces = self.ramp.turned.contains_key(cluster);
        }
        self.ramp = self.ramp.clone().step(&self.spec, "d", &self.seen);
        assert_eq!(self.ramp, self.ramp.clone().step(&self.spec, "d", &self.seen));
    }

    fn after(&mut self, seconds: i64) {
        self.seen.now += jiff::SignedDuration::from_secs(seconds);
        self.step();
    }

    fn fails(&mut self, cluster: &str, failing: i64) {
        self.member(cluster).failing = Some(BTreeMap::from([("p".to_owned(), failing)]));
    }

    fn member(&mut self, cluster: &str) -> &mut MemberSeen {
        self.seen.members.entry(cluster.to_owned()).or_default()
    }

    fn stands(&self) -> (RampState, u32, Vec<&str>) {
        (self.ramp.state, self.ramp.wave, self.ramp.turned.keys().map(String::as_str).collect())
    }
}

fn named(names: &[&str]) -> WaveSelector {
    WaveSelector::Clusters(names.iter().map(|name| (*name).to_owned()).collect())
}

#[test]
fn clusters_turn_wave_by_wave_as_each_has_soaked() {
    let mut fleet = fleet(&["a", "b", "c"], vec![named(&["b"])]);
    fleet.step();
    assert_eq!(fleet.stands(), (RampState::Soaking, 0, vec![]));
    fleet.after(HOUR - 1);
    assert_eq!(fleet.stands(), (RampState::Soaking, 0, vec![]));
    fleet.after(1);
    assert_eq!(fleet.stands(), (RampState::Soaking, 1, vec!["b"]));
    fleet.after(HOUR);
    assert_eq!(fleet.stands(), (RampState::Soaking, 2, vec!["a", "b", "c"]));
    fleet.after(HOUR);
    assert_eq!(fleet.stands(), (RampState::Completed, 2, vec!["a", "b", "c"]));
}

#[test]
fn waves_take_by_fleet_label_and_share_and_one_that_takes_nobody_is_passed_over() {
    let by_label = muster_core::LabelSelector {
        match_labels: BTreeMap::from([(EXCEPTION_OWNER.to_owned(), "x".to_owned())]),
        match_expressions: vec![],
    };
    let waves = vec![
        WaveSelector::Fleet("canary".to_owned()),
        named(&["nowhere"]),
        WaveSelector::Labels(by_label),
        WaveSelector::Percent(60),
    ];
    let mut fleet = fleet(&["a", "b", "c", "d", "e"], waves);
    fleet.member("e").fleets = BTreeSet::from(["canary".to_owned()]);
    fleet.member("d").labels.insert(EXCEPTION_OWNER.to_owned(), "x".to_owned());
    fleet.step();
    let mut taken = Vec::new();
    for _ in 0..5 {
        fleet.after(HOUR);
        taken.push((fleet.ramp.wave, fleet.ramp.turned.len()));
    }
    assert_eq!(taken, [(1, 1), (3, 2), (4, 3), (5, 5), (5, 5)]);
    assert_eq!(fleet.ramp.turned["a"], 4, "60 % of five are three, the first by name");
}

#[test]
fn a_new_violation_stops_the_ramp_and_it_goes_on_once_it_is_gone() {
    let mut fleet = fleet(&["a", "b"], vec![named(&["a"])]);
    fleet.fails("b", 7);
    fleet.step();
    fleet.after(HOUR);
    assert_eq!(fleet.stands(), (RampState::Soaking, 1, vec!["a"]));
    fleet.fails("b", 9);
    fleet.after(60);
    assert_eq!(fleet.stands(), (RampState::Stopped, 1, vec!["a"]));
    assert_eq!(fleet.ramp.reason, "violations were added: p in b: 2 more");
    fleet.after(10 * HOUR);
    assert_eq!(fleet.stands(), (RampState::Stopped, 1, vec!["a"]));
    fleet.fails("b", 7);
    fleet.after(60);
    assert_eq!((fleet.stands().0, fleet.ramp.reason.as_str()), (RampState::Soaking, ""));
    fleet.after(HOUR - 1);
    assert_eq!(fleet.stands().1, 1, "it soaks anew");
    fleet.after(1);
    assert_eq!(fleet.stands().1, 2);
}

#[test]
fn as_many_as_are_allowed_do_not_stop_it_and_those_that_went_elsewhere_excuse_none() {
    let mut fleet = fleet(&["a", "b"], vec![]);
    fleet.spec.max_new_violations = 1;
    fleet.fails("a", 5);
    fleet.step();
    fleet.fails("a", 0);
    fleet.fails("b", 1);
    fleet.after(60);
    assert_eq!(fleet.stands().0, RampState::Soaking);
    fleet.fails("b", 2);
    fleet.after(60);
    assert_eq!(fleet.stands().0, RampState::Stopped);
}

#[test]
fn somebody_accepts_what_was_added_and_the_wave_soaks_anew() {
    let mut fleet = fleet(&["a"], vec![]);
    fleet.step();
    fleet.fails("a", 1);
    fleet.after(HOUR);
    assert_eq!(fleet.stands().0, RampState::Stopped);
    fleet.ramp.resume(fleet.seen.now);
    fleet.after(60);
    assert_eq!(fleet.stands(), (RampState::Soaking, 0, vec![]));
    fleet.after(HOUR);
    assert_eq!(fleet.stands(), (RampState::Soaking, 1, vec!["a"]));
}

#[test]
fn a_paused_ramp_stays_where_it_is_and_an_aborted_one_audits_until_it_begins_anew() {
    let mut fleet = fleet(&["a", "b"], vec![named(&["a"])]);
    fleet.step();
    fleet.after(HOUR);
    fleet.ramp.pause();
    fleet.after(10 * HOUR);
    assert_eq!(fleet.stands(), (RampState::Paused, 1, vec!["a"]));
    fleet.ramp.resume(fleet.seen.now);
    fleet.after(0);
    fleet.after(HOUR);
    assert_eq!(fleet.stands(), (RampState::Soaking, 2, vec!["a", "b"]));
    fleet.ramp.abort(fleet.seen.now);
    fleet.ramp.pause();
    fleet.after(10 * HOUR);
    assert_eq!(fleet.stands(), (RampState::Aborted, 0, vec![]));
    fleet.ramp.resume(fleet.seen.now);
    fleet.after(0);
    assert_eq!(fleet.stands(), (RampState::Soaking, 0, vec![]));
}

#[test]
fn nobody_turns_or_soaks_who_has_not_reported_or_does_not_have_it_in_force() {
    let mut fleet = fleet(&["a", "b"], vec![named(&["a"])]);
    fleet.member("a").failing = None;
    fleet.step();
    fleet.after(10 * HOUR);
    assert_eq!((fleet.stands().1, fleet.ramp.reason.as_str()), (0, "a has not reported"));
    fleet.fails("a", 3);
    fleet.after(0);
    fleet.after(HOUR);
    assert_eq!(fleet.stands().1, 1, "what it reports first is what it is compared with");
    fleet.member("a").is_in_force = false;
    fleet.after(10 * HOUR);
    assert_eq!((fleet.stands().1, fleet.ramp.reason.as_str()), (1, "a does not have the policies in force"));
    fleet.member("a").is_in_force = true;
    fleet.member("b").failing = None;
    fleet.after(0);
    fleet.after(HOUR);
    assert_eq!((fleet.stands().1, fleet.ramp.reason.as_str()), (1, "b has not reported"));
    fleet.seen.members.remove("b");
    fleet.after(0);
    fleet.after(HOUR);
    assert_eq!(fleet.stands(), (RampState::Completed, 1, vec!["a"]), "one that left holds nobody");
}

#[test]
fn a_cluster_that_was_not_told_yet_does_not_soak() {
    let mut fleet = fleet(&["a"], vec![]);
    fleet.step();
    fleet.seen.now = at(HOUR);
    let turned = fleet.ramp.clone().step(&fleet.spec, "d", &fleet.seen);
    let waits = turned.step(&fleet.spec, "d", &fleet.seen);
    assert_eq!((waits.wave, waits.reason.as_str()), (1, "a has not been told to enforce"));
    assert_eq!(waits.soaking_since, None);
}

#[test]
fn one_that_joins_is_audited_and_turns_with_a_later_wave_or_the_last_again() {
    let mut fleet = fleet(&["a", "b"], vec![named(&["a", "late"])]);
    fleet.step();
    fleet.after(HOUR);
    *fleet.member("late") = reporting(4);
    fleet.after(60);
    assert_eq!(fleet.stands(), (RampState::Soaking, 1, vec!["a"]));
    fleet.after(HOUR);
    assert_eq!(fleet.stands(), (RampState::Soaking, 2, vec!["a", "b", "late"]));
    fleet.after(HOUR);
    assert_eq!(fleet.stands().0, RampState::Completed);
    *fleet.member("later") = reporting(1);
    fleet.after(60);
    assert_eq!(fleet.stands(), (RampState::Soaking, 2, vec!["a", "b", "late"]));
    fleet.after(HOUR);
    assert_eq!(fleet.stands(), (RampState::Soaking, 2, vec!["a", "b", "late", "later"]));
    fleet.after(HOUR);
    assert_eq!(fleet.stands().0, RampState::Completed);
}

#[test]
fn other_policies_begin_at_audit_and_what_somebody_stopped_stays_stopped() {
    let mut fleet = fleet(&["a"], vec![]);
    fleet.step();
    fleet.after(HOUR);
    assert_eq!(fleet.stands().1, 1);
    let other = fleet.ramp.clone().step(&fleet.spec, "e", &fleet.seen);
    assert_eq!((other.state, other.wave, other.turned.len(), other.began_at), (RampState::Soaking, 0, 0, fleet.seen.now));
    fleet.ramp.pause();
    assert_eq!(fleet.ramp.clone().step(&fleet.spec, "e", &fleet.seen).state, RampState::Paused);
    fleet.ramp.abort(fleet.seen.now);
    assert_eq!(fleet.ramp.clone().step(&fleet.spec, "e", &fleet.seen).state, RampState::Aborted);
}

#[test]
fn a_fleet_without_members_waits_for_some() {
    let mut fleet = fleet(&[], vec![named(&["a"])]);
    fleet.step();
    fleet.after(10 * HOUR);
    assert_eq!((fleet.stands().0, fleet.ramp.reason.as_str()), (RampState::Soaking, "the fleet has no members"));
    *fleet.member("a") = reporting(0);
    *fleet.member("b") = reporting(0);
    fleet.after(0);
    fleet.after(HOUR);
    assert_eq!(fleet.stands(), (RampState::Soaking, 1, vec!["a"]));
}
