//! The contract of a Kubernetes API, against the simulated one. The same cases run unchanged against a real server.

use muster_simcluster::{ClusterConfig, NodeGroup, SimCluster, contract};

fn cluster() -> SimCluster {
    let mut config = ClusterConfig::named("contract");
    let node: NodeGroup = serde_json::from_value(serde_json::json!({"count": 1})).expect("a node");
    config.nodes = vec![node];
    SimCluster::start(config, Vec::new(), None).expect("a cluster")
}

#[tokio::test]
async fn the_simulated_api_keeps_the_contract() {
    let cluster = cluster();
    let client = kube::Client::new(cluster.service(), "default");
    let runs = contract::cases().into_iter().map(|case| {
        let client = client.clone();
        async move { (case.name, (case.run)(client).await) }
    });
    let results = futures::future::join_all(runs).await;
    let failed: Vec<String> =
        results.iter().filter_map(|(name, result)| result.as_ref().err().map(|error| format!("{name}: {error:#}"))).collect();
    assert!(failed.is_empty(), "{} of {} cases failed:\n{}", failed.len(), results.len(), failed.join("\n"));
}

#[tokio::test]
async fn the_contract_holds_behind_a_socket() {
    let served = muster_simcluster::server::serve(cluster()).await.expect("sockets");
    let url: http::Uri = format!("http://{}", served.endpoints.api).parse().expect("an address");
    let client = kube::Client::try_from(kube::Config::new(url)).expect("a client");
    for case in contract::cases() {
        if let Err(error) = (case.run)(client.clone()).await {
            panic!("{}: {error:#}", case.name);
        }
    }
    served.cluster.stop().await;
}
