//! Which fleets a cluster is in and what its GPUs cost: recomputed at each change of either side, so that such a change
//! is a change of the cluster and reaches everybody who follows clusters.

use crate::{
    domain::{Cluster, fleet::FleetSpec, price, price::PriceBookSpec},
    events,
    store::{cluster, fleet},
};
use muster_core::manifest::parse_one;
use muster_kit::{Error, Result, Tx};

/// Fleets and price books as they are now.
pub struct Rules {
    fleets: Vec<FleetSpec>,
    books: Vec<PriceBookSpec>,
}

impl Rules {
    /// Reads both.
    pub async fn load(tx: &mut Tx) -> Result<Self> {
        let read = |text: &str| parse_one(text).map_err(Error::internal);
        let mut fleets = Vec::new();
        for text in fleet::every_fleet(tx).await? {
            fleets.push(FleetSpec::read(&read(&text)?).map_err(Error::internal)?);
        }
        let mut books = Vec::new();
        for text in fleet::every_book(tx).await? {
            books.push(PriceBookSpec::read(&read(&text)?).map_err(Error::internal)?);
        }
        Ok(Self { fleets, books })
    }

    /// Applies them to a cluster; whether anything changed.
    pub fn apply(&self, cluster: &mut Cluster) -> bool {
        let members = self.fleets.iter().filter(|fleet| fleet.has(&cluster.name, &cluster.labels));
        let fleets: Vec<String> = members.map(|fleet| fleet.name.clone()).collect();
        let prices = price::resolve(&self.books, (&cluster.name, &cluster.region), &cluster.labels, &cluster.flavors());
        let egress = price::resolve_egress(&self.books, &cluster.region);
        let changed = fleets != cluster.fleets || prices != cluster.prices || egress != cluster.egress;
        cluster.fleets = fleets;
        cluster.prices = prices;
        cluster.egress = egress;
        changed
    }

    /// The fleets, for thresholds.
    pub fn fleets(&self) -> &[FleetSpec] {
        &self.fleets
    }
}

/// Brings every cluster in line after a fleet or a price book changed.
pub async fn refresh(tx: &mut Tx) -> Result<()> {
    let rules = Rules::load(tx).await?;
    for mut cluster in cluster::lock_every(tx).await? {
        if rules.apply(&mut cluster) {
            cluster.version = cluster::update(tx, &cluster).await?;
            events::cluster(tx, "cluster.membership_changed", &cluster).await?;
        }
    }
    Ok(())
}
