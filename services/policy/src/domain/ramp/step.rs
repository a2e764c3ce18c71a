//! The next step of a ramp.

use super::{Counts, Ramp, RampSpec, RampState, WaveSelector};
use jiff::{SignedDuration, Timestamp};
use muster_core::selector::Labels;
use std::collections::{BTreeMap, BTreeSet};

/// Clusters and counts named in a reason, at most.
const NAMED: usize = 3;

/// A member of the fleet, as it is seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemberSeen {
    /// Its labels.
    pub labels: Labels,
    /// The fleets it is in.
    pub fleets: BTreeSet<String>,
    /// Whether all of what it was told last is there.
    pub is_in_force: bool,
    /// Whether what it was told last enforces the ramped policies.
    pub enforces: bool,
    /// Objects that fail, by policy; `None` while it has not reported on what it was told last.
    pub failing: Option<BTreeMap<String, i64>>,
}

/// What is seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The present.
    pub now: Timestamp,
    /// The fleet's members by name.
    pub members: BTreeMap<String, MemberSeen>,
}

impl Ramp {
    /// What the ramp of these policies is to be, by what is seen. The same again where nothing happened.
    pub fn step(mut self, spec: &RampSpec, digest: &str, seen: &Seen) -> Self {
        if self.digest != digest {
            let before = self.state;
            self = Self::begin(digest.to_owned(), seen.now);
            // What somebody stopped is not started by another revision.
            match before {
                RampState::Aborted => self.abort(seen.now),
                RampState::Paused => self.pause(),
                RampState::Soaking | RampState::Stopped | RampState::Completed => {}
            }
        }
        self.wave = self.wave.min(last(spec));
        self.turned.retain(|cluster, _| seen.members.contains_key(cluster));
        self.baseline.retain(|cluster, _| seen.members.contains_key(cluster));
        self.note(seen);
        match self.state {
            RampState::Paused | RampState::Aborted => self,
            RampState::Completed if self.next_wave(spec, seen).is_none() => self,
            RampState::Soaking | RampState::Stopped | RampState::Completed => self.judged(spec, seen),
        }
    }

    /// A cluster's first counts in the wave are what it is compared with.
    fn note(&mut self, seen: &Seen) {
        for (cluster, member) in &seen.members {
            for (policy, failing) in member.failing.iter().flatten() {
                self.baseline.entry(cluster.clone()).or_default().entry(policy.clone()).or_insert(*failing);
            }
        }
    }

    fn judged(mut self, spec: &RampSpec, seen: &Seen) -> Self {
        let added = added(&self.baseline, seen);
        let total: i64 = added.iter().map(|(_, _, count)| count).sum();
        if total > i64::from(spec.max_new_violations) {
            self.state = RampState::Stopped;
            self.soaking_since = None;
            let named = added.iter().map(|(cluster, policy, count)| format!("{policy} in {cluster}: {count} more"));
            self.reason = format!("violations were added: {}", listed(named.collect()));
            return self;
        }
        if self.state == RampState::Completed {
            // Somebody joined: audited for a while as all were, and then taken by the last wave again.
            self.began_at = seen.now;
            self.soaking_since = None;
        }
        self.state = RampState::Soaking;
        let next = self.next_wave(spec, seen);
        let taken = self.turned.iter().filter(|(_, wave)| **wave == self.wave).map(|(cluster, _)| cluster);
        let joining = next.iter().flat_map(|(_, clusters)| clusters);
        let waits: BTreeSet<String> = taken.chain(joining).filter_map(|cluster| self.waits_for(cluster, seen)).collect();
        if seen.members.is_empty() || !waits.is_empty() {
            self.soaking_since = None;
            self.reason =
                if waits.is_empty() { "the fleet has no members".to_owned() } else { listed(waits.into_iter().collect()) };
            return self;
        }
        self.reason.clear();
        let since = *self.soaking_since.get_or_insert(seen.now);
        let soak = match self.wave {
            0 => spec.audit_soak,
            wave => spec.waves[wave as usize - 1].soak,
        };
        if seen.now.duration_since(since) < SignedDuration::try_from(soak).unwrap_or(SignedDuration::MAX) {
            return self;
        }
        self.soaking_since = None;
        match next {
            None => self.state = RampState::Completed,
            Some((wave, clusters)) => {
                self.wave = wave;
                self.began_at = seen.now;
                self.turned.extend(clusters.into_iter().map(|cluster| (cluster, wave)));
                // Of a cluster that is silent now, what it said last is still what it is compared with.
                self.baseline.retain(|cluster, _| seen.members[cluster].failing.is_none());
                self.note(seen);
            }
        }
        self
    }

    /// What is waited for in a cluster; `None` where it is as it should be.
    fn waits_for(&self, cluster: &str, seen: &Seen) -> Option<String> {
        let member = seen.members.get(cluster)?;
        if self.turned.contains_key(cluster) && !member.enforces {
            return Some(format!("{cluster} has not been told to enforce"));
        }
        if !member.is_in_force {
            return Some(format!("{cluster} does not have the policies in force"));
        }
        member.failing.is_none().then(|| format!("{cluster} has not reported"))
    }

    /// The next wave that takes anybody, with whom; the last one again for those who joined since.
    fn next_wave(&self, spec: &RampSpec, seen: &Seen) -> Option<(u32, BTreeSet<String>)> {
        let rest = || seen.members.iter().filter(|(cluster, _)| !self.turned.contains_key(*cluster));
        let all = u32::try_from(seen.members.len()).unwrap_or(u32::MAX);
        for wave in self.wave + 1..=last(spec) {
            let clusters: BTreeSet<String> = match &spec.waves[wave as usize - 1].selector {
                WaveSelector::Percent(percent) => {
                    let wanted = (u64::from(all) * u64::from(*percent)).div_ceil(100);
                    let missing = wanted.saturating_sub(self.turned.len() as u64);
                    rest().take(usize::try_from(missing).unwrap_or(usize::MAX)).map(|(cluster, _)| cluster.clone()).collect()
                }
                selector => rest().filter(|(cluster, member)| takes(selector, cluster, member)).map(|(c, _)| c.clone()).collect(),
            };
            if !clusters.is_empty() {
                return Some((wave, clusters));
            }
        }
        let rest: BTreeSet<String> = rest().map(|(cluster, _)| cluster.clone()).collect();
        (!rest.is_empty()).then_some((last(spec), rest))
    }
}

fn last(spec: &RampSpec) -> u32 {
    u32::try_from(spec.waves.len()).unwrap_or(u32::MAX)
}

fn takes(selector: &WaveSelector, cluster: &str, member: &MemberSeen) -> bool {
    match selector {
        WaveSelector::All | WaveSelector::Percent(_) => true,
        WaveSelector::Fleet(fleet) => member.fleets.contains(fleet),
        WaveSelector::Clusters(names) => names.iter().any(|name| name == cluster),
        WaveSelector::Labels(selector) => selector.matches(&member.labels),
    }
}

/// Where more fails than when the wave began: cluster, policy, how many more.
fn added(baseline: &Counts, seen: &Seen) -> Vec<(String, String, i64)> {
    let mut added = Vec::new();
    for (cluster, member) in &seen.members {
        for (policy, failing) in member.failing.iter().flatten() {
            let before = baseline.get(cluster).and_then(|counts| counts.get(policy)).copied().unwrap_or(*failing);
            if *failing > before {
                added.push((cluster.clone(), policy.clone(), failing - before));
            }
        }
    }
    added
}

fn listed(mut items: Vec<String>) -> String {
    let more = items.len().saturating_sub(NAMED);
    items.truncate(NAMED);
    if more > 0 {
        items.push(format!("and {more} more"));
    }
    items.join(", ")
}
