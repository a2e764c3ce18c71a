//! Whether a gang that may be split finds room on clusters of one region together, and how far it is from that. Reads only.

use std::cmp::Reverse;
use std::fmt;

use crate::class::Class;
use crate::cluster::{Candidate, tier_of};
use crate::engine::{Engine, Job};
use crate::groups::of_regions;
use crate::lanes::work_over;
use crate::nodes::{Nodes, Piece, Spread, split};
use crate::parts::gpus_at;
use crate::queues::{QueueIndex, Work};
use crate::span::Span;

/// What clusters of one region have together for a gang that may be split, where none has room for all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpanVerdict {
    /// The region.
    pub region: String,
    /// The GPU model; `None` for a gang without GPUs.
    pub flavor: Option<String>,
    /// The tier of these clusters, from 0.
    pub tier: usize,
    /// Whether it is open to the job.
    pub open: bool,
    /// How many workers each would get, the one with most of them first. Where not all find room: how many would.
    pub parts: Vec<(String, u64)>,
    /// Workers of the gang.
    pub workers: u64,
    /// Whole GPUs of the model that are free on all clusters of the region.
    pub gpus_free: i64,
}

/// The same with what only the engine needs of it.
pub(crate) struct OverRegions {
    pub(crate) verdict: SpanVerdict,
    /// What the gang would count with in budgets.
    pub(crate) work: Work,
    /// Whether some region could hold it with nothing else there.
    pub(crate) is_possible: bool,
}

impl SpanVerdict {
    /// Workers that find room.
    #[must_use]
    pub fn fitting(&self) -> u64 {
        self.parts.iter().map(|(_, workers)| workers).sum()
    }

    /// Whether the whole gang does.
    #[must_use]
    pub fn fits(&self) -> bool {
        self.fitting() == self.workers
    }
}

impl fmt::Display for SpanVerdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { region, flavor, tier, open, parts, workers, gpus_free } = self;
        let parts: Vec<String> = parts.iter().map(|(cluster, workers)| format!("{workers} on {cluster}")).collect();
        let parts = parts.join(", ");
        if self.fits() {
            let once = if *open { String::new() } else { format!(" once tier {tier} is open") };
            return write!(out, "its {workers} workers have room in region {region}{once}: {parts}");
        }
        write!(out, "region {region} comes closest: ")?;
        if let Some(flavor) = flavor {
            write!(out, "{gpus_free} GPUs {flavor} are free there, ")?;
        }
        write!(out, "room for {} of {workers} workers", self.fitting())?;
        if parts.is_empty() { Ok(()) } else { write!(out, " ({parts})") }
    }
}

impl Engine {
    /// How a gang that may be split would be, if none of its places has room for all of it; of several regions the first one with room in
    /// an open tier, else with room, else with the most room. `None` where no region has two clusters for it.
    pub(crate) fn look_over_regions(&self, job: &Job, class: &Class, places: &[Candidate], open: usize) -> Option<OverRegions> {
        if class.gang.span == Span::Cluster {
            return None;
        }
        let verdicts = of_regions(places, &self.sites).into_iter().map(|of_region| {
            let of_region: Vec<&Candidate> = of_region.into_iter().map(|place| &places[place as usize]).collect();
            self.verdict_of_region(job, class, &of_region, open)
        });
        let best = verdicts.min_by_key(|(verdict, _)| (!verdict.fits(), !verdict.open, Reverse(verdict.fitting())));
        let (verdict, work) = best?;
        let is_possible = verdict.fits() || self.could_be_split(class, places);
        Some(OverRegions { verdict, work, is_possible })
    }

    fn verdict_of_region(&self, job: &Job, class: &Class, of_region: &[&Candidate], open: usize) -> (SpanVerdict, Work) {
        let nodes: Vec<Nodes> = of_region.iter().map(|candidate| self.sites[candidate.cluster].nodes.clone()).collect();
        let (flavor, tier) = (of_region[0].flavor, of_region[0].tier);
        let gpus_free = flavor.map_or(0, |flavor| nodes.iter().map(|nodes| nodes.gpus_free(flavor)).sum());
        let (Ok(pieces) | Err(pieces)) = self.try_split(class, of_region, nodes);
        let site = |candidate: &Candidate| &self.sites[candidate.cluster];
        let region = site(of_region[0]).cluster.as_ref().map_or("", |cluster| &cluster.spec.region);
        let workers = |(at, places): &Piece| {
            let workers = places.iter().map(|place| u64::from(place.workers)).sum();
            (site(of_region[*at]).name.clone(), workers)
        };
        let verdict = SpanVerdict {
            region: region.to_owned(),
            flavor: flavor.map(|flavor| self.flavors.name(flavor).to_owned()),
            tier,
            open: tier < open,
            parts: pieces.iter().map(workers).collect(),
            workers: class.gang.workers(),
            gpus_free,
        };
        let parts = pieces.iter().map(|(at, places)| (of_region[*at], gpus_at(&self.resources, class, places)));
        (verdict, work_over(job.expected_ms, class, parts))
    }

    fn try_split(&self, class: &Class, of_region: &[&Candidate], mut nodes: Vec<Nodes>) -> Result<Vec<Piece>, Vec<Piece>> {
        let flavor = of_region[0].flavor;
        let spread = Spread::of(class, flavor, &nodes);
        split(class, flavor, &mut nodes, &spread, &self.resources, &self.mix)
    }

    /// Whether a gang may be split and some of these places of one region could hold it with nothing else there.
    pub(crate) fn could_be_split(&self, class: &Class, places: &[Candidate]) -> bool {
        let fits = |of_region: Vec<u32>| {
            let of_region: Vec<&Candidate> = of_region.into_iter().map(|place| &places[place as usize]).collect();
            let nodes = of_region.iter().map(|candidate| self.sites[candidate.cluster].nodes.emptied(&self.resources));
            self.try_split(class, &of_region, nodes.collect()).is_ok()
        };
        class.gang.span == Span::Region && of_regions(places, &self.sites).into_iter().any(fits)
    }

    /// Every place in the tiers of a queue that suits a gang, whatever the cluster's state.
    pub(crate) fn places_in_any_state(&self, queue: QueueIndex, class: &Class) -> Vec<Candidate> {
        let mut places = Vec::new();
        for (index, site) in self.sites.iter().enumerate() {
            let Some(cluster) = site.cluster.as_ref().filter(|cluster| cluster.serves(&class.gang.api)) else { continue };
            let Some(tier) = tier_of(self.queues.tiers(queue), &cluster.spec) else { continue };
            for flavor in self.flavors_for(class, &site.nodes) {
                places.push(Candidate { tier, cluster: index, flavor, price: None, emissions: None, egress: None });
            }
        }
        places
    }
}
