//! Which clusters an application's targets mean now, given what is known of clusters and fleets.

use crate::domain::cluster::Cluster;
use crate::domain::spec::{ApplicationSpec, Selection};
use std::collections::BTreeMap;

/// Why it cannot be said which clusters are meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unselected {
    /// A fleet that the registry has not, or not yet.
    #[error("fleets/{0} is not known yet")]
    UnknownFleet(String),
    /// The targets mean no cluster.
    #[error("no cluster is selected")]
    Nothing,
    /// They mean more than can be served.
    #[error("{0} clusters are selected, more than {MAX_CLUSTERS}")]
    TooMany(usize),
}

/// Clusters of one application, at most: bundles are composed for each.
const MAX_CLUSTERS: usize = 10_000;

/// Cluster → folder, or why it cannot be said yet. A cluster that several targets mean goes with the first that names it
/// alone, else with the first.
pub fn select(
    spec: &ApplicationSpec,
    clusters: &BTreeMap<String, Cluster>,
    fleets: &BTreeMap<String, Vec<String>>,
) -> Result<BTreeMap<String, String>, Unselected> {
    let members = |fleet: &str| fleets.get(fleet).ok_or_else(|| Unselected::UnknownFleet(fleet.to_owned()));
    let mut selected: BTreeMap<String, String> = BTreeMap::new();
    let (named, wide): (Vec<_>, Vec<_>) =
        spec.targets.iter().partition(|target| matches!(target.selection, Selection::Cluster(_)));
    for target in named.into_iter().chain(wide) {
        let found: Vec<String> = match &target.selection {
            Selection::Cluster(cluster) => vec![cluster.clone()],
            Selection::Fleet(fleet) => members(fleet)?.clone(),
            Selection::Labels { fleet, selector } => {
                let within = fleet.as_deref().map(members).transpose()?;
                clusters
                    .iter()
                    .filter(|(name, cluster)| {
                        within.is_none_or(|members| members.contains(name)) && selector.matches(&cluster.labels)
                    })
                    .map(|(name, _)| name.clone())
                    .collect()
            }
        };
        for cluster in found {
            selected.entry(cluster).or_insert_with(|| target.path.clone());
        }
    }
    match selected.len() {
        0 => Err(Unselected::Nothing),
        1..=MAX_CLUSTERS => Ok(selected),
        many => Err(Unselected::TooMany(many)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::spec::parse_application;
    use muster_core::manifest::parse_one;

    fn spec(targets: &str) -> ApplicationSpec {
        let text = format!(
            "apiVersion: muster.dev/v1\nkind: Application\nmetadata: {{name: a}}\nspec: {{gitRepositoryRef: {{name: r}}, targets: {targets}}}\n"
        );
        parse_application(&parse_one(&text).unwrap()).unwrap().spec
    }

    #[test]
    fn a_cluster_named_alone_keeps_its_own_folder_within_its_fleet() {
        let fleets = BTreeMap::from([("edge".to_owned(), vec!["e1".to_owned(), "e2".to_owned()])]);
        let selected = select(&spec("[{fleet: edge, path: all}, {cluster: e2, path: two}]"), &BTreeMap::new(), &fleets).unwrap();
        assert_eq!(selected, BTreeMap::from([("e1".into(), "all".into()), ("e2".into(), "two".into())]));
    }

    #[test]
    fn labels_choose_among_the_known_clusters() {
        let mut cluster = Cluster::default();
        cluster.labels.insert("tier".into(), "edge".into());
        let clusters = BTreeMap::from([("e1".to_owned(), cluster), ("t1".to_owned(), Cluster::default())]);
        let wanted = spec("[{selector: {matchLabels: {tier: edge}}, path: p}]");
        assert_eq!(select(&wanted, &clusters, &BTreeMap::new()).unwrap().into_keys().collect::<Vec<_>>(), ["e1"]);
        assert_eq!(select(&wanted, &BTreeMap::new(), &BTreeMap::new()), Err(Unselected::Nothing));
    }

    #[test]
    fn an_unknown_fleet_is_waited_for() {
        let wanted = spec("[{fleet: edge, path: p}]");
        assert_eq!(select(&wanted, &BTreeMap::new(), &BTreeMap::new()), Err(Unselected::UnknownFleet("edge".into())));
    }
}
