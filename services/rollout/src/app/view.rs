//! Releases and applications with everything around them, as they are shown and published.

use crate::events;
use crate::store::{
    application::Application,
    desired::{self, ObservationRow},
    measurement::{self, MeasurementRow, Transition},
    release::{self, ReleaseRow, TargetProgress},
};
use muster_core::name::{ApplicationName, ReleaseName};
use muster_kit::{Result, Tx};
use sqlx::PgConnection;
use std::collections::BTreeMap;

/// A release as it is shown.
#[derive(Debug, Clone)]
pub struct ReleaseView {
    /// The row.
    pub release: ReleaseRow,
    /// Waves in all.
    pub wave_count: usize,
    /// Its targets, in name order.
    pub targets: Vec<TargetProgress>,
    /// The last fifty measurements.
    pub measurements: Vec<MeasurementRow>,
    /// The last fifty transitions.
    pub history: Vec<Transition>,
}

/// An application as it is shown.
#[derive(Debug, Clone)]
pub struct ApplicationView {
    /// The row.
    pub application: Application,
    /// The targets of its present release.
    pub targets: Vec<TargetProgress>,
    /// What the agents say now, by cluster, where it is about what they were told last.
    pub observations: BTreeMap<String, ObservationRow>,
}

/// Loads what is shown of a release.
pub async fn release(connection: &mut PgConnection, release: ReleaseRow) -> Result<ReleaseView> {
    let targets = release::targets(connection, &release.name).await?;
    let mut measurements = measurement::of(connection, &release.name).await?;
    measurements.drain(..measurements.len().saturating_sub(50));
    let history = measurement::history(connection, &release.name).await?;
    let wave_count = if release.fast_lane { 1 } else { targets.iter().map(|target| target.target.wave + 1).max().unwrap_or(0) };
    Ok(ReleaseView { release, wave_count, targets, measurements, history })
}

/// Loads what is shown of an application.
pub async fn application(connection: &mut PgConnection, application: Application) -> Result<ApplicationView> {
    let targets = match &application.current_release {
        Some(current) => release::targets(connection, &release_name(&application.name, current)?).await?,
        None => Vec::new(),
    };
    let item = desired::item_of(&application.name);
    let items = desired::items(connection, &item).await?;
    let mut observations = desired::observations(connection, &item).await?;
    observations.retain(|cluster, observed| items.get(cluster).is_some_and(|item| item.generation == observed.generation));
    Ok(ApplicationView { application, targets, observations })
}

/// Publishes how a release stands after this transaction; gives it.
pub async fn publish_release(tx: &mut Tx, row: ReleaseRow) -> Result<ReleaseView> {
    let view = release(tx, row).await?;
    events::append_release(tx, &view).await?;
    Ok(view)
}

/// Publishes how an application stands after this transaction; gives it.
pub async fn publish_application(tx: &mut Tx, name: &ApplicationName) -> Result<ApplicationView> {
    let row = crate::store::application::lock(tx, name).await?.ok_or_else(|| muster_kit::Error::not_found(name))?;
    let view = application(tx, row).await?;
    events::append_application(tx, &view, false).await?;
    Ok(view)
}

/// A release of an application.
pub fn release_name(application: &ApplicationName, release: &str) -> Result<ReleaseName> {
    ReleaseName::new(application.namespace(), application.application(), release).map_err(muster_kit::Error::internal)
}
