//! Outwards: the domain as messages. Every field is named, so that a new one cannot be forgotten.

use crate::{
    domain::{
        Broken, ComplianceKey, CompliancePoint, ComplianceRow, FleetPolicyCluster, Form, Installation, PolicyForm, PolicyReport,
        Ramp, RampState, ReportedViolation, RuleInfo, RuleSummary, Stage,
    },
    store::{BoundRecord, FleetPolicyRecord, PolicyRecord, RampRecord},
};
use muster_kit::{db, time};
use muster_proto::policy::v1 as proto;

/// Violations shown of one report: a page of reports has to stay small.
const MAX_VIOLATIONS: usize = 500;
/// What translations are written in.
const ADMISSION_VERSION: &str = "admissionregistration.k8s.io/v1";

/// A binding with what it binds.
#[derive(Debug, Clone, PartialEq)]
pub struct FleetPolicyView {
    /// The binding.
    pub record: FleetPolicyRecord,
    /// What it binds, in its order.
    pub policies: Vec<BoundRecord>,
    /// How far its ramp is.
    pub ramp: Option<RampRecord>,
    /// How the fleet's members have it; empty where nobody asked for that.
    pub clusters: Vec<FleetPolicyCluster>,
}

impl From<PolicyRecord> for proto::Policy {
    fn from(record: PolicyRecord) -> Self {
        let PolicyRecord { id, namespace: _, manifest, digest, rules, version, created_at } = record;
        Self {
            name: format!("policies/{id}"),
            etag: db::etag(version),
            manifest,
            digest,
            rules: rules.into_iter().map(Into::into).collect(),
            create_time: Some(time::to_proto(created_at)),
        }
    }
}

impl From<RuleInfo> for proto::PolicyRule {
    fn from(rule: RuleInfo) -> Self {
        let RuleInfo { name, body, not_evaluated_reason } = rule;
        Self { name, body, not_evaluated_reason }
    }
}

impl From<FleetPolicyView> for proto::FleetPolicy {
    fn from(view: FleetPolicyView) -> Self {
        let FleetPolicyView { record, policies, ramp, clusters } = view;
        let FleetPolicyRecord { id, namespace: _, manifest, fleet, version, created_at } = record;
        Self {
            name: format!("fleetPolicies/{id}"),
            etag: db::etag(version),
            manifest,
            fleet: format!("fleets/{fleet}"),
            policies: policies.into_iter().map(Into::into).collect(),
            create_time: Some(time::to_proto(created_at)),
            clusters: clusters.into_iter().map(Into::into).collect(),
            ramp: ramp.map(Into::into),
        }
    }
}

impl From<RampRecord> for proto::Ramp {
    fn from(record: RampRecord) -> Self {
        use proto::ramp::State;
        let RampRecord { fleet_policy: _, fleet: _, spec, ramp } = record;
        let Ramp { digest: _, state, wave, began_at, soaking_since, reason, turned, baseline: _ } = ramp;
        let state = match state {
            RampState::Soaking => State::Soaking,
            RampState::Stopped => State::Stopped,
            RampState::Paused => State::Paused,
            RampState::Completed => State::Completed,
            RampState::Aborted => State::Aborted,
        };
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Self {
            state: state.into(),
            wave,
            wave_count: count(spec.waves.len()),
            wave_start_time: Some(time::to_proto(began_at)),
            soak_start_time: soaking_since.map(time::to_proto),
            reason,
            enforcing_clusters: count(turned.len()),
        }
    }
}

impl From<FleetPolicyCluster> for proto::FleetPolicyCluster {
    fn from(member: FleetPolicyCluster) -> Self {
        use proto::fleet_policy_cluster::State;
        let FleetPolicyCluster { cluster, installation, is_told, forms } = member;
        let (state, reason) = match installation {
            _ if !is_told => (State::Waiting, String::new()),
            None => (State::Applying, String::new()),
            Some(Installation { stage: Stage::Applying, message }) => (State::Applying, message),
            Some(Installation { stage: Stage::InForce, message }) => (State::InForce, message),
            Some(Installation { stage: Stage::Refused, message }) => (State::Refused, message),
        };
        Self {
            cluster: format!("clusters/{cluster}"),
            state: state.into(),
            reason,
            policies: forms.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<PolicyForm> for proto::PolicyForm {
    fn from(form: PolicyForm) -> Self {
        use proto::policy_form::Form as Wire;
        let PolicyForm { policy, form, enforced } = form;
        let (form, api_version, reason) = match form {
            Form::Kyverno { api_version } => (Wire::Kyverno, api_version, String::new()),
            Form::AdmissionPolicy => (Wire::AdmissionPolicy, ADMISSION_VERSION.to_owned(), String::new()),
            Form::EvaluatedOnly { reason } => (Wire::EvaluatedOnly, String::new(), reason),
        };
        Self { policy: format!("policies/{policy}"), form: form.into(), api_version, reason, enforced }
    }
}

impl From<BoundRecord> for proto::BoundPolicy {
    fn from(bound: BoundRecord) -> Self {
        let BoundRecord { policy, source, commit, holds: _, problem } = bound;
        Self { policy: format!("policies/{policy}"), source, commit, problem }
    }
}

impl From<Broken> for proto::PolicyViolation {
    fn from(broken: Broken) -> Self {
        let Broken { enforced, manifest, policy, rule, subject, path, message, not_evaluated_reason } = broken;
        Self {
            policy: ["policies/", policy.as_str()].concat(),
            rule,
            subject,
            path,
            message,
            enforced,
            manifest_index: u32::try_from(manifest).unwrap_or(u32::MAX),
            not_evaluated_reason,
        }
    }
}

impl From<PolicyReport> for proto::PolicyReport {
    fn from(report: PolicyReport) -> Self {
        let PolicyReport { cluster, policy, rules, violations, observed_at } = report;
        Self {
            name: format!("clusters/{cluster}/policyReports/{policy}"),
            policy: format!("policies/{policy}"),
            rules: rules.into_iter().map(Into::into).collect(),
            violations: violations.into_iter().take(MAX_VIOLATIONS).map(Into::into).collect(),
            observe_time: Some(time::to_proto(observed_at)),
        }
    }
}

impl From<RuleSummary> for proto::RuleSummary {
    fn from(summary: RuleSummary) -> Self {
        let RuleSummary { rule, pass, fail, not_evaluated } = summary;
        Self { rule, pass, fail, not_evaluated }
    }
}

impl From<ReportedViolation> for proto::ReportedViolation {
    fn from(violation: ReportedViolation) -> Self {
        let ReportedViolation { rule, group: _, kind, namespace, object, path, message } = violation;
        Self { rule, kind, namespace, object, path, message }
    }
}

impl From<ComplianceRow> for proto::ComplianceRow {
    fn from(row: ComplianceRow) -> Self {
        let ComplianceRow { key, compliant, violating, silent, violations } = row;
        let ComplianceKey { fleet, policy, cluster, namespace, workload } = key;
        let named = |collection: &str, id: String| if id.is_empty() { id } else { format!("{collection}/{id}") };
        Self {
            fleet: named("fleets", fleet),
            policy: named("policies", policy),
            cluster: named("clusters", cluster),
            namespace,
            workload,
            compliant_clusters: compliant,
            violating_clusters: violating,
            silent_clusters: silent,
            violations,
        }
    }
}

impl From<CompliancePoint> for proto::CompliancePoint {
    fn from(point: CompliancePoint) -> Self {
        let CompliancePoint { policy, hour, violating, violations } = point;
        Self { policy: format!("policies/{policy}"), hour: Some(time::to_proto(hour)), violating_clusters: violating, violations }
    }
}
