//! Clusters, fleets, price books and tokens.

use super::{Resource, Spec, Standing, common_fields, kind, short};
use crate::output::human;
use jiff::Timestamp;
use muster_core::quantity::Quantity;
use muster_proto::registry::v1::{
    AccessToken, Cluster, DeleteAccessTokenRequest, DeleteClusterRequest, DeleteEnrolmentTokenRequest, DeleteFleetRequest,
    DeletePriceBookRequest, EnrolmentToken, Fleet, GetAccessTokenRequest, GetClusterRequest, GetEnrolmentTokenRequest,
    GetFleetRequest, GetPriceBookRequest, ListAccessTokensRequest, ListClustersRequest, ListEnrolmentTokensRequest,
    ListFleetsRequest, ListPriceBooksRequest, PriceBook, UpdateFleetRequest, UpdatePriceBookRequest,
    access_token_service_client::AccessTokenServiceClient,
    cluster::{Schedulability, State},
    cluster_service_client::ClusterServiceClient,
    enrolment_token_service_client::EnrolmentTokenServiceClient,
    fleet_service_client::FleetServiceClient,
    price_book_service_client::PriceBookServiceClient,
};
use std::collections::BTreeMap;

kind! {
    /// Member clusters. Applied by `apply` itself, since their update makes none.
    Clusters at Registry through ClusterServiceClient,
    Spec {
        plural: "clusters", singular: "cluster", aliases: &["cl"], pattern: "clusters/{cluster}", lists_all_parents: false,
        columns: &["NAME", "STATE", "WORK", "GPUS USED", "REGION", "+FLEETS", "+KUBERNETES", "+AGENT", "SEEN", "REASON"],
    },
    get get_cluster |name| GetClusterRequest { name },
    list list_clusters |_, page_size, page_token| ListClustersRequest { page_size, page_token } => clusters,
    delete delete_cluster |gone: super::Deletion| DeleteClusterRequest { name: gone.name, etag: gone.etag, request_id: gone.request_id },
}

kind! {
    /// Groups of clusters.
    Fleets at Registry through FleetServiceClient,
    Spec {
        plural: "fleets", singular: "fleet", aliases: &["fl"], pattern: "fleets/{fleet}", lists_all_parents: false,
        columns: &["NAME", "CLUSTERS", "LIVE", "NOT ENROLLED", "AGE"],
    },
    get get_fleet |name| GetFleetRequest { name },
    list list_fleets |_, page_size, page_token| ListFleetsRequest { page_size, page_token } => fleets,
    delete delete_fleet |gone: super::Deletion| DeleteFleetRequest { name: gone.name, etag: gone.etag, request_id: gone.request_id },
    apply update_fleet |change: super::Change| UpdateFleetRequest {
        fleet: Some(Fleet { name: change.name, manifest: change.manifest, ..Fleet::default() }),
        update_mask: None, request_id: change.request_id, allow_missing: true, validate_only: change.validate_only,
    },
}

kind! {
    /// Prices of GPU-hours.
    PriceBooks at Registry through PriceBookServiceClient,
    Spec {
        plural: "priceBooks", singular: "priceBook", aliases: &["pb", "prices"], pattern: "priceBooks/{book}", lists_all_parents: false,
        columns: &["NAME", "AGE"],
    },
    get get_price_book |name| GetPriceBookRequest { name },
    list list_price_books |_, page_size, page_token| ListPriceBooksRequest { page_size, page_token } => price_books,
    delete delete_price_book |gone: super::Deletion| DeletePriceBookRequest { name: gone.name, etag: gone.etag, request_id: gone.request_id },
    apply update_price_book |change: super::Change| UpdatePriceBookRequest {
        price_book: Some(PriceBook { name: change.name, manifest: change.manifest, ..PriceBook::default() }),
        update_mask: None, request_id: change.request_id, allow_missing: true, validate_only: change.validate_only,
    },
}

kind! {
    /// One-time rights to enrol.
    EnrolmentTokens at Registry through EnrolmentTokenServiceClient,
    Spec {
        plural: "enrolmentTokens", singular: "enrolmentToken", aliases: &["et"], pattern: "enrolmentTokens/{token}", lists_all_parents: false,
        columns: &["NAME", "CLUSTER", "STATE", "EXPIRES", "AGE"],
    },
    get get_enrolment_token |name| GetEnrolmentTokenRequest { name },
    list list_enrolment_tokens |_, page_size, page_token| ListEnrolmentTokensRequest { page_size, page_token } => enrolment_tokens,
    delete delete_enrolment_token |gone: super::Deletion| DeleteEnrolmentTokenRequest { name: gone.name, etag: gone.etag, request_id: gone.request_id },
}

kind! {
    /// Bearer tokens of people and pipelines.
    AccessTokens at Registry through AccessTokenServiceClient,
    Spec {
        plural: "accessTokens", singular: "accessToken", aliases: &["at"], pattern: "accessTokens/{token}", lists_all_parents: false,
        columns: &["NAME", "SUBJECT", "ROLE", "EXPIRES", "AGE"],
    },
    get get_access_token |name| GetAccessTokenRequest { name },
    list list_access_tokens |_, page_size, page_token| ListAccessTokensRequest { page_size, page_token } => access_tokens,
    delete delete_access_token |gone: super::Deletion| DeleteAccessTokenRequest { name: gone.name, etag: gone.etag, request_id: gone.request_id },
}

/// GPUs of one flavor in a cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gpus {
    /// Allocatable on schedulable nodes.
    pub total: i64,
    /// Asked for by pods of others and by runs.
    pub used: i64,
}

/// The resource that is counted as a GPU.
const GPU: &str = "nvidia.com/gpu";

/// GPUs by flavor, from the cluster's inventory; what cannot be read counts as none.
pub fn gpus_by_flavor(cluster: &Cluster) -> BTreeMap<String, Gpus> {
    let amount =
        |map: &BTreeMap<String, String>| map.get(GPU).and_then(|text| text.parse::<Quantity>().ok()).map_or(0, Quantity::units);
    let mut flavors: BTreeMap<String, Gpus> = BTreeMap::new();
    for node in cluster.inventory.iter().flat_map(|inventory| &inventory.nodes) {
        if node.flavor.is_empty() {
            continue;
        }
        let gpus = flavors.entry(node.flavor.clone()).or_default();
        gpus.total += amount(&node.allocatable);
        gpus.used += amount(&node.used_by_others) + node.used_by_run.iter().map(|run| amount(&run.requests)).sum::<i64>();
    }
    flavors
}

impl Resource for Cluster {
    common_fields!(name, etag);

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let gpus: Vec<_> =
            gpus_by_flavor(self).into_iter().map(|(flavor, gpus)| format!("{}/{} {flavor}", gpus.used, gpus.total)).collect();
        let fleets: Vec<_> = self.fleets.iter().map(|fleet| short(fleet)).collect();
        vec![
            short(&self.name),
            human::state(self.state().as_str_name()),
            match self.schedulability() {
                Schedulability::Unspecified => String::new(),
                other => human::state(other.as_str_name()),
            },
            gpus.join(", "),
            self.region.clone(),
            fleets.join(","),
            self.preflight.as_ref().map_or_else(String::new, |preflight| preflight.kubernetes_version.clone()),
            self.agent_version.clone(),
            human::age(self.last_seen_time.as_ref(), now),
            self.reason.clone(),
        ]
    }

    fn standing(&self) -> (Standing, String) {
        let standing = match self.state() {
            State::Live => Standing::Settled,
            State::Unspecified | State::NotEnrolled | State::Joining | State::Suspect | State::Leaving => Standing::Pending,
            State::Lost | State::Left => Standing::Failed,
        };
        (standing, human::saying(self.state().as_str_name(), &self.reason))
    }
}

impl Resource for Fleet {
    common_fields!(name, etag, manifest);

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let count = |state: State| self.members.iter().filter(|member| member.state() == state).count().to_string();
        vec![
            short(&self.name),
            self.members.len().to_string(),
            count(State::Live),
            count(State::NotEnrolled),
            human::age(self.create_time.as_ref(), now),
        ]
    }
}

impl Resource for PriceBook {
    common_fields!(name, etag, manifest);

    fn cells(&self, now: Timestamp) -> Vec<String> {
        vec![short(&self.name), human::age(self.create_time.as_ref(), now)]
    }
}

impl Resource for EnrolmentToken {
    common_fields!(name, etag);

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let expired = self.expire_time.as_ref().is_some_and(|time| human::is_past(time, now));
        let state = match (&self.use_time, expired) {
            (Some(_), _) => "Used",
            (None, true) => "Expired",
            (None, false) => "Unused",
        };
        vec![
            short(&self.name),
            short(&self.cluster),
            state.to_owned(),
            human::expiry(self.expire_time.as_ref(), now),
            human::age(self.create_time.as_ref(), now),
        ]
    }
}

impl Resource for AccessToken {
    common_fields!(name, etag);

    fn cells(&self, now: Timestamp) -> Vec<String> {
        vec![
            short(&self.name),
            self.subject.clone(),
            human::state(self.role().as_str_name()),
            human::expiry(self.expire_time.as_ref(), now),
            human::age(self.create_time.as_ref(), now),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_proto::agent::v1::{Inventory, Node, RunUsage};

    #[test]
    fn a_cluster_shows_its_gpus_used_of_all_by_flavor() {
        let gpus = |count: &str| BTreeMap::from([(GPU.to_owned(), count.to_owned())]);
        let node = |flavor: &str, used: &str| Node {
            flavor: flavor.to_owned(),
            allocatable: gpus("8"),
            used_by_run: vec![RunUsage { run: "r".to_owned(), requests: gpus(used) }],
            ..Node::default()
        };
        let inventory = Inventory {
            nodes: vec![node("V100", "8"), node("V100", "2"), node("A100", "0"), node("", "0")],
            ..Inventory::default()
        };
        let cluster = Cluster {
            name: "clusters/train".to_owned(),
            state: State::NotEnrolled.into(),
            schedulability: Schedulability::Cordoned.into(),
            inventory: Some(inventory),
            ..Cluster::default()
        };
        let cells = cluster.cells(Timestamp::UNIX_EPOCH);
        assert_eq!(cells[..4], ["train", "NotEnrolled", "Cordoned", "0/8 A100, 10/16 V100"]);
        assert_eq!(cells.len(), super::super::find("clusters").expect("known").spec().columns.len());
    }
}
