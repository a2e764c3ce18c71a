//! How busy the GPUs are, under the names of NVIDIA's DCGM exporter: a gauge for each GPU of each node, with the pod that
//! has it.

use crate::{images, json, quantity, state::State};
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// Writes a value for every GPU.
pub fn scrape(state: &mut State) {
    let now = jiff::Timestamp::now().as_millisecond();
    let mut by_node: BTreeMap<String, Vec<Arc<Value>>> = BTreeMap::new();
    for pod in state.store.list("pods", "").filter(|pod| json::text(pod, "/status/phase") == "Running") {
        by_node.entry(json::text(pod, "/spec/nodeName").to_owned()).or_default().push(Arc::clone(pod));
    }
    let mut samples = Vec::new();
    for node in state.store.list("nodes", "") {
        let total = quantity::units(json::text(node, "/status/capacity/nvidia.com~1gpu"));
        let mut next = 0;
        let mut sample = |gpu: i64, utilisation: f64, pod: Option<&Value>| {
            let mut labels = vec![
                ("Hostname".to_owned(), json::name(node).to_owned()),
                ("gpu".to_owned(), gpu.to_string()),
                ("modelName".to_owned(), json::label(node, "nvidia.com/gpu.product").to_owned()),
            ];
            if let Some(pod) = pod {
                labels.push(("namespace".to_owned(), json::namespace(pod).to_owned()));
                labels.push(("pod".to_owned(), json::name(pod).to_owned()));
            }
            samples.push((labels, utilisation));
        };
        for pod in by_node.get(json::name(node)).into_iter().flatten() {
            let ends = (json::text(pod, "/spec/restartPolicy") != "Always").then_some(Duration::ZERO);
            for container in json::list(pod, "/spec/containers") {
                let count = quantity::units(json::text(container, "/resources/limits/nvidia.com~1gpu"));
                let behaviour = images::behaviour(&state.images, &state.config.name, json::text(container, "/image"), ends);
                for gpu in next..(next + count).min(total) {
                    sample(gpu, behaviour.gpu_utilisation, Some(pod));
                }
                next += count;
            }
        }
        (next..total).for_each(|gpu| sample(gpu, 0.0, None));
    }
    for (labels, utilisation) in samples {
        state.traffic.metrics.add("DCGM_FI_DEV_GPU_UTIL", &labels, None, now, utilisation);
    }
    state.traffic.metrics.end_round(now, &["DCGM_FI_DEV_GPU_UTIL"]);
}
