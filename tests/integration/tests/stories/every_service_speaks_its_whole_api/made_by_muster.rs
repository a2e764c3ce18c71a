//! What Muster makes itself, and the RPCs that are no standard verbs: runs, releases, versions, reports, and what people,
//! services and agents ask besides.
//!
//! The one thing to know: a real training cluster and a real repository stand behind all of it.

use anyhow::{Context, Result, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use muster_integration_tests::clients::Clients;
use muster_integration_tests::patience::look;
use muster_integration_tests::platform::Service;
use muster_integration_tests::refusal::has_reason;
use muster_integration_tests::repository::Repository;
use muster_integration_tests::{Platform, eventually};
use serde_json::{Value, json};
use tonic::Code;

use super::offered::Resource;
use super::reflection::{Api, decode};
use super::samples::cluster_policy;
use super::verbs::{get, pages, pages_of};
use super::watches::Watch;
use crate::common;
use crate::common::release::{self, APPLICATION, REPOSITORY, server, tree};

/// What the walk of these needs.
pub struct Scene<'a> {
    /// The RPCs.
    pub api: &'a Api,
    /// The administrator's clients.
    pub clients: &'a Clients,
    /// The platform with the live cluster `train`.
    pub platform: &'a Platform,
    /// The resources.
    pub resources: &'a [Resource],
}

impl Scene<'_> {
    fn resource(&self, name: &str) -> Result<&Resource> {
        self.resources.iter().find(|resource| resource.name() == name).with_context(|| format!("{name} is no resource"))
    }

    async fn call(&self, method: &str, request: Value) -> Result<Value> {
        let outcome = self.api.call(self.clients, self.api.method(method)?, &request).await;
        outcome.with_context(|| format!("{method} {request}"))
    }

    async fn twice(&self, method: &str, request: Value) -> Result<Value> {
        self.api.twice(self.clients, self.api.method(method)?, &request).await
    }

    /// A resource once one of its fields has a value.
    async fn until(&self, resource: &str, name: &str, field: &str, value: &Value) -> Result<Value> {
        eventually(&format!("{field} of {name} is {value}"), async || {
            let found = self.call(&format!("Get{resource}"), json!({"name": name})).await?;
            Ok(look(found[field] == *value, found.clone(), || found.to_string()))
        })
        .await
    }

    /// Everything of it.
    pub async fn walk(&self) -> Result<()> {
        self.clusters().await?;
        self.jobs().await?;
        self.policies().await?;
        self.releases().await?;
        self.models().await?;
        self.of_services_and_agents().await
    }

    async fn clusters(&self) -> Result<()> {
        let name = json!({"name": "clusters/walk-a"});
        for method in ["CordonCluster", "UncordonCluster", "DrainCluster", "LeaveCluster"] {
            self.twice(method, name.clone()).await?;
        }
        let metrics = self.call("QueryMetrics", json!({"cluster": "clusters/train", "query": "1"})).await?;
        ensure!(!metrics["samples"].is_null(), "a scalar has a sample: {metrics}");
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "walk"}}).to_string();
        self.call("DryRun", json!({"cluster": "clusters/train", "manifests": [namespace]})).await?;
        Ok(())
    }

    async fn jobs(&self) -> Result<()> {
        for name in ["walk-runs", "walk-costs", "walk-more"] {
            common::submit(self.clients, &common::job(name, "endless", 1, 1)).await?;
            self.until("Job", &format!("namespaces/ml/jobs/{name}"), "state", &json!("RUNNING")).await?;
        }
        let job = "namespaces/ml/jobs/walk-runs";
        for epoch in ["2", "3"] {
            self.twice("SuspendJob", json!({"name": job})).await?;
            self.until("Job", job, "state", &json!("SUSPENDED")).await?;
            self.twice("ResumeJob", json!({"name": job})).await?;
            self.until("Job", job, "run_epoch", &json!(epoch)).await?;
        }
        self.until("Job", job, "state", &json!("RUNNING")).await?;
        let run = self.resource("Run")?;
        for epoch in 1..=3 {
            get(self.api, self.clients, run, &format!("{job}/runs/{epoch}")).await?;
        }
        pages(self.api, self.clients, run.verb("List")?, job).await?;
        let explained = self.call("ExplainJob", json!({"name": job})).await?;
        ensure!(explained["job"] == json!(job), "{explained}");
        self.what_if().await?;
        pages_of(self.api, self.clients, self.api.method("ReportCost")?, json!({"group_by": "JOB", "page_size": 1})).await?;
        let query = json!({"namespace": "ml", "name": "walk-runs", "kind": "Job"});
        let logs = self.api.method("ReadLogs")?;
        let mut lines = self.api.open(self.clients, logs, &json!({"cluster": "clusters/train", "query": query})).await?;
        lines.message().await?.context("a log")?;
        Ok(())
    }

    /// A gang that is larger than what is free would start on more nodes.
    async fn what_if(&self) -> Result<()> {
        let job = "namespaces/ml/jobs/walk-waits";
        common::submit(self.clients, &common::job("walk-waits", "endless", 4, 8)).await?;
        self.until("Job", job, "state", &json!("QUEUED")).await?;
        let nodes = json!({"cluster": "clusters/train", "flavor": "V100", "count": 4});
        let foreseen = self.call("WhatIf", json!({"changes": [{"nodes": nodes}]})).await?;
        ensure!(foreseen["then"]["started"] == json!(1) && foreseen["jobs"][0]["job"] == json!(job), "{foreseen}");
        self.call("CancelJob", json!({"name": job})).await?;
        Ok(())
    }

    async fn policies(&self) -> Result<()> {
        let fleet = json!({
            "apiVersion": "muster.dev/v1", "kind": "Fleet", "metadata": {"name": "walk-all"},
            "spec": {"clusters": [{"name": "train"}]},
        });
        self.call("CreateFleet", json!({"fleet": {"manifest": fleet.to_string()}})).await?;
        let policies = ["walk-one", "walk-two", "walk-three"];
        for policy in policies {
            let manifest = cluster_policy(policy, "owner").to_string();
            self.call("CreatePolicy", json!({"policy": {"manifest": manifest}})).await?;
        }
        let binding = json!({
            "apiVersion": "policy.kurator.dev/v1alpha1", "kind": "FleetPolicy", "metadata": {"name": "walk-bound"},
            "spec": {"fleetRef": {"name": "walk-all"}, "ramp": {}, "policies": policies.map(|policy| json!({"name": policy}))},
        });
        self.call("CreateFleetPolicy", json!({"fleet_policy": {"manifest": binding.to_string()}})).await?;
        eventually("the cluster reports on three policies", async || {
            let reports = self.call("ListPolicyReports", json!({"parent": "clusters/train"})).await?;
            let all = reports["policy_reports"].as_array().is_some_and(|reports| reports.len() == 3);
            Ok(look(all, (), || reports.to_string()))
        })
        .await?;
        let report = self.resource("PolicyReport")?;
        get(self.api, self.clients, report, "clusters/train/policyReports/walk-one").await?;
        pages(self.api, self.clients, report.verb("List")?, "clusters/train").await?;
        let compliance = self.call("SummarizeCompliance", json!({"fleet": "fleets/walk-all"})).await?;
        ensure!(compliance["rows"].as_array().is_some_and(|rows| rows.len() == 3), "{compliance}");
        let request = json!({"fleet": "fleets/walk-all", "page_size": 1});
        pages_of(self.api, self.clients, self.api.method("SummarizeCompliance")?, request).await?;
        let history = json!({"fleet": "fleets/walk-all"});
        eventually("the violations of three policies are noted", async || {
            let noted = self.call("ListComplianceHistory", history.clone()).await?;
            let all = noted["points"].as_array().is_some_and(|points| points.len() == 3);
            Ok(look(all, (), || noted.to_string()))
        })
        .await?;
        let request = json!({"fleet": "fleets/walk-all", "page_size": 1});
        pages_of(self.api, self.clients, self.api.method("ListComplianceHistory")?, request).await?;
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": []}});
        let verdict = self.call("Evaluate", json!({"manifests": [pod.to_string()], "clusters": ["clusters/train"]})).await?;
        ensure!(verdict["violations"].as_array().is_some_and(|broken| broken.len() == 3), "{verdict}");
        let method = self.api.method("EvaluateStream")?;
        let asked = json!({"manifests": [pod.to_string()], "clusters": ["clusters/train"]});
        let mut answers = self.api.open(self.clients, method, &asked).await?;
        let answer = decode(method.output(), &answers.message().await?.context("an answer")?)?;
        ensure!(answer["verdict"]["violations"] == verdict["violations"], "{answer}");
        ensure!(answers.message().await?.is_none(), "one request has one answer");
        for method in ["PauseRamp", "ResumeRamp", "AbortRamp"] {
            self.twice(method, json!({"name": "fleetPolicies/walk-bound"})).await?;
        }
        Ok(())
    }

    async fn releases(&self) -> Result<()> {
        let repository = Repository::create(&self.platform.folder().join("walk"), &tree("one")).await?;
        let first = repository.head().await?;
        // A release soaks for an hour, so that it stands until somebody promotes it.
        release::apply(self.clients, &repository, &["train"], json!({"minSuccessTime": "1h"})).await?;
        let watch = Watch::begin(self.api, self.clients, self.api.method("WatchReleases")?, APPLICATION).await?;

        let one = self.release(1, "PROGRESSING").await?;
        self.twice("PromoteRelease", json!({"name": one})).await?;
        self.until("Release", &one, "state", &json!("COMPLETED")).await?;

        repository.commit("Two", &[server("two")]).await?;
        self.call("FetchGitRepository", json!({"name": REPOSITORY})).await?;
        let read = self.call("ReadFile", json!({"name": REPOSITORY, "path": "./serving/deployment.yaml"})).await?;
        ensure!(read["content"].as_str().is_some_and(|content| content.contains(":two")), "{read}");
        let two = self.release(2, "PROGRESSING").await?;
        self.twice("PauseRelease", json!({"name": two})).await?;
        self.twice("ResumeRelease", json!({"name": two})).await?;
        self.twice("PromoteRelease", json!({"name": two})).await?;
        self.until("Release", &two, "state", &json!("COMPLETED")).await?;

        let diff = self.call("DiffRelease", json!({"application": APPLICATION, "commit": first})).await?;
        ensure!(diff["targets"].as_array().is_some_and(|targets| targets.len() == 1), "{diff}");
        let back = self.twice("CreateRelease", json!({"parent": APPLICATION, "release": {"commit": first}})).await?;
        let back = back["name"].as_str().context("a name")?;
        self.until("Release", back, "state", &json!("COMPLETED")).await?;
        let forth = self.twice("RollbackApplication", json!({"name": APPLICATION})).await?;
        self.until("Release", forth["name"].as_str().context("a name")?, "state", &json!("COMPLETED")).await?;

        repository.commit("Three", &[server("three")]).await?;
        self.call("FetchGitRepository", json!({"name": REPOSITORY})).await?;
        let five = self.release(5, "PROGRESSING").await?;
        self.twice("AbortRelease", json!({"name": five})).await?;
        self.until("Release", &five, "state", &json!("FAILED")).await?;
        self.twice("RetryRelease", json!({"name": five})).await?;

        let resource = self.resource("Release")?;
        get(self.api, self.clients, resource, &one).await?;
        pages(self.api, self.clients, resource.verb("List")?, APPLICATION).await?;
        watch.saw(self.api, self.clients, &[&one, &two, back, &five].map(|name| (name, "CHANGED"))).await
    }

    /// The name of an application's release by its number, once it is in a state.
    async fn release(&self, number: usize, state: &str) -> Result<String> {
        eventually(&format!("release {number} is {state}"), async || {
            let listed = self.call("ListReleases", json!({"parent": APPLICATION})).await?;
            let mut releases = listed["releases"].as_array().cloned().unwrap_or_default();
            releases.reverse();
            let found = releases.get(number - 1).filter(|release| release["state"] == state);
            let name = found.and_then(|release| release["name"].as_str()).map(str::to_owned);
            Ok(look(name.is_some(), name.unwrap_or_default(), || listed.to_string()))
        })
        .await
    }

    async fn models(&self) -> Result<()> {
        let model = json!({
            "apiVersion": "muster.dev/v1", "kind": "Model", "metadata": {"name": "walk-trained"},
            "spec": {"gitRepositoryRef": {"name": "models", "namespace": "ml"}},
        });
        self.call("CreateModel", json!({"model": {"manifest": model.to_string()}})).await?;
        for version in 1..=3 {
            let event = json!({
                "model": "walk-trained", "version": format!("V_{version}"), "digest": format!("sha256:{version:064}"),
                "uri": format!("s3://models/walk/{version}"), "completed_at": format!("2026-01-0{version}T00:00:00Z"),
            });
            self.twice("ReportTrainingComplete", json!({"event": event})).await?;
        }
        let version = self.resource("ModelVersion")?;
        get(self.api, self.clients, version, "models/walk-trained/versions/V_2").await?;
        pages(self.api, self.clients, version.verb("List")?, "models/walk-trained").await
    }

    /// What only services and agents may ask: people are refused, and those whose it is are answered.
    async fn of_services_and_agents(&self) -> Result<()> {
        let service = self.platform.clients_as_service(Service::Rollout)?;
        let token = std::fs::read_to_string(self.platform.token_file())?;
        let manifest = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "walk", "namespace": "ml"}});
        let (digest, content) = muster_core::bundle::encode(&[manifest]).map_err(|error| anyhow::anyhow!("{error}"))?;
        let bundle = json!({"digest": digest.to_string(), "content": STANDARD.encode(content)});
        for (method, request) in [
            ("IntrospectAccessToken", json!({"secret": token.trim()})),
            ("PutBundles", json!({"bundles": [bundle]})),
            ("GetBundle", json!({"digest": digest.to_string()})),
            ("ApplyDesired", json!({"owner": "rollout", "leader_epoch": (1_u64 << 62).to_string()})),
        ] {
            let method = self.api.method(method)?;
            let refused = self.api.refusal(self.clients, method, &request).await?;
            has_reason(&refused, Code::PermissionDenied, "PERMISSION_DENIED", method.full_name())?;
            self.api.call(&service, method, &request).await.with_context(|| method.full_name().to_owned())?;
        }
        let scheduler = self.platform.clients_as_service(Service::Scheduler)?;
        pages_of(self.api, &scheduler, self.api.method("ListDesired")?, json!({"owner": "scheduler", "page_size": 1})).await?;
        let observed = self.api.method("WatchObserved")?;
        let mut stream = self.api.open(&service, observed, &json!({"owner": "rollout"})).await?;
        stream.message().await?.context("an observation")?;
        let verdicts = self.api.method("ReadVerdicts")?;
        let of_nobody = json!({"cluster": "clusters/walk-nobody", "owner": "policy", "name": "policies"});
        let refused = self.api.refusal(self.clients, verdicts, &of_nobody).await?;
        has_reason(&refused, Code::PermissionDenied, "PERMISSION_DENIED", verdicts.full_name())?;
        let policy = self.platform.clients_as_service(Service::Policy)?;
        let missing = self.api.refusal(&policy, verdicts, &of_nobody).await?;
        has_reason(&missing, Code::NotFound, "NOT_FOUND", verdicts.full_name())?;

        for (method, request, code, reason) in [
            ("EnrolmentService.Enrol", json!({"token": "mste-nobody"}), Code::InvalidArgument, "INVALID_FIELD"),
            ("EnrolmentService.Renew", json!({}), Code::Unauthenticated, "UNAUTHENTICATED"),
            ("AgentLinkService.Connect", json!({}), Code::PermissionDenied, "PERMISSION_DENIED"),
            ("AgentLinkService.FetchBundle", json!({"digest": digest.to_string()}), Code::PermissionDenied, "PERMISSION_DENIED"),
        ] {
            let method = self.api.method(method)?;
            has_reason(&self.api.refusal(self.clients, method, &request).await?, code, reason, method.full_name())?;
        }
        Ok(())
    }
}
