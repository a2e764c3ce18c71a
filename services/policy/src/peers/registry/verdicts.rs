//! What agents say of their policies, as the registry brings it: that there is news, and then the rows that changed.

use super::{DEADLINE, ITEM, OWNER, ObservedEvent, Said, Verdicts, cluster_id, failed, malformed};
use crate::{
    domain::{Installation, ReportChange, ReportRow, ReportedViolation, RuleSummary, Stage},
    store::report::Observed,
};
use muster_core::version::Version;
use muster_kit::{
    Result,
    peer::{self, PeerChannel},
    time,
};
use muster_proto::{
    agent::v1::{Generation, Observation, VerdictRow, VerdictSet, observation::Phase, verdict_row::Row},
    registry::v1::{ReadVerdictsRequest, WatchObservedResponse, desired_service_client::DesiredServiceClient},
};
use std::collections::BTreeMap;

/// Rows of an answer, at most: more than an agent may say, twice.
const MAX_ROWS: usize = 128_000;

/// Reads what is newer than a version, or all of it.
pub async fn read(mut client: DesiredServiceClient<PeerChannel>, cluster: &str, after: Option<Version>) -> Result<Verdicts> {
    let request = ReadVerdictsRequest {
        cluster: format!("clusters/{cluster}"),
        owner: OWNER.to_owned(),
        name: ITEM.to_owned(),
        after: after.map(|after| Generation { incarnation: after.incarnation, n: after.n }),
    };
    let mut stream = client.read_verdicts(peer::request(request, DEADLINE)).await.map_err(failed)?.into_inner();
    let mut changes: BTreeMap<String, ReportChange> = BTreeMap::new();
    let mut rows = 0;
    loop {
        let part = stream.message().await.map_err(failed)?.ok_or_else(|| malformed("verdicts without their end"))?;
        rows += part.added.len() + part.removed.len();
        if rows > MAX_ROWS {
            return Err(malformed("more verdicts than an agent may say"));
        }
        for row in part.added {
            let (policy, row) = report_row(row)?;
            changes.entry(policy).or_default().added.push(row);
        }
        for row in part.removed {
            let (policy, row) = report_row(row)?;
            changes.entry(policy).or_default().removed.push(row);
        }
        if part.end {
            let (observed, version) = about(part.verdicts.ok_or_else(|| malformed("rows of no verdicts"))?)?;
            return Ok(Verdicts { observed, version, whole: part.whole, changes });
        }
    }
}

/// What a message of the watch says; `None` where it says nothing about our item.
pub fn event(message: WatchObservedResponse) -> Result<Option<ObservedEvent>> {
    let WatchObservedResponse { cluster, observation, verdicts, resume_token: _, synced: _ } = message;
    if let Some(set) = verdicts.filter(|set| set.name == ITEM) {
        let (observed, version) = about(set)?;
        return Ok(Some(ObservedEvent { cluster: cluster_id(&cluster)?, observed, said: Said::Verdicts(version) }));
    }
    let Some(observation) = observation else { return Ok(None) };
    let stage = match observation.phase() {
        Phase::Pending | Phase::Applying | Phase::Applied => Stage::Applying,
        Phase::Healthy | Phase::Degraded | Phase::Drifted => Stage::InForce,
        Phase::Failed => Stage::Refused,
        Phase::Deleted | Phase::Unspecified => return Ok(None),
    };
    let Observation { name, generation: Some(generation), observe_time: Some(at), message, .. } = observation else {
        return Ok(None);
    };
    if name != ITEM {
        return Ok(None);
    }
    let observed = observed(generation, &at)?;
    Ok(Some(ObservedEvent {
        cluster: cluster_id(&cluster)?,
        observed,
        said: Said::Installation(Installation { stage, message }),
    }))
}

fn observed(generation: Generation, at: &muster_proto::Timestamp) -> Result<Observed> {
    let at = time::from_proto(at).ok_or_else(|| malformed("a time outside years 1 to 9999"))?;
    Ok(Observed { incarnation: generation.incarnation.cast_signed(), generation: generation.n.cast_signed(), at })
}

fn about(set: VerdictSet) -> Result<(Observed, Version)> {
    let VerdictSet { owner: _, name: _, generation: Some(generation), version: Some(version), evaluate_time: Some(at) } = set
    else {
        return Err(malformed("verdicts of no generation, version or time"));
    };
    Ok((observed(generation, &at)?, Version::new(version.incarnation, version.n)))
}

/// A row, with the policy it is about.
fn report_row(row: VerdictRow) -> Result<(String, ReportRow)> {
    Ok(match row.row.ok_or_else(|| malformed("an empty row of verdicts"))? {
        Row::Count(count) => {
            let muster_proto::agent::v1::RuleCount { policy, rule, pass, fail, not_evaluated } = count;
            (policy, ReportRow::Rule(RuleSummary { rule, pass, fail, not_evaluated }))
        }
        Row::Violation(violation) => {
            let muster_proto::agent::v1::Violation { policy, rule, kind, namespace, name, path, message, group } = violation;
            let violation = ReportedViolation { rule, group, kind, namespace, object: name, path, message };
            (policy, ReportRow::Violation(violation))
        }
    })
}
