//! The node and pod lists of Alibaba's openb trace (Weng et al., *Beware of Fragmentation*, USENIX ATC 2023). Nodes:
//! `sn,cpu_milli,memory_mib,gpu,model`. Pods: `name,cpu_milli,memory_mib,num_gpu,gpu_milli` and, where there is one, `gpu_spec`,
//! the models that will do (`V100M16|V100M32`); further columns are ignored.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use muster_scheduler_engine::{Amounts, CPU, Gang, MEMORY, NodeSpec};

use crate::fault::Fault;
use crate::play::{GPU, gang_of};
use crate::table::{Row, Table};

/// Parts of a GPU, in thousandths.
const PART: &str = "nvidia.com/gpu-milli";
const WHOLE: i64 = 1_000;
const MIB: i64 = 1 << 20;
/// More nodes or pods than this are taken for a mistake.
const MOST_LINES: usize = 1_000_000;

/// One pod of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Thousandths of a core.
    pub cpu_milli: i64,
    /// Bytes.
    pub memory: i64,
    /// Thousandths of GPUs, of one GPU if less than 1,000.
    pub gpu_milli: i64,
    /// Models that will do; empty: any.
    pub models: BTreeSet<String>,
}

impl Pod {
    /// The pod as a gang of one.
    #[must_use]
    pub fn gang(&self) -> Gang {
        let each = Amounts::new().with(CPU, self.cpu_milli).with(MEMORY, self.memory);
        let each = if self.gpu_milli < WHOLE { each.with(PART, self.gpu_milli) } else { each.with(GPU, self.gpu_milli / WHOLE) };
        Gang { flavors: self.models.clone(), ..gang_of("pod", 1, each, None) }
    }
}

/// Reads the list of nodes. Parts of their GPUs may be used.
///
/// # Errors
/// The file, line and field at fault.
pub fn nodes(file: &Path) -> Result<Vec<NodeSpec>, Fault> {
    const TITLES: [&str; 5] = ["sn", "cpu_milli", "memory_mib", "gpu", "model"];
    let mut table = Table::open(file, TITLES)?;
    let mut nodes: Vec<NodeSpec> = Vec::new();
    let mut names = BTreeSet::new();
    while let Some(row) = table.next()? {
        let (cpu_milli, memory, gpus) = (row.count(1, TITLES[1])?, mebibytes(&row, 2)?, row.count(3, TITLES[3])?);
        if gpus > 1_000 {
            return Err(row.fault(TITLES[3], format!("{gpus} GPUs in a node")));
        }
        if !names.insert(row.texts[0].to_owned()) {
            return Err(row.fault(TITLES[0], format!("{:?} is there twice", row.texts[0])));
        }
        let allocatable = Amounts::new().with(CPU, cpu_milli).with(MEMORY, memory).with(GPU, gpus).with(PART, gpus * WHOLE);
        let (name, flavor) = (row.texts[0].to_owned(), row.texts[4].to_owned());
        if nodes.len() == MOST_LINES {
            return Err(row.fault("", format!("more than {MOST_LINES} nodes")));
        }
        nodes.push(NodeSpec { name, flavor, allocatable, used_by_others: Amounts::new(), domains: BTreeMap::new() });
    }
    if nodes.is_empty() {
        return Err(table.fault("", "has no node"));
    }
    Ok(nodes)
}

/// Reads the list of pods.
///
/// # Errors
/// The file, line and field at fault.
pub fn pods(file: &Path) -> Result<Vec<Pod>, Fault> {
    const TITLES: [&str; 5] = ["name", "cpu_milli", "memory_mib", "num_gpu", "gpu_milli"];
    let mut table = Table::open(file, TITLES)?.with_extra("gpu_spec");
    let mut pods = Vec::new();
    while let Some(row) = table.next()? {
        let (cpu_milli, memory) = (row.count(1, TITLES[1])?, mebibytes(&row, 2)?);
        let (gpus, each) = (row.count(3, TITLES[3])?, row.count(4, TITLES[4])?);
        let gpu_milli = match (gpus, each) {
            (0, 0) => 0,
            (1, 1..WHOLE) => each,
            (1..=1_000, WHOLE) => gpus * WHOLE,
            _ => {
                return Err(row.fault(
                    TITLES[4],
                    format!("{each} thousandths of each of {gpus} GPUs is neither whole GPUs nor a part of one"),
                ));
            }
        };
        let models = row.extra.split('|').filter(|model| !model.is_empty()).map(ToOwned::to_owned).collect();
        if pods.len() == MOST_LINES {
            return Err(row.fault("", format!("more than {MOST_LINES} pods")));
        }
        pods.push(Pod { cpu_milli, memory, gpu_milli, models });
    }
    if pods.iter().all(|pod: &Pod| pod.gpu_milli == 0) {
        return Err(table.fault("num_gpu", "no pod asks for a GPU"));
    }
    Ok(pods)
}

fn mebibytes(row: &Row<'_, 5>, column: usize) -> Result<i64, Fault> {
    let title = "memory_mib";
    let count = row.count(column, title)?;
    count
        .checked_mul(MIB)
        .filter(|bytes| *bytes < 1 << 50)
        .ok_or_else(|| row.fault(title, format!("{count} MiB in one node or pod")))
}
