//! What the service tells: topic `muster.policies`.

use crate::{convert::FleetPolicyView, domain::PolicyReport, store::PolicyRecord};
use muster_kit::{
    Result, Tx,
    event::{self, NewEvent},
};
use muster_proto::policy::v1 as proto;

const TOPIC: &str = "muster.policies";

/// A policy was made, changed or deleted.
pub async fn policy(tx: &mut Tx, kind: &'static str, record: PolicyRecord, deleted: bool) -> Result<()> {
    let version = record.version;
    let state = proto::Policy::from(record);
    event::append(tx, NewEvent { topic: TOPIC, kind, aggregate: &state.name, version, deleted, state: &state }).await
}

/// A binding was made, changed or deleted, or resolves to something else.
pub async fn fleet_policy(tx: &mut Tx, kind: &'static str, view: FleetPolicyView, deleted: bool) -> Result<()> {
    let version = view.record.version;
    let state = proto::FleetPolicy::from(view);
    event::append(tx, NewEvent { topic: TOPIC, kind, aggregate: &state.name, version, deleted, state: &state }).await
}

/// A cluster's report on a policy has changed; the version is the observation's time. The violations, which may be thousands,
/// are not part of the state that is told.
pub async fn reported(tx: &mut Tx, report: &PolicyReport) -> Result<()> {
    let version = report.observed_at.as_microsecond();
    let state = proto::PolicyReport::from(PolicyReport { violations: vec![], ..report.clone() });
    let event =
        NewEvent { topic: TOPIC, kind: "policy.reported", aggregate: &state.name, version, deleted: false, state: &state };
    event::append(tx, event).await
}
