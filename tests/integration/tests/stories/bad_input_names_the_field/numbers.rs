//! Amounts that are negative, too large for a number, or for every cluster.

use anyhow::{Result, ensure};
use muster_integration_tests::clients::Clients;
use muster_integration_tests::refusal::names_field;
use muster_proto::registry::v1 as registry;
use serde_json::{Value, json};
use tonic::Status;

use super::documents::queue;
use crate::common;

const LIMITS: &str = "job.manifest.spec.tasks[0].template.spec.containers[0].resources.limits";

async fn refused(clients: &Clients, manifest: &Value, what: &str) -> Result<Status> {
    match common::submit(clients, manifest).await {
        Ok(job) => anyhow::bail!("{what}: {} was taken", job.name),
        Err(error) => Ok(error.downcast_ref::<Status>().cloned().expect("a status")),
    }
}

pub async fn are_refused(clients: &Clients) -> Result<()> {
    let amounts = [
        ("cpu", "-1"),
        ("cpu", "many"),
        ("memory", "9999999999999999999999999"),
        ("memory", "16EiB"),
        ("nvidia.com/gpu", "9223372036854775808"),
        ("nvidia.com/gpu", "0.5"),
    ];
    for (resource, amount) in amounts {
        let mut job = common::job("odd", "short", 1, 1);
        job["spec"]["tasks"][0]["template"]["spec"]["containers"][0]["resources"]["limits"][resource] = json!(amount);
        let what = format!("{resource}: {amount}");
        names_field(&refused(clients, &job, &what).await?, &format!("{LIMITS}[{resource}]"), &what)?;
    }
    for replicas in [json!(-1), json!(4_294_967_296_u64), json!(1.5), json!("two")] {
        let mut job = common::job("odd", "short", 1, 1);
        job["spec"]["tasks"][0]["replicas"] = replicas.clone();
        let what = format!("replicas: {replicas}");
        names_field(&refused(clients, &job, &what).await?, "job.manifest.spec.tasks[0].replicas", &what)?;
    }
    // Each amount is a number, and their product is none.
    let mut overflow = common::job("overflow", "short", 1, 1);
    overflow["spec"]["tasks"][0]["replicas"] = json!(2_000_000_000);
    overflow["spec"]["tasks"][0]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"] = json!("7Ei");
    let refusal = refused(clients, &overflow, "a sum that overflows").await?;
    ensure!(refusal.message().starts_with("job.manifest.spec"), "{refusal}");

    let giant = refused(clients, &common::job("giant", "short", 100, 8), "a gang larger than every cluster").await?;
    names_field(&giant, "job.manifest.spec", "a gang larger than every cluster")?;
    ensure!(giant.message().contains("train"), "which cluster has room for how much is not said: {giant}");

    for (spec, field) in [
        ("{weight: 0}", "spec.weight"),
        ("{weight: 4294967296}", "spec.weight"),
        ("{weight: -1}", "spec.weight"),
        ("{capability: {cpu: \"-1\"}}", "spec.capability[cpu]"),
        ("{capability: {memory: \"9999999999999999999999\"}}", "spec.capability[memory]"),
    ] {
        let manifest = format!("apiVersion: muster.dev/v1\nkind: Queue\nmetadata: {{name: q}}\nspec: {spec}\n");
        let refusal = queue(clients, &manifest).await.expect_err(spec);
        names_field(&refusal, &format!("queue.manifest.{field}"), spec)?;
    }
    for (price, place) in [("-1", "spec.prices[0].perGpuHour"), ("1e30", "line 7, column 51")] {
        let manifest = format!(
            "apiVersion: muster.dev/v1\nkind: PriceBook\nmetadata: {{name: b}}\nspec:\n  currency: EUR\n  prices:\n  - {{clusters: [train], flavor: V100, perGpuHour: {price}}}\n"
        );
        let request = registry::CreatePriceBookRequest {
            price_book: Some(registry::PriceBook { manifest, ..Default::default() }),
            ..Default::default()
        };
        let refusal = clients.price_books().create_price_book(request).await.expect_err(price);
        names_field(&refusal, "price_book.manifest", price)?;
        ensure!(refusal.message().contains(place), "{price}: {refusal}");
    }
    Ok(())
}
