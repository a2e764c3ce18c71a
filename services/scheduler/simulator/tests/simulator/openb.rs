//! The node and pod lists of openb: what is read, what is refused, and pods packed onto nodes.

use std::path::PathBuf;
use std::time::Duration;

use muster_scheduler_simulator::{openb, packing};

const NODES: &str = "sn,cpu_milli,memory_mib,gpu,model\nn-0,64000,262144,2,P100\nn-1,96000,393216,8,G2\n";
const PODS: &str = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos\np-0,12000,16384,1,1000,,LS\np-1,6000,12288,1,460,G2|P100,LS\n\
                    p-2,8000,1024,0,0,,BE\np-3,16000,65536,4,1000,G2,LS\n";

fn file(folder: &tempfile::TempDir, text: &str) -> PathBuf {
    let path = folder.path().join("list.csv");
    std::fs::write(&path, text).unwrap();
    path
}

fn fault(text: &str, of_nodes: bool) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder, text);
    let fault = if of_nodes { openb::nodes(&path).unwrap_err() } else { openb::pods(&path).unwrap_err() };
    fault.to_string().replace(&path.display().to_string(), "list.csv")
}

#[test]
fn nodes_and_pods_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let nodes = openb::nodes(&file(&folder, NODES)).unwrap();
    assert_eq!((nodes.len(), nodes[1].flavor.as_str(), nodes[1].allocatable.gpus()), (2, "G2", 8));
    let pods = openb::pods(&file(&folder, PODS)).unwrap();
    assert_eq!(pods.iter().map(|pod| pod.gpu_milli).collect::<Vec<_>>(), [1_000, 460, 0, 4_000]);
    assert_eq!(pods[1].models.iter().collect::<Vec<_>>(), ["G2", "P100"]);
    assert_eq!(pods[1].gang().groups[0].each.get("nvidia.com/gpu-milli"), 460);
    let without_models = "name,cpu_milli,memory_mib,num_gpu,gpu_milli\np-0,12000,16384,1,1000\n";
    assert!(openb::pods(&file(&folder, without_models)).unwrap()[0].models.is_empty());
}

#[test]
fn what_is_wrong_is_named_by_file_line_and_field() {
    let pods = |from: &str, to: &str| fault(&PODS.replace(from, to), false);
    assert_eq!(
        pods("1,460", "2,460"),
        "list.csv:3: gpu_milli: 460 thousandths of each of 2 GPUs is neither whole GPUs nor a part of one"
    );
    assert_eq!(pods("6000,", "-6,"), "list.csv:3: cpu_milli: \"-6\" is no whole number from 0 up");
    assert!(pods("num_gpu", "gpus").starts_with("list.csv:1: num_gpu: the column is missing"));
    assert_eq!(fault(&NODES.replace("n-1", "n-0"), true), "list.csv:3: sn: \"n-0\" is there twice");
    assert_eq!(
        fault(&NODES.replace("262144", "9999999999999"), true),
        "list.csv:2: memory_mib: 9999999999999 MiB in one node or pod"
    );
    assert_eq!(fault("sn,cpu_milli,memory_mib,gpu,model\n", true), "list.csv: has no node");
    assert_eq!(fault("", true), "list.csv: is empty");
}

#[test]
fn pods_come_until_more_is_asked_than_there_is_and_the_same_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let nodes = openb::nodes(&file(&folder, NODES)).unwrap();
    let pods = openb::pods(&file(&folder, PODS)).unwrap();
    let drawn = packing::draw(&pods, &nodes, 7);
    let asked: i64 = drawn.iter().map(|pod| pod.gpu_milli).sum();
    let (last, most) = (drawn.last().unwrap().gpu_milli, 13_000);
    assert!(asked >= most && asked - last < most, "{asked}");
    let clock = || Duration::ZERO;
    let played = packing::muster(&nodes, &drawn, &clock).unwrap();
    assert_eq!(played, packing::muster(&nodes, &packing::draw(&pods, &nodes, 7), &clock).unwrap());
    for packed in [played, packing::best_fit(&nodes, &drawn, &clock)] {
        assert_eq!(packed.pods, drawn.len());
        assert!(packed.placed < packed.pods, "not everything fits: {packed:?}");
        assert!(packed.allocated[0] <= packed.allocated[2] && packed.allocated[2] <= 100.0, "{packed:?}");
        assert!(packed.allocated[2] > 60.0, "{packed:?}");
    }
}
