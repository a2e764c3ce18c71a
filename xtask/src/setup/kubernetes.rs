//! The programs of a Kubernetes cluster, built from their Go modules.

use anyhow::Result;
use muster_integration_tests::parts::kubernetes::Programs;

use super::tools::{Tool, go_build};

const ETCD: Tool = Tool { name: "etcd", pins: &["go.mod", "go.sum"] };
const KUBERNETES: Tool = Tool { name: "kubernetes", pins: &["go.mod", "go.sum"] };
const KWOK: Tool = Tool { name: "kwok", pins: &["go.mod", "go.sum"] };

/// What the API server says it is; its module's version.
const VERSION: &str = "v1.37.2";

/// Builds what is missing: some ten minutes on two cores from nothing.
///
/// # Errors
/// Go is missing, or something can't be fetched or built.
pub async fn programs() -> Result<Programs> {
    let smaller = "-ldflags=-s -w".to_owned();
    let version = ["gitVersion", "gitMajor", "gitMinor"].iter().zip([VERSION, "1", "37"]);
    let version = version.map(|(name, value)| format!(" -X k8s.io/component-base/version.{name}={value}")).collect::<String>();
    let versioned = format!("{smaller}{version}");
    let etcd = ETCD
        .made(async |into| {
            go_build(&ETCD, &["go.etcd.io/etcd/server/v3"], std::slice::from_ref(&smaller), &into.join("etcd")).await
        })
        .await?;
    let kwok = KWOK
        .made(async |into| go_build(&KWOK, &["sigs.k8s.io/kwok/cmd/kwok"], std::slice::from_ref(&smaller), into).await)
        .await?;
    let packages = ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl"]
        .map(|name| format!("k8s.io/kubernetes/cmd/{name}"));
    let packages = packages.each_ref().map(String::as_str);
    let kubernetes =
        KUBERNETES.made(async |into| go_build(&KUBERNETES, &packages, std::slice::from_ref(&versioned), into).await).await?;
    Ok(Programs { etcd: etcd.join("etcd"), kubernetes, kwok: kwok.join("kwok"), stages: KWOK.source().join("stages.yaml") })
}
