//! `muster describe`: everything about a resource, with what belongs to it.

use super::{App, explain, kinds_and_names};
use crate::{
    client::Session,
    error::{Failure, Result},
    kinds::{Object, Scope, find, resource_name, short},
    output::{Format, Table, describe::describe, format::text, human, table::Titles},
};
use jiff::Timestamp;
use muster_proto::{
    registry::v1::Cluster,
    scheduler::v1::{Job, RunPart},
};
use serde_json::Value;

const EXAMPLES: &str = "\
Examples:
  muster describe cluster train-idc
  muster describe job resnet50-train -n ml
  muster describe app/resnet50-serving -n kurator-system";

/// Show everything about a resource
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Kind (plural, singular or short), or KIND/NAME
    kind: String,
    /// Names
    names: Vec<String>,
}

/// Runs it.
pub async fn run(args: Args, app: &App) -> Result<()> {
    let (kind, names) = kinds_and_names(&args.kind, &args.names)?;
    if names.is_empty() {
        return Err(Failure::usage(format!("name a {}", kind.spec().singular)).hint("muster get lists them"));
    }
    let session = app.session()?;
    for (index, name) in names.iter().enumerate() {
        let object = kind.get(&session, &resource_name(kind.spec(), name, session.target.namespace())?).await?;
        if matches!(app.printer.format, Format::Json | Format::Yaml | Format::Name) {
            app.printer.one(kind.spec(), &object)?;
            continue;
        }
        let mut words = if index > 0 { "\n".to_owned() } else { String::new() };
        match kind.spec().plural {
            "clusters" => words.push_str(&cluster(object)),
            "jobs" => words.push_str(&job(&session, object).await?),
            _ => words.push_str(&describe(&object.json, Timestamp::now())),
        }
        text(&words)?;
    }
    Ok(())
}

/// A cluster: its nodes are summed up by flavor, its API groups by number.
fn cluster(object: Object) -> String {
    let mut json = object.json;
    let cluster: Cluster = serde_json::from_value(json.clone()).unwrap_or_default();
    if let Some(fields) = json.as_object_mut() {
        fields.remove("inventory");
        if let Some(preflight) = fields.get_mut("preflight").and_then(Value::as_object_mut) {
            for list in ["apiGroups", "crds"] {
                let count = preflight.get(list).and_then(Value::as_array).map_or(0, Vec::len);
                preflight.insert(list.to_owned(), count.into());
            }
        }
    }
    let mut words = describe(&json, Timestamp::now());
    let mut table = Table::new(["FLAVOR", "GPUS", "USED", "FREE", "PRICE/GPU-HOUR"]);
    for (flavor, gpus) in crate::kinds::gpus_by_flavor(&cluster) {
        let price = cluster.prices.iter().find(|price| price.flavor == flavor);
        let price = price.map_or_else(String::new, |price| human::money(price.micros_per_gpu_hour, &price.currency));
        table.row([flavor, gpus.total.to_string(), gpus.used.to_string(), (gpus.total - gpus.used).to_string(), price]);
    }
    if let Some(inventory) = &cluster.inventory {
        words.push_str(&format!("Nodes:  {}\n", inventory.nodes.len()));
    }
    if !table.is_empty() {
        words.push_str("GPUs:\n");
        words.push_str(&table.render(Titles::Shown, 2));
    }
    words
}

/// A job: with its runs, with what each cluster has of one in several, and with why it waits while it does.
async fn job(session: &Session, object: Object) -> Result<String> {
    let mut json = object.json;
    let job: Job = serde_json::from_value(json.clone()).unwrap_or_default();
    let manifest = json.as_object_mut().and_then(|fields| {
        fields.remove("parts");
        fields.remove("manifest")
    });
    let mut words = describe(&json, Timestamp::now());
    words.push_str(&parts(&job.parts, Timestamp::now()));
    let runs = find("runs")?;
    let scope = Scope { parent: object.name.clone(), ..Scope::default() };
    let found = runs.list(session, &scope).await?;
    if !found.is_empty() {
        // Namespace and job are the same in every row.
        let columns = runs.spec().columns;
        let mut table = Table::new(columns[2..].iter().copied());
        for run in &found {
            table.row(run.cells[2..].iter().map(String::as_str));
        }
        words.push_str("Runs:\n");
        words.push_str(&table.render(Titles::Shown, 2));
    }
    if json.get("state").and_then(Value::as_str) == Some("QUEUED") {
        let explanation = explain::ask(session, &object.name).await?;
        words.push_str(&format!("\n{}", explain::words(&explanation)));
    }
    if let Some(manifest) = manifest {
        words.push_str(&describe(&serde_json::json!({ "manifest": manifest }), Timestamp::now()));
    }
    Ok(words)
}

/// What each cluster has of a job's run; nothing for one that is in one cluster.
fn parts(parts: &[RunPart], now: Timestamp) -> String {
    if parts.is_empty() {
        return String::new();
    }
    let mut table = Table::new(["CLUSTER", "WORKERS", "GPUS", "STATE", "TOOK", "REASON"]);
    for part in parts {
        table.row([
            short(&part.cluster),
            part.workers.to_string(),
            part.gpus.to_string(),
            human::state(part.state().as_str_name()),
            human::span(part.start_time.as_ref(), part.finish_time.as_ref(), now),
            part.reason.clone(),
        ]);
    }
    format!("Parts:\n{}", table.render(Titles::Shown, 2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::object;
    use muster_proto::{
        agent::v1::{Inventory, Node},
        registry::v1::FlavorPrice,
        scheduler::v1::job::State,
    };
    use std::collections::BTreeMap;

    #[test]
    fn a_job_in_several_clusters_shows_what_each_has_of_it() {
        let at = |seconds| Some(muster_proto::Timestamp { seconds, nanos: 0 });
        let part = |cluster: &str, workers, state: State, start| RunPart {
            cluster: format!("clusters/{cluster}"),
            workers,
            gpus: 8 * workers,
            state: state.into(),
            start_time: at(start),
            ..RunPart::default()
        };
        let all = [part("idc", 2, State::Running, 0), RunPart { start_time: None, ..part("cloud", 1, State::Placed, 0) }];
        let now = Timestamp::from_second(90).expect("a time");
        assert_eq!(
            parts(&all, now),
            "Parts:\n  CLUSTER   WORKERS   GPUS   STATE     TOOK    REASON\n  idc       2         16     Running   1m30s\n  cloud     1         \
             8      Placed\n"
        );
        assert_eq!(parts(&[], now), "");
    }

    #[test]
    fn a_cluster_sums_its_nodes_up_with_their_price() {
        let node = Node {
            flavor: "V100".to_owned(),
            allocatable: BTreeMap::from([("nvidia.com/gpu".to_owned(), "8".to_owned())]),
            ..Node::default()
        };
        let price = FlavorPrice {
            flavor: "V100".to_owned(),
            micros_per_gpu_hour: 1_200_000,
            currency: "EUR".to_owned(),
            ..FlavorPrice::default()
        };
        let cluster_message = Cluster {
            name: "clusters/a".to_owned(),
            inventory: Some(Inventory { nodes: vec![node.clone(), node], ..Inventory::default() }),
            prices: vec![price],
            ..Cluster::default()
        };
        let words = cluster(object(&cluster_message));
        assert!(
            words.contains(
                "Nodes:  2\nGPUs:\n  FLAVOR   GPUS   USED   FREE   PRICE/GPU-HOUR\n  V100     16     0      16     1.20 EUR\n"
            ),
            "{words}"
        );
    }
}
