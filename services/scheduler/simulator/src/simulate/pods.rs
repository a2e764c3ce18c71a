//! Pods of openb in ten orders, packed by best fit and by the engine.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::Report;
use crate::fault::Fault;
use crate::openb;
use crate::packing::{self, ARRIVED, Packed, mean_and_sd};
use crate::plot::{Plot, Series};
use crate::scenario::Progress;

/// Orders that are drawn.
const ORDERS: u64 = 10;
const POLICIES: [&str; 2] = ["best fit", "muster"];

pub(super) fn report(nodes: &Path, pods: &Path, seed: u64, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Report, Fault> {
    let (nodes, list) = (openb::nodes(nodes)?, openb::pods(pods)?);
    let clock = || Duration::ZERO;
    let refused = |refused: muster_scheduler_engine::Refused| Fault {
        file: pods.to_owned(),
        line: None,
        why: format!("the engine refuses it: {}", refused.why),
        field: refused.field,
    };
    let mut packed: [Vec<Packed>; 2] = [Vec::new(), Vec::new()];
    for order in 0..ORDERS {
        progress(Progress { policy: "orders of the pods", done: Some((order as usize, ORDERS as usize)) });
        let drawn = packing::draw(&list, &nodes, seed.wrapping_add(order));
        packed[0].push(packing::best_fit(&nodes, &drawn, &clock));
        packed[1].push(packing::muster(&nodes, &drawn, &clock).map_err(refused)?);
    }
    let gpus: i64 = nodes.iter().map(|node| node.allocatable.gpus()).sum();
    let mut text = format!(
        "{} pods of the list, drawn in {ORDERS} orders until {} % of {gpus} GPUs on {} nodes are asked for\n\n{:<10}",
        list.len(),
        ARRIVED[2],
        nodes.len(),
        "POLICY"
    );
    for arrived in ARRIVED {
        let _ = write!(text, " {:>16}", format!("AT {arrived} %"));
    }
    text.push_str("     NO ROOM\n");
    let mut policies = Vec::new();
    for (policy, packed) in POLICIES.iter().zip(&packed) {
        let _ = write!(text, "{policy:<10}");
        let mut allocated = serde_json::Map::new();
        for (place, arrived) in ARRIVED.iter().enumerate() {
            let (mean, sd) = mean_and_sd(&packed.iter().map(|one| one.allocated[place]).collect::<Vec<_>>());
            let _ = write!(text, " {:>16}", format!("{mean:.2} ± {sd:.2} %"));
            allocated.insert(arrived.to_string(), json!({ "mean": mean, "standardDeviation": sd }));
        }
        let waiting = packed.iter().map(|one| (one.pods - one.placed) as f64).sum::<f64>() / packed.len() as f64;
        let _ = writeln!(text, " {waiting:>11.0}");
        policies.push(json!({ "policy": policy, "allocatedPercent": allocated, "podsWithoutRoom": waiting }));
    }
    text.push_str(
        "\nGPUs allocated when so much was asked for, mean ± standard deviation; and how many pods have no room in the end.\n",
    );
    Ok(Report { text, value: json!({ "gpus": gpus, "policies": Value::Array(policies) }), plots: plots(&packed) })
}

/// The first order: nothing ends and nothing costs, so that what is asked for takes the place of time.
fn plots(packed: &[Vec<Packed>; 2]) -> Vec<Plot> {
    let series = |of: usize| {
        let policies = POLICIES.iter().zip(packed).filter_map(|(policy, orders)| Some((policy, orders.first()?)));
        let one = |(policy, packed): (&&str, &Packed)| Series {
            name: (*policy).to_owned(),
            points: packed.curve.iter().map(|point| (point[0], point[of])).collect(),
        };
        policies.map(one).collect::<Vec<_>>()
    };
    let plot = |name, title: &str, up: &str, series| {
        let across = "% of the GPUs asked for".to_owned();
        Plot { name, title: title.to_owned(), across, up: up.to_owned(), series, stacked: false }
    };
    vec![plot("utilisation", "GPUs allocated", "%", series(1)), plot("waiting", "Pods without room", "pods", series(2))]
}
