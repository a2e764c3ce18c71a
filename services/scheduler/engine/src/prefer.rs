//! Why one place comes before another, in words: what a job's work costs and emits where, and how fast it is there.

use std::fmt;

use crate::class::{Class, FlavorId, time_of};
use crate::cluster::{Candidate, Cluster};
use crate::engine::{Engine, Job};
use crate::nodes::Nodes;
use crate::spec::Prefers;

const HOUR_MS: i64 = 60 * 60 * 1_000;

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
    /// Milligrams of CO2e that the work of an hour at normal speed emits, on one GPU.
    pub work_emissions: Option<i64>,
}

/// Why the first place comes before the next one on another model, or, where the greenest are preferred, on another cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preference {
    /// Cluster and model of the first place.
    pub first: (String, String),
    /// Of the next one.
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
    /// Milligrams of CO2e that an hour's work emits; `None` where that is not known.
    Emissions(Option<i64>, Option<i64>),
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
            By::Emissions(first, next) => {
                let grams = |emissions: Option<i64>| match emissions {
                    Some(milligrams) => format!("emits {}.{} g of CO2e", milligrams / 1_000, milligrams % 1_000 / 100),
                    None => "emits nobody knows what".to_owned(),
                };
                write!(out, "an hour's work {} there, and {} on the other", grams(first), grams(next))
            }
            By::Advantage(first, next) => {
                let ahead = |eighths: i64| times((1_000.0 * (eighths as f64 / 8.0).exp2()).round() as i64);
                write!(out, "it is {} as fast as is typical there, and {} on the other", ahead(first), ahead(next))
            }
            By::Speed(first, next) => {
                write!(out, "it is {} as fast as normal there, and {} on the other", times(first), times(next))
            }
            By::Name => write!(out, "by name, since nothing else differs"),
        }
    }
}

impl Engine {
    /// The models of a cluster that would do for a job, the first one to be tried first.
    pub(crate) fn model_verdicts(&self, job: &Job, class: &Class, cluster: &Cluster, nodes: &Nodes) -> Vec<ModelVerdict> {
        let mut models: Vec<FlavorId> = self.flavors_for(class, nodes).into_iter().flatten().collect();
        let prefers = self.queues.prefers(job.queue);
        let place = |flavor: FlavorId| Place {
            speed: class.known_speed(Some(flavor)),
            price: cluster.price(&self.flavors, flavor),
            emissions: cluster.emissions(&self.flavors, flavor),
        };
        models.sort_by_key(|flavor| {
            let place = place(*flavor);
            (place.key(prefers, self.typical.advantage(*flavor, place.speed)), self.flavors.name(*flavor))
        });
        let verdict = |flavor: FlavorId| {
            let (name, place) = (self.flavors.name(flavor), place(flavor));
            let known = match (class.known_speeds.contains_key(&flavor), class.gang.speeds.is_empty()) {
                (true, false) => SpeedFrom::Said,
                (true, true) => SpeedFrom::Learned { runs: self.estimates.runs_on(job.likeness, name) },
                (false, _) => SpeedFrom::Assumed,
            };
            ModelVerdict {
                flavor: name.to_owned(),
                price_micros: place.price,
                speed: place.speed,
                known,
                work_price_micros: place.work_price(),
                work_emissions: place.work_emissions(),
            }
        };
        models.into_iter().map(verdict).collect()
    }

    /// Why the first of a job's places comes before the next one, if there are two that differ in what is preferred.
    pub(crate) fn preference(&self, job: &Job, class: &Class, places: &[Candidate]) -> Option<Preference> {
        let first = places.first()?;
        let prefers = self.queues.prefers(job.queue);
        // Prices and speeds go with the model, emissions with the cluster too.
        let differs = |candidate: &&Candidate| {
            let elsewhere = first.flavor.is_some() && candidate.cluster != first.cluster;
            candidate.flavor != first.flavor || (prefers == Prefers::Greenest && elsewhere)
        };
        let next = places.iter().find(differs)?;
        let name = |candidate: &Candidate| {
            let flavor = candidate.flavor.map_or("", |flavor| self.flavors.name(flavor));
            (self.sites[candidate.cluster].name.clone(), flavor.to_owned())
        };
        let place = |candidate: &Candidate| Place {
            speed: class.known_speed(candidate.flavor),
            price: candidate.price,
            emissions: candidate.emissions,
        };
        let ahead = |candidate: &Candidate| {
            candidate.flavor.map_or(0, |flavor| self.typical.advantage(flavor, class.known_speed(Some(flavor))))
        };
        let (one, other) = (place(first), place(next));
        let by_price = (one.work_price() != other.work_price()).then(|| By::Price(one.work_price(), other.work_price()));
        let by_speed = (one.speed != other.speed).then_some(By::Speed(one.speed, other.speed));
        let emissions = (one.work_emissions(), other.work_emissions());
        let by_emissions = (emissions.0 != emissions.1).then_some(By::Emissions(emissions.0, emissions.1));
        let by_advantage = (ahead(first) != ahead(next)).then(|| By::Advantage(ahead(first), ahead(next)));
        let by = match prefers {
            _ if first.tier != next.tier => By::Tier,
            Prefers::Cheapest => by_price.or(by_speed).unwrap_or(By::Name),
            Prefers::Greenest => by_emissions.or(by_price).or(by_speed).unwrap_or(By::Name),
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
    /// Of a GPU-hour, in milligrams of CO2e.
    pub(crate) emissions: Option<i64>,
}

impl Place {
    /// Price of the work of an hour at normal speed.
    fn work_price(self) -> Option<i64> {
        self.price.map(|price| time_of(price, self.speed))
    }

    /// Milligrams of CO2e that the work of an hour at normal speed emits.
    fn work_emissions(self) -> Option<i64> {
        self.emissions.map(|emissions| time_of(emissions, self.speed))
    }

    /// What so much time costs there in what is preferred: money or emissions of an hour × milliseconds, or milliseconds; `None` where
    /// that is not known. Emissions count for an hour at most: what electricity emits changes with the hour.
    pub(crate) fn costs(self, prefers: Prefers, lasts_ms: i64) -> Option<i128> {
        let (each, lasts_ms) = match prefers {
            Prefers::Cheapest => (self.price?, lasts_ms),
            Prefers::Greenest => (self.emissions?, lasts_ms.min(HOUR_MS)),
            Prefers::Fastest => (1, lasts_ms),
        };
        Some(i128::from(each) * i128::from(lasts_ms))
    }

    /// The lesser, the sooner it is tried. What is cheapest goes by the price of a unit of work (none is last), then by speed; what is
    /// fastest by its advantage, then by speed; what is greenest by what a unit of work emits (unknown is last), then by its price.
    pub(crate) fn key(self, prefers: Prefers, advantage: i64) -> [i64; 3] {
        let price = self.work_price().unwrap_or(i64::MAX);
        match prefers {
            Prefers::Cheapest => [price, -self.speed, 0],
            Prefers::Fastest => [-advantage, -self.speed, price],
            Prefers::Greenest => [self.work_emissions().unwrap_or(i64::MAX), price, -self.speed],
        }
    }
}
