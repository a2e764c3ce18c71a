//! Takes one release as far as it goes now: asks the state machine, stores what it says, wishes of clusters what it tells.

use super::leader;
use super::pass::{Pass, load};
use crate::app::{
    App,
    view::{self, ReleaseView},
};
use crate::crash;
use crate::domain::release::{Availability, Change, ObservedPhase, Outcome, ReleaseState, TargetPhase, step};
use crate::store::{application::ApplicationState, release::Revert};
use muster_core::name::ReleaseName;
use muster_kit::{Error, Result, Tx, db, telemetry};
use tracing::Instrument as _;

/// Rounds of one pass; a release of any size comes to rest in far fewer.
const MAX_ROUNDS: usize = 10_000;

/// What a release waits for after a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advanced {
    /// For time, or for what agents say.
    Waits,
    /// For its verdict: the first one, or the one on policies that have moved since.
    NeedsVerdict,
    /// For a measurement of its gate, due now.
    NeedsMeasurement,
}

/// One pass over one release, in one transaction. Nothing new is told unless `judged_by`, the revision of the policies as
/// they are now, is that of its verdict.
pub async fn advance(app: &App, epoch: u64, name: &ReleaseName, judged_by: Option<&str>) -> Result<Advanced> {
    let mut tx = db::begin(&app.pool).await?;
    leader::check(&mut tx, epoch).await?;
    let Some(mut pass) = load(app, &mut tx, name, judged_by).await? else { return Ok(Advanced::Waits) };
    if pass.row.state == ReleaseState::Pending {
        return Ok(Advanced::NeedsVerdict);
    }
    let before = pass.view.clone();
    let waits = pass.run(app)?;
    let due_before = pass.row.due_at;
    pass.row.due_at = waits.until();
    let reason_before = pass.row.reason.clone();
    if let Outcome::Wait { reason, .. } = &waits
        && matches!(pass.view.release.state, ReleaseState::Progressing)
    {
        reason.clone_into(&mut pass.view.release.reason);
    }
    let stands = pass.application_state();
    let application_changed = (pass.application.state, &pass.application.reason) != (stands.0, &stands.1);
    let release_changed = pass.view != before || pass.row.due_at != due_before || pass.view.release.reason != reason_before;
    if release_changed || application_changed {
        let span = tracing::info_span!("release.advance", release.name = %name, release.state = ?pass.view.release.state);
        telemetry::continue_trace(&span, &pass.row.traceparent);
        let traceparent = telemetry::traceparent_of(&span);
        pass.store(app, &mut tx, &before, stands, &traceparent).instrument(span).await?;
        tx.commit().await?;
        if !pass.told.is_empty() {
            crash::DECIDED.reached();
            if pass.view.targets.iter().zip(&before.targets).any(|(target, before)| target.step > before.step) {
                crash::PROMOTED.reached();
            }
            app.wakes.dispatch.now();
        }
        if pass.row.revert == Revert::Pending {
            app.wakes.write.now();
        }
    }
    match waits {
        Outcome::Judge => Ok(Advanced::NeedsVerdict),
        Outcome::Wait { measure: true, .. } => Ok(Advanced::NeedsMeasurement),
        Outcome::Wait { .. } | Outcome::Advance(_) => Ok(Advanced::Waits),
    }
}

/// Makes changes that a person or policy asks for, within the transaction of that. What goes back for them is told with it.
pub async fn force(app: &App, tx: &mut Tx, name: &ReleaseName, changes: &[Change]) -> Result<ReleaseView> {
    let mut pass = load(app, tx, name, None).await?.ok_or_else(|| Error::not_found(name))?;
    let before = pass.view.clone();
    for change in changes {
        pass.make(change, app.clock.now());
    }
    if pass.view.release.state == ReleaseState::RollingBack {
        pass.row.due_at = pass.run(app)?.until();
    }
    let stands = (ApplicationState::Progressing, pass.view.release.reason.clone());
    pass.store(app, tx, &before, stands, &telemetry::current_traceparent()).await?;
    view::release(tx, pass.row).await
}

/// Before a newer commit takes a release's place: clusters that are away and have not become healthy with it are told last
/// good again, so that on their return they go straight to what is current by then.
pub async fn recall(app: &App, tx: &mut Tx, name: &ReleaseName) -> Result<()> {
    let Some(mut pass) = load(app, tx, name, None).await? else { return Ok(()) };
    let before = pass.view.clone();
    let away: Vec<String> = pass
        .view
        .targets
        .iter()
        .filter(|target| target.phase == TargetPhase::Progressing && target.has_last_good)
        .filter(|target| pass.view.availability.get(&target.cluster) != Some(&Availability::Here))
        .map(|target| target.cluster.clone())
        .collect();
    if away.is_empty() {
        return Ok(());
    }
    pass.recalls = true;
    for cluster in away {
        pass.make(&Change::TurnBack { cluster }, app.clock.now());
    }
    let stands = (pass.application.state, pass.application.reason.clone());
    pass.store(app, tx, &before, stands, &telemetry::current_traceparent()).await?;
    app.wakes.dispatch.now();
    Ok(())
}

impl Pass {
    /// Asks the state machine until it waits.
    fn run(&mut self, app: &App) -> Result<Outcome> {
        let now = app.clock.now();
        for _ in 0..MAX_ROUNDS {
            match step(&self.view, now) {
                Outcome::Advance(changes) => {
                    for change in changes {
                        self.make(&change, now);
                    }
                }
                waits @ (Outcome::Wait { .. } | Outcome::Judge) => return Ok(waits),
            }
        }
        Err(Error::internal(anyhow::anyhow!("{} does not come to rest", self.row.name)))
    }

    fn make(&mut self, change: &Change, now: jiff::Timestamp) {
        self.view.apply(change, now);
        self.told.extend(change.tells().map(str::to_owned));
    }

    /// How the application stands after this pass.
    fn application_state(&self) -> (ApplicationState, String) {
        let release = &self.view.release;
        if release.state.is_final() && !self.application.problem.is_empty() {
            return (ApplicationState::Degraded, self.application.problem.clone());
        }
        match release.state {
            ReleaseState::Pending | ReleaseState::Progressing | ReleaseState::Paused | ReleaseState::RollingBack => {
                (ApplicationState::Progressing, release.reason.clone())
            }
            ReleaseState::Failed | ReleaseState::Refused => (ApplicationState::Degraded, release.reason.clone()),
            ReleaseState::Superseded => (self.application.state, self.application.reason.clone()),
            ReleaseState::Completed => self.completed_state(),
        }
    }

    fn completed_state(&self) -> (ApplicationState, String) {
        for target in self.view.targets.iter().filter(|target| !target.away && !target.has_left()) {
            let observed = self.view.observations.get(&target.cluster);
            let current = observed.filter(|observed| target.generation.is_none_or(|told| observed.generation >= told));
            match (target.phase, current.map(|observed| observed.phase)) {
                (TargetPhase::Failed | TargetPhase::AwaitingRollback | TargetPhase::RollingBack | TargetPhase::RolledBack, _) => {
                    return (ApplicationState::Degraded, format!("{}: {}", target.cluster, target.reason));
                }
                (_, Some(ObservedPhase::Unhealthy | ObservedPhase::Refused | ObservedPhase::Deleted)) => {
                    let reason = observed.map(|observed| observed.reason.clone()).unwrap_or_default();
                    return (ApplicationState::Degraded, format!("{}: {reason}", target.cluster));
                }
                (TargetPhase::Progressing, _) => {
                    return (ApplicationState::Progressing, format!("{} catches up", target.cluster));
                }
                (TargetPhase::Waiting | TargetPhase::Healthy | TargetPhase::Leaving | TargetPhase::Left, _) => {}
            }
        }
        (ApplicationState::Healthy, String::new())
    }
}
