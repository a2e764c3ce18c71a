//! Parts of GPUs, MIG profiles, and which node is filled when the mix of jobs is known.

use crate::world::{GPU, PART, amounts, cluster, engine, gang, job, part, placed, plan, queue, shared, submit};
use muster_scheduler_engine::{Amounts, BoundNode, ClusterSpec, Engine, Epoch, Event, JobId, JobSpec, NodeSpec, RunEnd, Slot};

fn ended(engine: &mut Engine, job: u64) {
    engine.apply(Event::Ended { job: JobId(job), epoch: Epoch(1), end: RunEnd::Finished }).unwrap();
}

/// One node with so many GPUs of which parts may be used.
fn one_node(gpus: i64) -> ClusterSpec {
    let nodes = NodeSpec::group("node", 1, "V100", &amounts(96, 768, gpus));
    shared(ClusterSpec { nodes, ..cluster("idc", 0, "V100", 1) })
}

fn slots(engine: &mut Engine) -> Vec<(u64, Option<u16>)> {
    plan(engine).iter().flat_map(|placement| placement.slots.iter().map(|slot| (placement.job.0, slot.gpu))).collect()
}

#[test]
fn parts_share_a_gpu_as_far_as_it_goes() {
    let mut engine = engine(vec![one_node(2)], vec![queue("q", 1)]);
    for (id, thousandths) in [(1, 600), (2, 600), (3, 400), (4, 300), (5, 200)] {
        submit(&mut engine, part(id, "q", 1, thousandths));
    }
    assert_eq!(slots(&mut engine), [(1, Some(0)), (2, Some(1)), (3, Some(0)), (4, Some(1))], "0.2 is left nowhere");
    ended(&mut engine, 2);
    assert_eq!(slots(&mut engine), [(5, Some(1))]);
}

#[test]
fn a_gpu_is_whole_again_when_the_last_part_is_given_back() {
    let mut engine = engine(vec![one_node(1)], vec![queue("q", 1)]);
    submit(&mut engine, part(1, "q", 2, 300));
    assert_eq!(slots(&mut engine), [(1, Some(0)), (1, Some(0))]);
    submit(&mut engine, job(2, "q", 1, 1));
    assert!(plan(&mut engine).is_empty());
    let explanation = engine.explain(JobId(2)).unwrap();
    assert!(explanation.clusters[0].reason.to_string().ends_with("short of nvidia.com/gpu"), "{explanation:?}");
    ended(&mut engine, 1);
    assert_eq!(placed(&plan(&mut engine)), [(2, "idc")]);
    submit(&mut engine, part(3, "q", 1, 300));
    assert!(plan(&mut engine).is_empty(), "a whole GPU has no part to give");
    let explanation = engine.explain(JobId(3)).unwrap();
    assert!(explanation.clusters[0].reason.to_string().ends_with("short of nvidia.com/gpu"), "{explanation:?}");
}

#[test]
fn nodes_that_do_not_say_so_give_no_parts() {
    let mut engine = engine(vec![cluster("idc", 1, "V100", 1)], vec![queue("q", 1)]);
    submit(&mut engine, part(1, "q", 1, 300));
    assert!(plan(&mut engine).is_empty());
    assert_eq!(engine.admit(&part(2, "q", 1, 300)).unwrap_err().field, "groups");
}

#[test]
fn parts_count_against_a_capability_of_gpus() {
    let mut capped = queue("q", 1);
    capped.capability = Amounts::new().with(GPU, 1).into();
    let mut engine = engine(vec![one_node(4)], vec![capped]);
    submit(&mut engine, part(1, "q", 1, 600));
    submit(&mut engine, part(2, "q", 1, 600));
    assert_eq!(placed(&plan(&mut engine)), [(1, "idc")]);
    let hold = engine.explain(JobId(2)).unwrap().holds[0].to_string();
    assert_eq!(hold, r#"capability of queue "q" exceeded by 200 nvidia.com/gpu-milli: 600 used + 600 asked > 1000"#);
    assert_eq!(engine.usage("q").unwrap(), amounts(1, 4, 0).with(PART, 600));
}

#[test]
fn a_part_is_less_than_a_gpu_and_nothing_besides() {
    let engine = engine(vec![one_node(4)], vec![queue("q", 1)]);
    let refused = engine.admit(&part(1, "q", 1, 1_000)).unwrap_err();
    assert_eq!(refused.field, "groups[0].each[nvidia.com/gpu-milli]");
    let mut both = part(1, "q", 1, 500);
    both.gang.groups[0].each.set(GPU, 1);
    assert_eq!(engine.admit(&both).unwrap_err().field, "groups[0].each[nvidia.com/gpu-milli]");
}

#[test]
fn what_was_bound_elsewhere_shares_its_gpus_with_nobody() {
    let mut cluster = one_node(2);
    cluster.nodes.push(NodeSpec { name: "other".to_owned(), ..cluster.nodes[0].clone() });
    let mut engine = engine(vec![cluster], vec![queue("q", 1)]);
    submit(&mut engine, part(1, "q", 1, 300));
    assert_eq!(plan(&mut engine)[0].slots, [Slot { group: 0, node: "node-0".to_owned(), workers: 1, gpu: Some(0) }]);
    let bound = |node: &str| {
        let used = amounts(1, 4, 0).with(PART, 300);
        Event::Bound { job: JobId(1), epoch: Epoch(1), nodes: vec![BoundNode { node: node.to_owned(), used }] }
    };
    engine.apply(bound("node-0")).unwrap();
    assert_eq!(engine.audit().free["idc"]["node-0"].get(PART), 1_700, "where it was to go it shares on");
    engine.apply(bound("other")).unwrap();
    assert_eq!(engine.audit().free["idc"]["other"].get(GPU), 1);
    submit(&mut engine, job(2, "q", 1, 2));
    assert_eq!(plan(&mut engine)[0].slots[0].node, "node-0");
    ended(&mut engine, 1);
    assert_eq!(engine.audit().free["idc"]["other"].get(GPU), 2);
}

#[test]
fn others_may_use_a_part_of_a_gpu() {
    let mut cluster = one_node(2);
    cluster.nodes[0].used_by_others = Amounts::new().with(PART, 1_400);
    let mut engine = engine(vec![cluster], vec![queue("q", 1)]);
    submit(&mut engine, part(1, "q", 1, 700));
    assert!(plan(&mut engine).is_empty());
    submit(&mut engine, part(2, "q", 1, 600));
    assert_eq!(placed(&plan(&mut engine)), [(2, "idc")]);
}

#[test]
fn a_mig_profile_is_a_resource_of_nodes_with_the_model() {
    const PROFILE: &str = "nvidia.com/mig-1g.5gb";
    let sliced = |name: &str, flavor: &str| {
        let nodes = NodeSpec::group("node", 1, flavor, &amounts(96, 768, 0).with(PROFILE, 2));
        ClusterSpec { nodes, ..cluster(name, 0, flavor, 1) }
    };
    let mut engine = engine(vec![sliced("a", "A30"), sliced("b", "A100")], vec![queue("q", 1)]);
    for id in 1..=3 {
        let mut gang = gang(1, amounts(1, 4, 0).with(PROFILE, 1));
        gang.flavors.insert("A100".to_owned());
        submit(&mut engine, JobSpec { gang, ..job(id, "q", 1, 0) });
    }
    let placements = plan(&mut engine);
    assert_eq!(placed(&placements), [(1, "b"), (2, "b")]);
    assert_eq!(placements[0].flavor.as_deref(), Some("A100"));
}

#[test]
fn a_lower_priority_gives_up_its_part() {
    let mut engine = engine(vec![one_node(1)], vec![queue("q", 1)]);
    let mut low = part(1, "q", 1, 700);
    low.gang.restart_ms = Some(0);
    submit(&mut engine, low);
    assert_eq!(plan(&mut engine).len(), 1);
    engine.apply(Event::Started { job: JobId(1), epoch: Epoch(1), at: muster_scheduler_engine::Time(10) }).unwrap();
    engine.apply(Event::Time(muster_scheduler_engine::Time(100_000))).unwrap();
    let mut high = part(2, "q", 1, 500);
    high.priority = 1;
    submit(&mut engine, high);
    assert_eq!(engine.plan().len(), 1, "the run is told to end");
    assert!(engine.plan().is_empty(), "its part is not there before it has");
    ended(&mut engine, 1);
    assert_eq!(slots(&mut engine), [(2, Some(0))]);
}

/// Small and large nodes of one cluster, of which the mix asks for whole GPUs with much cpu and for cpu alone.
#[test]
fn cpu_is_taken_where_it_makes_no_gpu_useless() {
    let mut cluster = cluster("idc", 0, "V100", 1);
    cluster.nodes = NodeSpec::group("few-gpus", 1, "V100", &amounts(96, 768, 2));
    cluster.nodes.extend(NodeSpec::group("lean", 1, "V100", &amounts(32, 768, 4)));
    let mut engine = engine(vec![shared(cluster)], vec![queue("q", 1)]);
    let trainer = |id| JobSpec { gang: gang(1, amounts(8, 8, 1)), ..job(id, "q", 1, 0) };
    // The mix is known once some have come.
    for id in 1..=16 {
        submit(&mut engine, trainer(id));
    }
    plan(&mut engine);
    for id in 1..=6 {
        ended(&mut engine, id);
    }
    for id in 7..=16 {
        engine.apply(Event::Withdrawn(JobId(id))).unwrap();
    }
    submit(&mut engine, JobSpec { gang: gang(1, amounts(16, 8, 0)), ..job(20, "q", 1, 0) });
    let placements = plan(&mut engine);
    // Best fit would take the node with the least free cpu, and leave two of its GPUs without any.
    assert_eq!(placements[0].slots[0].node, "few-gpus-0");
}
