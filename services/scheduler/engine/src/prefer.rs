//! Why one place comes before another, in words: what a job's work costs where, and how fast it is there.

use std::fmt;

use crate::class::{Class, FlavorId, time_of};
use crate::cluster::{Candidate, Cluster};
use crate::engine::{Engine, Job};
use crate::nodes::Nodes;
use crate::spec::Prefers;

/// How the speed of a job on a GPU model is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpeedFrom {
    /// The job says it.
    Said,
    /// Learned from runs of its like.
    Learned {
        /// How many have finished on the model.
        runs: u32,
    },
    /// Nothing is known: it is taken to be normal.
    Assumed,
}

/// A GPU model of a cluster for a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelVerdict {
    /// The model.
    pub flavor: String,
    /// Price of a GPU-hour in millionths.
    pub price_micros: Option<i64>,
    /// How fast the job is there, in thousandths.
    pub speed: i64,
    /// How that is known.
    pub known: SpeedFrom,
    /// Price of the work of an hour at normal speed, on one GPU.
    pub work_price_micros: Option<i64>,
}

/// Why the first place comes before the next one on another model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preference {
    /// Cluster and model of the first place.
    pub first: (String, String),
    /// Of the next one on another model.
    pub next: (String, String),
    /// What decides.
    pub by: By,
}

/// What decides between two places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The tier.
    Tier,
    /// What an hour's work costs, in millionths; `None` without a price.
    Price(Option<i64>, Option<i64>),
    /// How far the job is ahead of what is typical of the model, in eighths of a doubling.
    Advantage(i64, i64),
    /// How fast it is, in thousandths.
    Speed(i64, i64),
    /// The name: nothing else differs.
    Name,
}

impl fmt::Display for Preference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first: (cluster, flavor), next: (next_cluster, next_flavor), by } = self;
        write!(out, "{flavor} on {cluster} comes before {next_flavor} on {next_cluster}: ")?;
        let price = |price: Option<i64>| match price {
            Some(micros) => format!("costs {}.{:02}", micros / 1_000_000, micros % 1_000_000 / 10_000),
            None => "has no price".to_owned(),
        };
        let times = |permille: i64| format!("{}.{:02} ×", permille / 1_000, permille % 1_000 / 10);
        match *by {
            By::Tier => write!(out, "its tier is tried first"),
            By::Price(first, next) => write!(out, "an hour's work {} there, and {} on the other", price(first), price(next)),
            By::Advantage(first, next) => {
                let ahead = |eighths: i64| times((1_000.0 * (eighths as f64 / 8.0).exp2()).round() as i64);
                write!(out, "it is {} as fast as is typical there, and {} on the other", ahead(first), ahead(next))
            }
            By::Speed(first, next) => {
                write!(out, "it is {} as fast as normal there, and {} on the other", times(first), times(next))
            }
            By::Name => write!(out, "by name, since speed and price are equal"),
        }
    }
}

impl Engine {
    /// The models of a cluster that would do for a job, the first one to be tried first.
    pub(crate) fn model_verdicts(&self, job: &Job, class: &Class, cluster: &Cluster, nodes: &Nodes) -> Vec<ModelVerdict> {
        let mut models: Vec<FlavorId> = self.flavors_for(class, nodes).into_iter().flatten().collect();
        let prefers = self.queues.prefers(job.queue);
        let price = |flavor| cluster.price(&self.flavors, flavor);
        models.sort_by_key(|flavor| {
            let place = Place { speed: class.known_speed(Some(*flavor)), price: price(*flavor) };
            (place.key(prefers, self.typical.advantage(*flavor, place.speed)), self.flavors.name(*flavor))
        });
        let verdict = |flavor: FlavorId| {
            let (name, speed) = (self.flavors.name(flavor), class.known_speed(Some(flavor)));
            let known = match (class.known_speeds.contains_key(&flavor), class.gang.speeds.is_empty()) {
                (true, false) => SpeedFrom::Said,
                (true, true) => SpeedFrom::Learned { runs: self.estimates.runs_on(job.likeness, name) },
                (false, _) => SpeedFrom::Assumed,
            };
            let price_micros = price(flavor);
            let work_price_micros = price_micros.map(|price| time_of(price, speed));
            ModelVerdict { flavor: name.to_owned(), price_micros, speed, known, work_price_micros }
        };
        models.into_iter().map(verdict).collect()
    }

    /// Why the first of a job's places comes before the next one on another model, if there are two.
    pub(crate) fn preference(&self, job: &Job, class: &Class, places: &[Candidate]) -> Option<Preference> {
        let first = places.first()?;
        let next = places.iter().find(|candidate| candidate.flavor != first.flavor)?;
        let name = |candidate: &Candidate| {
            let flavor = candidate.flavor.map_or("", |flavor| self.flavors.name(flavor));
            (self.sites[candidate.cluster].name.clone(), flavor.to_owned())
        };
        let place = |candidate: &Candidate| Place { speed: class.known_speed(candidate.flavor), price: candidate.price };
        let ahead = |candidate: &Candidate| {
            candidate.flavor.map_or(0, |flavor| self.typical.advantage(flavor, class.known_speed(Some(flavor))))
        };
        let (one, other) = (place(first), place(next));
        let by_price = (one.work_price() != other.work_price()).then(|| By::Price(one.work_price(), other.work_price()));
        let by_speed = (one.speed != other.speed).then_some(By::Speed(one.speed, other.speed));
        let by_advantage = (ahead(first) != ahead(next)).then(|| By::Advantage(ahead(first), ahead(next)));
        let by = match self.queues.prefers(job.queue) {
            _ if first.tier != next.tier => By::Tier,
            Prefers::Cheapest => by_price.or(by_speed).unwrap_or(By::Name),
            Prefers::Fastest => by_advantage.or(by_speed).or(by_price).unwrap_or(By::Name),
        };
        Some(Preference { first: name(first), next: name(next), by })
    }
}

/// What is preferred of a place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// In thousandths.
    pub(crate) speed: i64,
    /// Of a GPU-hour, in millionths.
    pub(crate) price: Option<i64>,
}

impl Place {
    /// Price of the work of an hour at normal speed.
    fn work_price(self) -> Option<i64> {
        self.price.map(|price| time_of(price, self.speed))
    }

    /// The lesser, the sooner it is tried. What is cheapest goes by the price of a unit of work (none is last), then by speed; what is
    /// fastest by its advantage, then by speed.
    pub(crate) fn key(self, prefers: Prefers, advantage: i64) -> [i64; 3] {
        let price = self.work_price().unwrap_or(i64::MAX);
        match prefers {
            Prefers::Cheapest => [price, -self.speed, 0],
            Prefers::Fastest => [-advantage, -self.speed, price],
        }
    }
}
