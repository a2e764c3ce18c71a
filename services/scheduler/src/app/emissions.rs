//! What GPU-hours emit, which changes with the hour.

use jiff::Timestamp;
use muster_kit::Result;

use super::mind::Mind;
use crate::domain::cluster::{ClusterFacts, HourOfDay};

impl Mind {
    /// Tells the engine what GPU-hours emit from this hour of the day on.
    ///
    /// # Errors
    /// A cluster that the engine does not take; it has to be built anew.
    pub fn tell_emissions_when_due(&mut self, now: Timestamp) -> Result<()> {
        let before = std::mem::replace(&mut self.hour, HourOfDay::of(now));
        if before == self.hour {
            return Ok(());
        }
        let differs = |facts: &&ClusterFacts| facts.emissions(before) != facts.emissions(self.hour);
        let changed: Vec<String> = self.clusters.values().filter(differs).map(|facts| facts.name.clone()).collect();
        changed.iter().try_for_each(|name| self.tell_cluster(name))
    }
}
