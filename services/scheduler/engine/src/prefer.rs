//! Why one place comes before another, in words: what a job's work costs and emits where, and how fast it is there.

use std::fmt;

use crate::class::{Class, FlavorId, time_of};
use crate::cluster::{Candidate, Cluster};
use crate::egress::of_an_hour;
use crate::engine::{Engine, Job};
use crate::nodes::Nodes;
use crate::spec::{Prefers, TierOpens};

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
    /// What an hour's work costs.
    Price(WorkPrice, WorkPrice),
    /// The order of the tier's list.
    Listed,
    /// Milligrams of CO2e that an hour's work emits; `None` where that is not known.
    Emissions(Option<i64>, Option<i64>),
    /// How far the job is ahead of what is typical of the model, in eighths of a doubling.
    Advantage(i64, i64),
    /// How fast it is, in thousandths.
    Speed(i64, i64),
    /// The name: nothing else differs.
    Name,
}

/// What the work of an hour at normal speed costs on one GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkPrice {
    /// For the GPU, in millionths; `None` without a price.
    pub gpu: Option<i64>,
    /// For moving the job's dataset, spread over the work that is expected, in millionths; 0 if there is nothing to move; `None` without
    /// a price.
    pub moving: Option<i64>,
}

impl WorkPrice {
    /// Both together; `None` if there is no price for one of them.
    #[must_use]
    pub fn whole(self) -> Option<i64> {
        Some(self.gpu?.saturating_add(self.moving?))
    }

    /// The lesser, the sooner the place is tried: where a price is missing it is last, and of such places the one to which moving costs
    /// least is first, then the one whose GPUs do.
    fn key(self) -> [i64; 3] {
        match self.whole() {
            Some(whole) => [whole, 0, 0],
            None => [i64::MAX, self.moving.unwrap_or(i64::MAX), self.gpu.unwrap_or(i64::MAX)],
        }
    }
}

impl fmt::Display for WorkPrice {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |micros: i64| format!("{}.{:02}", micros / 1_000_000, micros % 1_000_000 / 10_000);
        match (self.gpu, self.moving) {
            (_, None) => write!(out, "has no price for moving its dataset"),
            (Some(gpu), Some(0)) => write!(out, "costs {}", shown(gpu)),
            (Some(gpu), Some(moving)) => {
                let whole = shown(gpu.saturating_add(moving));
                write!(out, "costs {whole} with {} of it for moving its dataset", shown(moving))
            }
            (None, Some(0)) => write!(out, "has no price"),
            (None, Some(moving)) => write!(out, "has no price but {} for moving its dataset", shown(moving)),
        }
    }
}

impl fmt::Display for Preference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first: (cluster, flavor), next: (next_cluster, next_flavor), by } = self;
        write!(out, "{flavor} on {cluster} comes before {next_flavor} on {next_cluster}: ")?;
        let times = |permille: i64| format!("{}.{:02} ×", permille / 1_000, permille % 1_000 / 10);
        match *by {
            By::Tier => write!(out, "its tier is tried first"),
            By::Price(first, next) => write!(out, "an hour's work {first} there, and {next} on the other"),
            By::Listed => write!(out, "its tier lists it first"),
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
            // The same for all models of a cluster.
            moving: Some(0),
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
                work_price_micros: place.work_price().gpu,
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
            let counts = match prefers {
                Prefers::Greenest | Prefers::Listed => true,
                Prefers::Cheapest | Prefers::Fastest => class.gang.dataset.is_some(),
            };
            candidate.flavor != first.flavor || (counts && elsewhere)
        };
        let next = places.iter().find(differs)?;
        let name = |candidate: &Candidate| {
            let flavor = candidate.flavor.map_or("", |flavor| self.flavors.name(flavor));
            (self.sites[candidate.cluster].name.clone(), flavor.to_owned())
        };
        let lasts_ms = TierOpens::lasts_ms(job.expected_ms);
        let place = |candidate: &Candidate| Place::of(class, candidate, lasts_ms);
        let ahead = |candidate: &Candidate| {
            candidate.flavor.map_or(0, |flavor| self.typical.advantage(flavor, class.known_speed(Some(flavor))))
        };
        let (one, other) = (place(first), place(next));
        let prices = (one.work_price(), other.work_price());
        let by_price = (prices.0.key() != prices.1.key()).then_some(By::Price(prices.0, prices.1));
        let place_in_list = |candidate: &Candidate| {
            let tier = self.queues.tiers(job.queue).get(candidate.tier);
            tier.map(|tier| tier.place_of(&self.sites[candidate.cluster].name))
        };
        let by_list = (place_in_list(first) != place_in_list(next)).then_some(By::Listed);
        let by_name = (first.cluster != next.cluster).then_some(By::Name);
        let by_speed = (one.speed != other.speed).then_some(By::Speed(one.speed, other.speed));
        let emissions = (one.work_emissions(), other.work_emissions());
        let by_emissions = (emissions.0 != emissions.1).then_some(By::Emissions(emissions.0, emissions.1));
        let by_advantage = (ahead(first) != ahead(next)).then(|| By::Advantage(ahead(first), ahead(next)));
        let by = match prefers {
            _ if first.tier != next.tier => By::Tier,
            Prefers::Cheapest => by_price.or(by_speed).unwrap_or(By::Name),
            Prefers::Greenest => by_emissions.or(by_price).or(by_speed).unwrap_or(By::Name),
            Prefers::Listed => by_list.or(by_name).or(by_price).or(by_speed).unwrap_or(By::Name),
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
    /// What moving the dataset adds to an hour's work, in millionths.
    pub(crate) moving: Option<i64>,
}

impl Place {
    /// A place of a gang that is expected to be of so much work.
    pub(crate) fn of(class: &Class, candidate: &Candidate, lasts_ms: i64) -> Self {
        Self {
            speed: class.known_speed(candidate.flavor),
            price: candidate.price,
            emissions: candidate.emissions,
            moving: candidate.egress.map(|egress| of_an_hour(egress, lasts_ms, class.gpus)),
        }
    }

    /// Price of the work of an hour at normal speed.
    fn work_price(self) -> WorkPrice {
        WorkPrice { gpu: self.price.map(|price| time_of(price, self.speed)), moving: self.moving }
    }

    /// Milligrams of CO2e that the work of an hour at normal speed emits.
    fn work_emissions(self) -> Option<i64> {
        self.emissions.map(|emissions| time_of(emissions, self.speed))
    }

    /// What so much time costs there in what is preferred: money or emissions of an hour × milliseconds, or milliseconds; `None` where
    /// that is not known. Emissions count for an hour at most: what electricity emits changes with the hour.
    pub(crate) fn costs(self, prefers: Prefers, lasts_ms: i64) -> Option<i128> {
        let (each, lasts_ms) = match prefers {
            Prefers::Cheapest | Prefers::Listed => (self.price?, lasts_ms),
            Prefers::Greenest => (self.emissions?, lasts_ms.min(HOUR_MS)),
            Prefers::Fastest => (1, lasts_ms),
        };
        Some(i128::from(each) * i128::from(lasts_ms))
    }

    /// The lesser, the sooner it is tried. What is cheapest goes by the price of a unit of work (none is last), then by speed; what is
    /// fastest by its advantage, then by speed; what is greenest by what a unit of work emits (unknown is last), then by its price. Of
    /// what is listed the models of one cluster go by price.
    pub(crate) fn key(self, prefers: Prefers, advantage: i64) -> [i64; 5] {
        let [price, moving, gpu] = self.work_price().key();
        match prefers {
            Prefers::Cheapest | Prefers::Listed => [price, moving, gpu, -self.speed, 0],
            Prefers::Fastest => [-advantage, -self.speed, price, moving, gpu],
            Prefers::Greenest => [self.work_emissions().unwrap_or(i64::MAX), price, moving, gpu, -self.speed],
        }
    }
}
