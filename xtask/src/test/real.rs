//! The real parts: programs of others, fetched or built once, and what of them is started for the stories on them.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Result;
use muster_integration_tests::faults;
use muster_integration_tests::main_job::simulation::{CLOUD_GPUS, IDC_GPUS, TRAIN_CLOUD, TRAIN_IDC};
use muster_integration_tests::parts::kafka::Kafka;
use muster_integration_tests::parts::kubernetes::{Kubernetes, Programs};
use muster_integration_tests::process::Leash;

use crate::setup::{clients, compose, crds, debian, kafka, kubernetes, postgres};

/// The programs of others that the stories on real parts want.
pub struct RealPrograms {
    kafka: PathBuf,
    kubernetes: Programs,
    crds: PathBuf,
    prometheus: PathBuf,
    sshd: PathBuf,
    grpcurl: PathBuf,
    python: PathBuf,
    compose: PathBuf,
}

impl RealPrograms {
    /// Fetches or builds what this machine doesn't have yet.
    ///
    /// # Errors
    /// One can't be had; the error says which.
    pub async fn made() -> Result<Self> {
        Ok(Self {
            kafka: kafka::jars().await?,
            kubernetes: kubernetes::programs().await?,
            crds: crds::folder().await?,
            prometheus: debian::prometheus().await?,
            sshd: debian::sshd().await?,
            grpcurl: clients::grpcurl().await?,
            python: clients::python().await?,
            compose: compose::program().await?,
        })
    }

    /// Those of the parts that are broken.
    ///
    /// # Errors
    /// Postgres' programs can't be had.
    pub async fn to_break(&self) -> Result<faults::Programs> {
        let postgres = postgres::programs().await?;
        Ok(faults::Programs { postgres, kafka: self.kafka.clone(), kubernetes: self.kubernetes.clone() })
    }
}

/// What the stories on real parts run on; it ends with them.
pub struct RealParts {
    kafka: Kafka,
    clusters: Vec<Kubernetes>,
}

impl RealParts {
    /// Starts them.
    ///
    /// # Errors
    /// One doesn't start.
    pub async fn start(programs: &RealPrograms) -> Result<Self> {
        let leash = Leash::this_program();
        let (kafka, idc, cloud) = tokio::try_join!(
            Kafka::start(programs.kafka.clone(), &leash),
            Kubernetes::start(&programs.kubernetes, &leash, TRAIN_IDC, IDC_GPUS / 8, "V100"),
            Kubernetes::start(&programs.kubernetes, &leash, TRAIN_CLOUD, CLOUD_GPUS / 8, "A100")
        )?;
        Ok(Self { kafka, clusters: vec![idc, cloud] })
    }

    /// Tells tests where they are.
    ///
    /// # Errors
    /// A folder's name can't stand in a list of paths.
    pub fn variables(&self, programs: &RealPrograms) -> Result<Vec<(&'static str, OsString)>> {
        let folders = std::env::join_paths(self.clusters.iter().map(Kubernetes::folder))?;
        Ok(vec![
            ("MUSTER_TEST_KUBERNETES", folders),
            ("MUSTER_TEST_KAFKA", self.kafka.address().into()),
            ("MUSTER_TEST_KAFKA_FOLDER", self.kafka.folder().into()),
            ("MUSTER_TEST_KAFKA_JARS", self.kafka.jars().into()),
            ("MUSTER_TEST_KUBECTL", programs.kubernetes.kubectl().into()),
            ("MUSTER_TEST_CRDS", programs.crds.clone().into()),
            ("MUSTER_TEST_PROMETHEUS", programs.prometheus.clone().into()),
            ("MUSTER_TEST_SSHD", programs.sshd.clone().into()),
            ("MUSTER_TEST_GRPCURL", programs.grpcurl.clone().into()),
            ("MUSTER_TEST_PYTHONPATH", programs.python.clone().into()),
            ("MUSTER_TEST_COMPOSE", programs.compose.clone().into()),
        ])
    }
}
