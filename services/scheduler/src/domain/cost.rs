//! GPU time, money, energy and emissions. Used = GPUs × (end − start) of a run, as its cluster's own object status tells them; the price is
//! that of the decision, and so are the power and what it emits. Nothing is rounded before the sum of a report is made.

use jiff::Timestamp;

use super::cluster::{HourOfDay, Price};

/// What a run is charged for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// GPUs of all replicas.
    pub gpus: u32,
    /// Millionths of the currency per GPU-hour; `None` where there is no price.
    pub price_micros: Option<i64>,
    /// ISO 4217; empty without a price.
    pub currency: String,
    /// What its GPUs draw and emit.
    pub rates: Rates,
    /// What moving its dataset is estimated to have cost; `None` where nothing was moved.
    pub egress: Option<Egress>,
    /// When its pods began.
    pub start: Timestamp,
    /// When it ended; `None` while it runs.
    pub finish: Option<Timestamp>,
}

/// What moving a dataset costs, once for a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Egress {
    /// Millionths of the currency.
    pub micros: i64,
    /// ISO 4217.
    pub currency: String,
}

/// What GPUs of a model in a cluster draw and emit, as far as that is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Watts of one GPU.
    pub watts: Option<u32>,
    /// Milligrams of CO2e of a GPU-hour.
    pub emissions_mg: Option<i64>,
}

impl Rates {
    /// The rates that a price says, at an hour of the day.
    #[must_use]
    pub fn of(price: &Price, hour: HourOfDay) -> Self {
        Self { watts: Some(price.watts).filter(|watts| *watts > 0), emissions_mg: price.emissions_mg(hour) }
    }
}

/// GPU time, money, energy and emissions so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Usage {
    /// GPUs × milliseconds.
    pub gpu_ms: i128,
    /// GPU-milliseconds × millionths per GPU-hour, not yet divided: sums stay exact.
    micros_ms_per_hour: i128,
    /// GPU-milliseconds × watts.
    watt_ms: i128,
    /// GPU-milliseconds × milligrams per GPU-hour.
    milligrams_ms_per_hour: i128,
    /// Millionths for moving datasets.
    egress_micros: i128,
    /// ISO 4217; empty where nothing was priced, `XXX` (ISO 4217's "no currency") where prices had several.
    pub currency: String,
}

/// Milliseconds of an hour.
const HOUR_MS: i128 = 3_600_000;

impl Usage {
    /// Adds what a run used within the window; an open end of the window or of the run is `now`.
    pub fn add(&mut self, charge: &Charge, window: (Option<Timestamp>, Option<Timestamp>), now: Timestamp) {
        let (from, until) = window;
        let start = from.map_or(charge.start, |from| from.max(charge.start));
        let finish = charge.finish.unwrap_or(now).min(until.unwrap_or(now));
        let elapsed_ms = i128::from((finish.as_millisecond() - start.as_millisecond()).max(0));
        let gpu_ms = elapsed_ms * i128::from(charge.gpus);
        self.gpu_ms += gpu_ms;
        self.watt_ms += gpu_ms * i128::from(charge.rates.watts.unwrap_or(0));
        self.milligrams_ms_per_hour += gpu_ms * i128::from(charge.rates.emissions_mg.unwrap_or(0));
        if let Some(price) = charge.price_micros {
            self.micros_ms_per_hour += gpu_ms * i128::from(price);
            self.is_in(&charge.currency);
        }
        // It is moved when the run begins, in one window of all those that touch each other.
        let moved = from.is_none_or(|from| charge.start >= from) && until.is_none_or(|until| charge.start < until);
        if let Some(egress) = charge.egress.as_ref().filter(|_| moved) {
            self.egress_micros += i128::from(egress.micros);
            self.is_in(&egress.currency);
        }
    }

    fn is_in(&mut self, currency: &str) {
        if self.currency.is_empty() {
            currency.clone_into(&mut self.currency);
        } else if self.currency != currency {
            "XXX".clone_into(&mut self.currency);
        }
    }

    /// GPUs × seconds.
    #[must_use]
    pub fn gpu_seconds(&self) -> f64 {
        self.gpu_ms as f64 / 1_000.0
    }

    /// Kilowatt-hours, as far as the power is known.
    #[must_use]
    pub fn energy_kwh(&self) -> f64 {
        self.watt_ms as f64 / HOUR_MS as f64 / 1_000.0
    }

    /// Grams of CO2e, as far as they are known.
    #[must_use]
    pub fn emission_grams(&self) -> f64 {
        self.milligrams_ms_per_hour as f64 / HOUR_MS as f64 / 1_000.0
    }

    /// Millionths of the currency, rounded to the nearest, with what moving datasets cost.
    #[must_use]
    pub fn cost_micros(&self) -> i64 {
        let gpus = (self.micros_ms_per_hour + HOUR_MS / 2) / HOUR_MS;
        i64::try_from(gpus + self.egress_micros).unwrap_or(i64::MAX)
    }

    /// Of these what moving datasets is estimated to have cost.
    #[must_use]
    pub fn egress_micros(&self) -> i64 {
        i64::try_from(self.egress_micros).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("a small number")
    }

    fn charge(start: i64, finish: Option<i64>) -> Charge {
        Charge {
            gpus: 8,
            price_micros: Some(2_500_000),
            currency: "EUR".to_owned(),
            rates: Rates { watts: Some(300), emissions_mg: Some(120_000) },
            egress: None,
            start: at(start),
            finish: finish.map(at),
        }
    }

    #[test]
    fn gpus_times_seconds_times_price() {
        let mut usage = Usage::default();
        usage.add(&charge(1_000, Some(1_000 + 1_800)), (None, None), at(99_999));
        assert_eq!(usage.gpu_seconds(), 14_400.0);
        assert_eq!(usage.cost_micros(), 10_000_000);
        assert_eq!(usage.currency, "EUR");
        assert_eq!((usage.energy_kwh(), usage.emission_grams()), (1.2, 480.0), "half an hour of 8 GPUs");
        usage.add(&Charge { rates: Rates::default(), ..charge(0, Some(3_600)) }, (None, None), at(99_999));
        assert_eq!((usage.energy_kwh(), usage.emission_grams()), (1.2, 480.0), "of the other nothing is known");
    }

    #[test]
    fn a_window_counts_what_lies_in_it_and_a_run_that_goes_on_until_now() {
        let mut usage = Usage::default();
        usage.add(&charge(100, None), (Some(at(150)), None), at(200));
        usage.add(&charge(100, Some(120)), (Some(at(150)), None), at(200));
        usage.add(&charge(300, None), (None, Some(at(250))), at(400));
        assert_eq!(usage.gpu_seconds(), 400.0);
    }

    #[test]
    fn moving_a_dataset_is_charged_once_in_the_window_in_which_the_run_began() {
        let egress = |currency: &str| Some(Egress { micros: 7_000_000, currency: currency.to_owned() });
        let moved = Charge { egress: egress("EUR"), ..charge(100, None) };
        let used = |charge: &Charge, window: (Option<i64>, Option<i64>)| {
            let mut usage = Usage::default();
            usage.add(charge, (window.0.map(at), window.1.map(at)), at(3_700));
            usage
        };
        let whole = used(&moved, (None, None));
        assert_eq!((whole.egress_micros(), whole.cost_micros()), (7_000_000, 27_000_000), "and 8 GPUs for an hour");
        assert_eq!(used(&moved, (Some(100), None)).egress_micros(), 7_000_000);
        assert_eq!(used(&moved, (Some(101), None)).egress_micros(), 0);
        assert_eq!(used(&moved, (None, Some(100))).egress_micros(), 0, "it is in the next window");
        let unpriced = Charge { price_micros: None, currency: String::new(), ..moved.clone() };
        let usage = used(&unpriced, (None, None));
        assert_eq!((usage.cost_micros(), usage.currency.as_str()), (7_000_000, "EUR"));
        assert_eq!(used(&Charge { egress: egress("USD"), ..moved }, (None, None)).currency, "XXX");
    }

    #[test]
    fn many_small_runs_lose_nothing_to_rounding() {
        let mut usage = Usage::default();
        for _ in 0..3_600 {
            let mut small = charge(0, Some(1));
            small.price_micros = Some(1);
            small.gpus = 1;
            usage.add(&small, (None, None), at(10));
        }
        assert_eq!(usage.cost_micros(), 1);
    }

    #[test]
    fn two_currencies_are_not_added_up_under_one_name() {
        let mut usage = Usage::default();
        usage.add(&charge(0, Some(1)), (None, None), at(1));
        usage.add(&Charge { currency: "USD".to_owned(), ..charge(0, Some(1)) }, (None, None), at(1));
        assert_eq!(usage.currency, "XXX");
    }
}
