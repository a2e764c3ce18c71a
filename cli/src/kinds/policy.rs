//! Policies, their bindings to fleets, and reports.

use super::{Resource, Spec, Standing, common_fields, kind, short};
use crate::output::human;
use jiff::Timestamp;
use muster_proto::policy::v1::{
    DeleteFleetPolicyRequest, DeletePolicyRequest, FleetPolicy, GetFleetPolicyRequest, GetPolicyReportRequest, GetPolicyRequest,
    ListFleetPoliciesRequest, ListPoliciesRequest, ListPolicyReportsRequest, Policy, PolicyReport, Ramp,
    UpdateFleetPolicyRequest, UpdatePolicyRequest, fleet_policy_cluster::State,
    fleet_policy_service_client::FleetPolicyServiceClient, policy_service_client::PolicyServiceClient,
    verdict_service_client::VerdictServiceClient,
};

kind! {
    /// Policies by name.
    Policies at Policy through PolicyServiceClient,
    Spec {
        plural: "policies", singular: "policy", aliases: &["pol"], pattern: "policies/{policy}", lists_all_parents: false,
        columns: &["NAME", "RULES", "NOT EVALUATED", "+DIGEST", "AGE"],
    },
    get get_policy |name| GetPolicyRequest { name },
    list list_policies |_, page_size, page_token| ListPoliciesRequest { page_size, page_token } => policies,
    delete delete_policy |gone: super::Deletion| DeletePolicyRequest { name: gone.name, etag: gone.etag, request_id: gone.request_id },
    apply update_policy |change: super::Change| UpdatePolicyRequest {
        policy: Some(Policy { name: change.name, manifest: change.manifest, ..Policy::default() }),
        update_mask: None, request_id: change.request_id, allow_missing: true, validate_only: change.validate_only,
    },
}

kind! {
    /// Which policies hold in which fleets.
    FleetPolicies at Policy through FleetPolicyServiceClient,
    Spec {
        plural: "fleetPolicies", singular: "fleetPolicy", aliases: &["fp"], pattern: "fleetPolicies/{binding}", lists_all_parents: false,
        columns: &["NAME", "FLEET", "POLICIES", "RAMP", "AGE", "PROBLEM"],
    },
    get get_fleet_policy |name| GetFleetPolicyRequest { name },
    list list_fleet_policies |_, page_size, page_token| ListFleetPoliciesRequest { page_size, page_token } => fleet_policies,
    delete delete_fleet_policy |gone: super::Deletion| DeleteFleetPolicyRequest { name: gone.name, etag: gone.etag, request_id: gone.request_id },
    apply update_fleet_policy |change: super::Change| UpdateFleetPolicyRequest {
        fleet_policy: Some(FleetPolicy { name: change.name, manifest: change.manifest, ..FleetPolicy::default() }),
        update_mask: None, request_id: change.request_id, allow_missing: true, validate_only: change.validate_only,
    },
}

kind! {
    /// What a cluster's workloads do about a policy.
    PolicyReports at Policy through VerdictServiceClient,
    Spec {
        plural: "policyReports", singular: "policyReport", aliases: &["report", "reports"],
        pattern: "clusters/{cluster}/policyReports/{report}", lists_all_parents: true,
        columns: &["CLUSTER", "POLICY", "PASS", "FAIL", "NOT EVALUATED", "SEEN"],
    },
    get get_policy_report |name| GetPolicyReportRequest { name },
    list list_policy_reports |scope: super::Scope, page_size, page_token| ListPolicyReportsRequest { parent: scope.parent, page_size, page_token } => policy_reports,
}

impl Resource for Policy {
    common_fields!(name, etag, manifest);

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let not_evaluated = self.rules.iter().filter(|rule| !rule.not_evaluated_reason.is_empty()).count();
        vec![
            short(&self.name),
            self.rules.len().to_string(),
            not_evaluated.to_string(),
            self.digest.clone(),
            human::age(self.create_time.as_ref(), now),
        ]
    }
}

/// The first policy of a binding that does not hold yet, or else the first cluster that refused it, with why.
fn first_problem(binding: &FleetPolicy) -> Option<String> {
    if let Some(bound) = binding.policies.iter().find(|bound| !bound.problem.is_empty()) {
        return Some(format!("{}: {}", short(&bound.policy), bound.problem));
    }
    if let Some(ramp) = binding.ramp.as_ref().filter(|ramp| !ramp.reason.is_empty()) {
        return Some(ramp.reason.clone());
    }
    let refused = binding.clusters.iter().find(|member| member.state() == State::Refused)?;
    Some(format!("{} refused it: {}", short(&refused.cluster), refused.reason))
}

/// As in `soaking 1/3`.
fn ramp_words(ramp: &Ramp) -> String {
    format!("{} {}/{}", human::state(ramp.state().as_str_name()).to_lowercase(), ramp.wave, ramp.wave_count)
}

impl Resource for FleetPolicy {
    common_fields!(name, etag, manifest);

    fn cells(&self, now: Timestamp) -> Vec<String> {
        vec![
            short(&self.name),
            short(&self.fleet),
            self.policies.len().to_string(),
            self.ramp.as_ref().map(ramp_words).unwrap_or_default(),
            human::age(self.create_time.as_ref(), now),
            first_problem(self).unwrap_or_default(),
        ]
    }

    fn standing(&self) -> (Standing, String) {
        match first_problem(self) {
            Some(problem) => (Standing::Pending, problem),
            None => (Standing::Settled, "every policy holds".to_owned()),
        }
    }
}

impl Resource for PolicyReport {
    common_fields!(name);

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let sum = |count: fn(&muster_proto::policy::v1::RuleSummary) -> u32| {
            self.rules.iter().map(|rule| u64::from(count(rule))).sum::<u64>().to_string()
        };
        let cluster = self.name.split('/').nth(1).unwrap_or_default().to_owned();
        vec![
            cluster,
            short(&self.policy),
            sum(|rule| rule.pass),
            sum(|rule| rule.fail),
            sum(|rule| rule.not_evaluated),
            human::age(self.observe_time.as_ref(), now),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::super::{find, object};
    use super::*;
    use muster_proto::policy::v1::{BoundPolicy, FleetPolicyCluster, ramp};

    #[test]
    fn every_table_has_a_cell_a_column() {
        let columns = |kind: &str| find(kind).expect("known").spec().columns.len();
        assert_eq!(object(&Policy::default()).cells.len(), columns("policies"));
        assert_eq!(object(&FleetPolicy::default()).cells.len(), columns("fleetPolicies"));
        assert_eq!(object(&PolicyReport::default()).cells.len(), columns("policyReports"));
    }

    #[test]
    fn a_binding_with_a_problem_is_pending_and_says_which() {
        let bound = BoundPolicy { policy: "policies/p".to_owned(), problem: "file missing".to_owned(), ..BoundPolicy::default() };
        let object = object(&FleetPolicy { policies: vec![bound], ..FleetPolicy::default() });
        assert_eq!((object.standing, object.saying.as_str()), (Standing::Pending, "p: file missing"));
    }

    #[test]
    fn a_ramp_that_is_held_says_its_wave_and_by_what() {
        let ramp = Ramp {
            state: ramp::State::Stopped.into(),
            wave: 1,
            wave_count: 3,
            reason: "violations were added: p in a: 1 more".to_owned(),
            ..Ramp::default()
        };
        let object = object(&FleetPolicy { ramp: Some(ramp), ..FleetPolicy::default() });
        assert_eq!(object.cells[3], "stopped 1/3");
        assert_eq!(object.saying, "violations were added: p in a: 1 more");
    }

    #[test]
    fn a_binding_that_a_cluster_refused_says_which_and_why() {
        let member =
            FleetPolicyCluster { cluster: "clusters/a".to_owned(), reason: "no such field".to_owned(), ..Default::default() };
        let refused = FleetPolicyCluster { state: State::Refused.into(), ..member.clone() };
        let object = object(&FleetPolicy { clusters: vec![member, refused], ..FleetPolicy::default() });
        assert_eq!((object.standing, object.saying.as_str()), (Standing::Pending, "a refused it: no such field"));
    }
}
