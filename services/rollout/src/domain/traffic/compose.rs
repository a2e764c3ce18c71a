//! Putting a target's bundle together: what git renders, with copies for Deployments and weights in the routes.

use super::copy::{Copy, belongs, deployment, disown_replicas, plain, revisioned};
use super::object::{identity, is_istio, is_workload, kind, scales};
use super::route::{self, Share};
use super::rule::{self, Subset};
use super::{ManagedWorkload, TrafficError, inspect};
use crate::domain::spec::TrafficSpec;
use muster_core::labels::{GPU_RESOURCE, REVISION};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What a bundle is composed of.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// What git renders for the target at the commit that is released.
    pub rendered: &'a [Value],
    /// `rollout.traffic`.
    pub traffic: Option<&'a TrafficSpec>,
    /// What serves beside it, where something does.
    pub stable: Option<Stable<'a>>,
    /// The candidate's share of the traffic in percent; without a stable copy it has all of it.
    pub weight: u8,
}

/// The version that served before.
#[derive(Debug, Clone, Copy)]
pub struct Stable<'a> {
    /// What git rendered for it.
    pub rendered: &'a [Value],
    /// Managed workload → the subset by which routes know its copy, as the bundle before it reported.
    pub subsets: &'a BTreeMap<String, String>,
}

/// A bundle and what it holds of each managed workload.
#[derive(Debug, Clone, PartialEq)]
pub struct Composed {
    /// Every object of the bundle.
    pub objects: Vec<Value>,
    /// Copies, the candidate's before the stable one; empty where nothing is managed.
    pub copies: Vec<CopyShare>,
}

/// One copy in a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyShare {
    /// The Deployment's name in git.
    pub workload: String,
    /// The copy's revision.
    pub revision: String,
    /// The copy's `version` label.
    pub version: String,
    /// The subset that routes know it by; empty for a plain Deployment that no subset can select.
    pub subset: String,
    /// Its share of the traffic in percent.
    pub weight: u8,
    /// Whether it is what is released, rather than what served before.
    pub candidate: bool,
}

impl Composed {
    /// Managed workload → subset of the candidate's copy, to be given back as [`Stable::subsets`] one release later.
    pub fn candidate_subsets(&self) -> BTreeMap<String, String> {
        self.copies.iter().filter(|copy| copy.candidate).map(|copy| (copy.workload.clone(), copy.subset.clone())).collect()
    }
}

/// The two versions of one managed workload and their shares.
struct Pair {
    managed: ManagedWorkload,
    candidate: Copy,
    candidate_subset: String,
    stable: Option<(Copy, String)>,
    weight: u8,
}

/// The bundle of a target.
pub fn compose(wanted: Wanted<'_>) -> Result<Composed, TrafficError> {
    let pairs = pairs(wanted)?;
    let mut objects = Vec::new();
    let mut routed_rules = vec![false; pairs.len()];
    for object in wanted.rendered {
        let mut object = object.clone();
        let mut replaced = false;
        for (index, pair) in pairs.iter().enumerate() {
            let workload = deployment(wanted.rendered, &pair.managed).expect("a managed workload is rendered");
            if is_workload(&object) && identity(&object) == identity(workload) {
                objects.extend(pair.candidate.objects.iter().cloned());
                replaced = true;
            } else if belongs(&object, workload, wanted.rendered) {
                replaced = true;
            } else if rule::is_rule_of(&object, &pair.managed) {
                rule::rewrite(&mut object, &pair.subsets());
                routed_rules[index] = true;
            } else if route::leads_to(&object, &pair.managed) {
                route::rewrite(&mut object, &pair.managed, &pair.shares())?;
            }
        }
        if !replaced {
            objects.push(object);
        }
    }
    for (pair, has_rule) in pairs.iter().zip(routed_rules) {
        if let Some((stable, _)) = &pair.stable {
            objects.extend(stable.objects.iter().cloned());
        }
        if !has_rule {
            let api_version = wanted
                .rendered
                .iter()
                .find(|object| is_istio(object, "VirtualService"))
                .and_then(|route| route["apiVersion"].as_str())
                .unwrap_or("networking.istio.io/v1");
            let mut added = rule::new_rule(api_version, &pair.managed);
            rule::rewrite(&mut added, &pair.subsets());
            objects.push(added);
        }
    }
    Ok(Composed { objects: settled(objects), copies: pairs.iter().flat_map(Pair::copy_shares).collect() })
}

/// The shares a candidate is given one after the other in a target: the user's weight for the new subset first, then the
/// wave's greater ones, 100 last. Empty where the target updates in place; `[100]` where there is nothing to shift from.
pub fn steps(wanted: Wanted<'_>, wave: &[u8]) -> Result<Vec<u8>, TrafficError> {
    let pairs = pairs(Wanted { weight: 1, ..wanted })?;
    if pairs.is_empty() {
        return Ok(Vec::new());
    }
    let Some(pair) = pairs.iter().find(|pair| pair.weight < 100) else { return Ok(vec![100]) };
    let first = route::weight_in_git(wanted.rendered, &pair.managed, &pair.candidate_subset);
    let mut steps: Vec<u8> = first.into_iter().collect();
    steps.extend(wave.iter().copied().filter(|weight| first.is_none_or(|first| *weight > first)));
    if steps.last() != Some(&100) {
        steps.push(100);
    }
    Ok(steps)
}

fn pairs(wanted: Wanted<'_>) -> Result<Vec<Pair>, TrafficError> {
    let mut pairs = Vec::new();
    for managed in inspect(wanted.rendered, wanted.traffic)? {
        let candidate = revisioned(wanted.rendered, &managed)?;
        let stable = match wanted.stable {
            Some(stable) => stable_copy(stable, wanted, &managed, &candidate)?,
            None => None,
        };
        let stable = stable.filter(|(copy, _)| copy.objects.iter().any(|object| !candidate.objects.contains(object)));
        let taken = stable.as_ref().map(|(_, subset)| subset.as_str());
        let candidate_subset = match (wanted.stable, &stable) {
            // The copy that serves goes on under the name that routes know it by.
            (Some(known), None) if known.subsets.contains_key(&managed.workload) => known.subsets[&managed.workload].clone(),
            _ => rule::subset_name(wanted.rendered, &managed, &candidate, taken),
        };
        let splits = stable.as_ref().is_some_and(|(copy, _)| !copy.subset_labels.is_empty());
        let weight = if splits { wanted.weight.min(100) } else { 100 };
        pairs.push(Pair { managed, candidate, candidate_subset, stable, weight });
    }
    Ok(pairs)
}

/// The stable copy of a workload and its subset: a copy of the last release, or the plain Deployment that served before
/// traffic was managed.
fn stable_copy(
    stable: Stable<'_>,
    wanted: Wanted<'_>,
    managed: &ManagedWorkload,
    candidate: &Copy,
) -> Result<Option<(Copy, String)>, TrafficError> {
    if deployment(stable.rendered, managed).is_none() {
        return Ok(None);
    }
    let was_managed = inspect(stable.rendered, wanted.traffic)?.iter().any(|known| known.workload == managed.workload);
    let copy = if was_managed {
        let copy = revisioned(stable.rendered, managed)?;
        if copy.revision == candidate.revision {
            return Ok(None);
        }
        Some(copy)
    } else {
        plain(stable.rendered, managed, &candidate.version)
    };
    Ok(copy.map(|copy| {
        let subset = match stable.subsets.get(&managed.workload) {
            Some(subset) => subset.clone(),
            None if copy.subset_labels.is_empty() => String::new(),
            None => rule::subset_name(wanted.rendered, managed, &copy, None),
        };
        (copy, subset)
    }))
}

impl Pair {
    fn subsets(&self) -> Vec<Subset<'_>> {
        let stable = self.stable.iter().map(|(copy, name)| Subset { name: name.clone(), copy });
        let candidate = Subset { name: self.candidate_subset.clone(), copy: &self.candidate };
        stable.chain([candidate]).collect()
    }

    fn shares(&self) -> Vec<Share> {
        let stable = self
            .stable
            .iter()
            .filter(|(copy, _)| !copy.subset_labels.is_empty())
            .map(|(_, subset)| Share { subset: subset.clone(), weight: 100 - self.weight });
        let candidate = Share { subset: self.candidate_subset.clone(), weight: self.weight };
        stable.chain([candidate]).collect()
    }

    fn copy_shares(&self) -> Vec<CopyShare> {
        let candidate = CopyShare {
            workload: self.managed.workload.clone(),
            revision: self.candidate.revision.clone(),
            version: self.candidate.version.clone(),
            subset: self.candidate_subset.clone(),
            weight: self.weight,
            candidate: true,
        };
        let stable = self.stable.iter().map(|(copy, subset)| CopyShare {
            workload: self.managed.workload.clone(),
            revision: copy.revision.clone(),
            version: copy.version.clone(),
            subset: subset.clone(),
            weight: 100 - self.weight,
            candidate: false,
        });
        [candidate].into_iter().chain(stable).collect()
    }
}

/// One object per identity (two copies may share a hashed ConfigMap), and no replicas where something scales.
fn settled(objects: Vec<Value>) -> Vec<Value> {
    let mut settled: Vec<Value> = Vec::with_capacity(objects.len());
    for object in objects {
        if !settled.iter().any(|known| identity(known) == identity(&object)) {
            settled.push(object);
        }
    }
    let scaled: Vec<usize> = (0..settled.len())
        .filter(|index| is_workload(&settled[*index]) && settled.iter().any(|object| scales(object, &settled[*index])))
        .collect();
    for index in scaled {
        disown_replicas(&mut settled[index]);
    }
    settled.iter_mut().for_each(make_room);
    settled
}

/// A Deployment that takes GPUs and is updated under its own name gives one up before it takes the next, unless git says how:
/// Kubernetes' default starts a pod more than there are, for which a site with as many GPUs as replicas has no room.
fn make_room(object: &mut Value) {
    let is_copy = object["metadata"]["labels"].get(REVISION).is_some();
    if kind(object) != "Deployment" || is_copy || object["spec"].get("strategy").is_some() || !takes_gpus(object) {
        return;
    }
    object["spec"]["strategy"] = json!({ "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 0, "maxUnavailable": 1 } });
}

fn takes_gpus(workload: &Value) -> bool {
    let containers = workload["spec"]["template"]["spec"]["containers"].as_array();
    containers
        .into_iter()
        .flatten()
        .any(|container| ["requests", "limits"].into_iter().any(|list| container["resources"][list].get(GPU_RESOURCE).is_some()))
}

/// What a target's pods are called in metrics: the version and the revision of the workload that is released.
///
/// The first managed workload; in place, the first Deployment, StatefulSet or DaemonSet that the release changes, else
/// the first there is. Empty where the target holds no workload.
pub fn headline(rendered: &[Value], traffic: Option<&TrafficSpec>, before: &[Value]) -> Result<(String, String), TrafficError> {
    if let Some(managed) = inspect(rendered, traffic)?.first() {
        let copy = revisioned(rendered, managed)?;
        return Ok((copy.version, copy.revision));
    }
    let same_before = |workload: &Value| {
        before
            .iter()
            .any(|known| identity(known) == identity(workload) && known["spec"]["template"] == workload["spec"]["template"])
    };
    let workloads: Vec<&Value> = rendered.iter().filter(|object| is_workload(object)).collect();
    let changed = workloads.iter().find(|workload| !same_before(workload)).or(workloads.first());
    Ok(changed.map_or_else(Default::default, |workload| {
        let revision = super::revision::revision(workload, rendered);
        (super::revision::version(workload, &revision), revision)
    }))
}
