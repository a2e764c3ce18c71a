//! The same on real parts: a Kafka broker, and Kubernetes clusters whose nodes and pods are kwok's.

use anyhow::Result;
use muster_integration_tests::Setup;
use muster_integration_tests::kafka::MadeTopics;
use muster_integration_tests::parts::kafka::Kafka;
use muster_integration_tests::parts::kubernetes::{Kubernetes, Programs};
use muster_integration_tests::parts::volcano;
use muster_integration_tests::platform::Cluster;
use muster_integration_tests::process::Leash;
use muster_simcluster::{CrdPreset, presets};
use serde_json::json;
use tokio::task::JoinSet;

use super::figure::Figure;
use super::{jobs, releases};
use crate::setup::{kafka, kubernetes};

/// Clusters of a release: what two cores can run for real.
pub const CLUSTERS: u32 = 2;

/// A broker, and what clusters are started from.
pub struct Parts {
    kafka: Kafka,
    programs: Programs,
}

impl Parts {
    /// Starts the broker, and builds what is missing.
    ///
    /// # Errors
    /// Something can't be fetched, built or started.
    pub async fn start() -> Result<Self> {
        let kafka = Kafka::start(kafka::jars().await?, &Leash::this_program()).await?;
        Ok(Self { kafka, programs: kubernetes::programs().await? })
    }

    /// Jobs and releases as on the embedded parts, one after the other.
    ///
    /// # Errors
    /// Something does not come up, or does not happen.
    pub async fn measure(&self, setup: impl Fn() -> Result<Setup>, count: u32) -> Result<Vec<Figure>> {
        let mut figures = Vec::new();
        let training = [(jobs::CLUSTER.to_owned(), count.div_ceil(8))];
        figures.extend(self.with(&training, setup()?, async |setup| jobs::measure(setup, count).await).await?);
        let edges = releases::names(CLUSTERS).into_iter().map(|name| (name, 1)).collect::<Vec<_>>();
        figures.extend(self.with(&edges, setup()?, async |setup| releases::measure(setup, CLUSTERS).await).await?);
        for figure in &mut figures {
            figure.what.insert_str(0, "real parts: ");
        }
        Ok(figures)
    }

    /// Starts clusters of so many nodes for as long as it takes.
    async fn with(
        &self,
        clusters: &[(String, u32)],
        mut setup: Setup,
        measure: impl AsyncFnOnce(Setup) -> Result<Vec<Figure>>,
    ) -> Result<Vec<Figure>> {
        let mut running = Vec::new();
        let mut controllers = JoinSet::new();
        for (name, nodes) in clusters {
            let cluster = Kubernetes::start(&self.programs, &setup.leash, name, *nodes, "V100").await?;
            let real = Cluster::real(name, cluster.folder())?;
            for definition in presets::definitions(CrdPreset::Volcano) {
                real.api.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition).await?;
            }
            // A queue is healthy once a controller has opened it.
            controllers.spawn(volcano::run(real.api.clone()));
            setup.real.push(real);
            running.push(cluster);
        }
        let _topics = MadeTopics::make(self.kafka.address()).await?;
        setup.brokers = Some(self.kafka.address().to_owned());
        setup.simulation = json!({"clusters": []});
        measure(setup).await
    }
}
