//! Gangs that may span the clusters of a region: when they are split and over what, and what is said of that.

use crate::world::{GPU, RACK, amounts, cluster, elastic, engine, job, plan, queue, racked, submit, tier, together};
use muster_scheduler_engine::{
    Amounts, Budget, BudgetLimit, BudgetUnit, ClusterSpec, Dataset, Engine, Event, Hold, JobId, JobSpec, Outlook, Placement,
    QueueSpec, Reason, RunEnd, Slot, Span, TierOpens, Time, TopologyMode, WorkerGroup, check,
};

mod budgeted;
mod runs;

/// Nodes of 8 V100s in a region.
fn of(region: &str, name: &str, nodes: u32) -> ClusterSpec {
    ClusterSpec { region: region.to_owned(), ..cluster(name, nodes, "V100", 1) }
}

/// A job that may be split, of so many workers with 8 GPUs each.
fn wide(id: u64, queue: &str, workers: u32) -> JobSpec {
    let mut job = job(id, queue, workers, 8);
    job.gang.span = Span::Region;
    job
}

fn on_q(clusters: Vec<ClusterSpec>) -> Engine {
    engine(clusters, vec![queue("q", 1)])
}

/// How many workers went where, the first part first.
fn parts(placement: &Placement) -> Vec<(&str, u32)> {
    let workers = |slots: &[Slot]| slots.iter().map(|slot| slot.workers).sum();
    let first = (placement.cluster.as_str(), workers(&placement.slots));
    let further = placement.elsewhere.iter().map(|part| (part.cluster.as_str(), workers(&part.slots)));
    std::iter::once(first).chain(further).collect()
}

fn ended(engine: &mut Engine, id: u64, end: RunEnd) {
    let epoch = engine.job(JobId(id)).unwrap().epoch;
    engine.apply(Event::Ended { job: JobId(id), epoch, end }).unwrap();
}

/// Free GPUs on all nodes of a cluster.
fn free(engine: &Engine, cluster: &str) -> i64 {
    engine.audit().free[cluster].values().map(|free| free.get(GPU)).sum()
}

/// Starts everything that has room.
fn run_all(engine: &mut Engine) {
    let at = engine.now();
    for placement in plan(engine) {
        engine.apply(Event::Started { job: placement.job, epoch: placement.epoch, at }).unwrap();
    }
}

/// A fold of its rows is the same engine, and has nothing left to decide.
fn folds(engine: &Engine) {
    let mut other = Engine::restore(engine.rows(), engine.now()).unwrap();
    assert_eq!(other.audit(), engine.audit());
    assert_eq!(other.rows(), engine.rows());
    assert_eq!(other.plan(), []);
}

#[test]
fn a_gang_is_split_only_where_no_cluster_holds_it() {
    let mut engine = on_q(vec![of("eu", "one", 3), of("eu", "two", 2)]);
    submit(&mut engine, wide(1, "q", 3));
    assert_eq!(parts(&plan(&mut engine)[0]), [("one", 3)], "whole");
    ended(&mut engine, 1, RunEnd::Finished);
    submit(&mut engine, wide(2, "q", 4));
    let placements = plan(&mut engine);
    assert_eq!(parts(&placements[0]), [("one", 3), ("two", 1)]);
    assert_eq!((placements[0].gpus, placements[0].elsewhere[0].gpus), (24, 8), "each part says its own GPUs");
    assert_eq!(engine.usage("q").unwrap().get(GPU), 32, "its queue is charged once, with all of it");
    folds(&engine);
    let mut narrow = wide(3, "q", 4);
    narrow.gang.span = Span::Cluster;
    let mut apart = on_q(vec![of("eu", "one", 3), of("eu", "two", 2)]);
    submit(&mut apart, narrow);
    assert_eq!(plan(&mut apart), [], "it does not say that it may be split");
}

#[test]
fn all_parts_are_in_one_region_that_is_known() {
    let mut engine = on_q(vec![of("eu", "one", 2), of("us", "two", 2), of("", "three", 2), of("", "four", 2)]);
    submit(&mut engine, wide(1, "q", 3));
    assert_eq!(plan(&mut engine), []);
    engine.apply(Event::Cluster(of("us", "three", 2))).unwrap();
    assert_eq!(parts(&plan(&mut engine)[0]), [("three", 2), ("two", 1)]);
}

#[test]
fn all_parts_have_one_model_and_are_of_one_tier() {
    let a100 = ClusterSpec { region: "eu".to_owned(), ..cluster("dear", 2, "A100", 9) };
    let mut engine = on_q(vec![of("eu", "one", 2), a100.clone()]);
    submit(&mut engine, wide(1, "q", 3));
    assert_eq!(plan(&mut engine), [], "two models");
    let tiers = vec![tier(&["one", "two"], TierOpens::WhenFull), tier(&["three"], TierOpens::WhenFull)];
    let tiered = QueueSpec { tiers, ..queue("q", 1) };
    let clusters = vec![of("eu", "one", 2), of("eu", "two", 1), of("eu", "three", 3)];
    let mut engine = crate::world::engine(clusters, vec![tiered]);
    submit(&mut engine, wide(1, "q", 4));
    assert_eq!(plan(&mut engine), [], "two tiers");
    submit(&mut engine, wide(2, "q", 3));
    let placement = &plan(&mut engine)[0];
    assert_eq!((parts(placement), placement.tier), (vec![("three", 3)], 1), "whole in a later tier before split in the first");
    submit(&mut engine, wide(3, "q", 3));
    let placement = &plan(&mut engine)[0];
    assert_eq!((parts(placement), placement.tier), (vec![("one", 2), ("two", 1)], 0));
}

#[test]
fn the_fewest_clusters_are_taken_and_of_equals_the_first() {
    let priced =
        |name: &str, nodes, price: i64| ClusterSpec { prices: [("V100".to_owned(), price)].into(), ..of("eu", name, nodes) };
    let clusters = vec![priced("a", 2, 9), priced("b", 4, 5), priced("c", 1, 1), priced("d", 2, 3)];
    let split = |workers| {
        let mut engine = on_q(clusters.clone());
        submit(&mut engine, wide(1, "q", workers));
        let placement = plan(&mut engine).remove(0);
        let owned = |(name, workers): (&str, u32)| (name.to_owned(), workers);
        parts(&placement).into_iter().map(owned).collect::<Vec<_>>()
    };
    let owned = |parts: &[(&str, u32)]| parts.iter().map(|(name, workers)| ((*name).to_owned(), *workers)).collect::<Vec<_>>();
    assert_eq!(split(5), owned(&[("b", 4), ("c", 1)]), "any holds what is left: the cheapest");
    assert_eq!(split(6), owned(&[("b", 4), ("d", 2)]), "two hold two more: the cheaper");
    assert_eq!(split(9), owned(&[("b", 4), ("d", 2), ("a", 2), ("c", 1)]));
    let many: Vec<ClusterSpec> = (0..9).map(|number| of("eu", &format!("c{number}"), 1)).collect();
    let mut engine = on_q(many);
    submit(&mut engine, wide(1, "q", 9));
    assert_eq!(plan(&mut engine), [], "nine clusters are too many");
    submit(&mut engine, wide(2, "q", 8));
    assert_eq!(parts(&plan(&mut engine)[0]).len(), 8);
}

#[test]
fn a_launcher_goes_where_there_is_room_beside_the_workers() {
    let with_launcher = |cores| {
        let mut job = wide(1, "q", 3);
        job.gang.groups.insert(0, WorkerGroup { name: "launcher".to_owned(), replicas: 1, each: amounts(cores, 1, 0) });
        job
    };
    let mut engine = on_q(vec![of("eu", "one", 2), of("eu", "two", 2)]);
    submit(&mut engine, with_launcher(8));
    let placement = &plan(&mut engine)[0];
    assert_eq!((parts(placement), placement.gpus), (vec![("one", 3), ("two", 1)], 16), "two workers and the launcher");
    assert_eq!(placement.slots.iter().filter(|slot| slot.group == 0).count(), 1);
    folds(&engine);
    let mut engine = on_q(vec![of("eu", "one", 2), of("eu", "two", 2)]);
    submit(&mut engine, with_launcher(80));
    let placement = &plan(&mut engine)[0];
    assert_eq!(parts(placement), [("one", 2), ("two", 2)], "beside two workers of 32 cores there is no room for it");
    // Without GPUs there is no model that must be the same.
    let mut cores = job(2, "q", 3, 0);
    (cores.gang.groups[0].each, cores.gang.span) = (amounts(90, 1, 0), Span::Region);
    let mut engine = on_q(vec![of("eu", "one", 2), ClusterSpec { region: "eu".to_owned(), ..cluster("plain", 1, "", 0) }]);
    submit(&mut engine, cores);
    assert_eq!(parts(&plan(&mut engine)[0]), [("one", 2), ("plain", 1)]);
}

#[test]
fn a_preferred_topology_counts_on_each_cluster() {
    let mut engine = on_q(vec![racked(of("eu", "one", 4), 2), racked(of("eu", "two", 4), 2)]);
    submit(&mut engine, job(1, "q", 1, 4));
    submit(&mut engine, together(wide(2, "q", 5), RACK, TopologyMode::Preferred));
    let placements = plan(&mut engine);
    let split = placements.iter().find(|placement| placement.job == JobId(2)).unwrap();
    assert_eq!(parts(split), [("two", 4), ("one", 1)]);
    assert_eq!(split.elsewhere[0].slots[0].node, "node-1", "the rack with less left");
}

#[test]
fn each_part_is_paid_at_its_price() {
    let priced = |name: &str, price: i64, egress: i64| ClusterSpec {
        prices: [("V100".to_owned(), price)].into(),
        egress: [("us".to_owned(), egress)].into(),
        ..of("eu", name, 1)
    };
    let with = |amount| {
        let budgets = vec![Budget { unit: BudgetUnit::Micros, amount, limit: BudgetLimit::Hard }];
        let mut engine = engine(vec![priced("one", 10, 3), priced("two", 20, 4)], vec![QueueSpec { budgets, ..queue("q", 1) }]);
        let mut job = wide(1, "q", 2);
        job.gang.dataset = Some(Dataset { region: "us".to_owned(), bytes: Dataset::GIB });
        submit(&mut engine, job);
        engine
    };
    // An hour is assumed: 8 × 10 + 3 and 8 × 20 + 4.
    let mut engine = with(246);
    assert_eq!(plan(&mut engine), []);
    let Hold::Budget { asked, .. } = engine.explain(JobId(1)).unwrap().holds[0] else { panic!("the budget holds it") };
    assert_eq!(asked, 247);
    let mut engine = with(247);
    let placement = &plan(&mut engine)[0];
    let further = &placement.elsewhere[0];
    assert_eq!((placement.price_micros, placement.egress_micros), (Some(10), 3));
    assert_eq!((further.price_micros, further.egress_micros), (Some(20), 4));
    assert_eq!(engine.rows().counted["q"], [247]);
}

#[test]
fn it_is_explained_over_which_clusters_it_goes_and_what_they_lack() {
    let mut engine = on_q(vec![of("eu", "one", 3), of("eu", "two", 2), of("us", "three", 1)]);
    submit(&mut engine, job(1, "q", 1, 8));
    assert_eq!(plan(&mut engine).len(), 1);
    submit(&mut engine, wide(2, "q", 5));
    let explanation = engine.explain(JobId(2)).unwrap();
    let words = "region eu comes closest: 32 GPUs V100 are free there, room for 4 of 5 workers (2 on one, 2 on two)";
    assert_eq!(explanation.span.unwrap().to_string(), words);
    let holds: Vec<String> = explanation.holds.iter().map(ToString::to_string).collect();
    assert_eq!(holds, [format!("room on several clusters of one region; {words}")]);
    submit(&mut engine, wide(3, "q", 4));
    let explanation = engine.explain(JobId(3)).unwrap();
    let verdict = explanation.span.unwrap();
    assert!(verdict.fits() && explanation.holds.is_empty(), "{:?}", explanation.holds);
    assert_eq!(verdict.to_string(), "its 4 workers have room in region eu: 2 on one, 2 on two");
    assert_eq!(plan(&mut engine).len(), 1);
    let explanation = engine.explain(JobId(3)).unwrap();
    let here: Vec<bool> = explanation.clusters.iter().map(|verdict| verdict.reason == Reason::Here).collect();
    assert_eq!((here, explanation.span), (vec![true, false, true], None), "by name: one, three, two");
    submit(&mut engine, wide(4, "q", 1));
    assert_eq!(engine.explain(JobId(4)).unwrap().span, None, "one cluster has room for it");
    submit(&mut engine, wide(5, "q", 6));
    assert_eq!(engine.explain(JobId(5)).unwrap().holds, [Hold::NoCluster], "no region could hold it");
}

#[test]
fn the_worked_example_of_the_documentation_is_true() {
    let of = |region: &str, name: &str, nodes, price: i64| ClusterSpec {
        region: region.to_owned(),
        ..cluster(name, nodes, "A100", price * 1_000_000)
    };
    let clusters = [of("eu-west", "west-1", 3, 2), of("eu-west", "west-2", 2, 3), of("eu-north", "north-1", 3, 1)].to_vec();
    let mut engine = on_q(clusters.clone());
    submit(&mut engine, wide(1, "q", 3));
    submit(&mut engine, wide(2, "q", 3));
    let placements = plan(&mut engine);
    assert_eq!((parts(&placements[0]), parts(&placements[1])), (vec![("north-1", 3)], vec![("west-1", 3)]));
    let mut engine = on_q(clusters.clone());
    submit(&mut engine, wide(1, "q", 5));
    let words = engine.explain(JobId(1)).unwrap().span.unwrap().to_string();
    assert_eq!(words, "its 5 workers have room in region eu-west: 3 on west-1, 2 on west-2");
    assert_eq!(parts(&plan(&mut engine)[0]), [("west-1", 3), ("west-2", 2)]);
    assert!(on_q(clusters.clone()).admit(&wide(1, "q", 6)).is_err(), "no region has six nodes");
    let mut busy = clusters;
    busy[1].nodes[0].used_by_others = amounts(1, 1, 8);
    let mut engine = on_q(busy.clone());
    submit(&mut engine, wide(1, "q", 5));
    assert_eq!(plan(&mut engine), []);
    let holds = engine.explain(JobId(1)).unwrap().holds;
    let words = "room on several clusters of one region; region eu-west comes closest: 32 GPUs A100 are free there, room for 4 of 5 \
                 workers (3 on west-1, 1 on west-2)";
    assert_eq!(holds[0].to_string(), words);
    busy[1].nodes[0].used_by_others = Amounts::new();
    engine.apply(Event::Cluster(busy[1].clone())).unwrap();
    assert_eq!(parts(&plan(&mut engine)[0]).len(), 2);
}

#[test]
fn a_tier_that_would_hold_it_split_is_named_before_it_opens() {
    let tiers = vec![tier(&["own"], TierOpens::WhenFull), tier(&["one", "two"], TierOpens::AfterWaitingMs(1_000))];
    let clusters = vec![of("eu", "own", 1), of("eu", "one", 2), of("eu", "two", 2)];
    let mut engine = engine(clusters, vec![QueueSpec { tiers, ..queue("q", 1) }]);
    submit(&mut engine, wide(1, "q", 3));
    assert_eq!(plan(&mut engine), []);
    let explanation = engine.explain(JobId(1)).unwrap();
    let words = "its 3 workers have room in region eu once tier 1 is open: 2 on one, 1 on two";
    assert_eq!(explanation.span.unwrap().to_string(), words);
    assert_eq!(explanation.holds, [Hold::TierOpens { tier: 1, at: Time(1_001) }]);
    engine.apply(Event::Time(Time(1_001))).unwrap();
    assert_eq!(parts(&plan(&mut engine)[0]), [("one", 2), ("two", 1)]);
}

#[test]
fn what_a_region_could_hold_is_taken_in() {
    let engine = on_q(vec![of("eu", "one", 3), of("eu", "two", 2), of("us", "three", 3)]);
    assert!(engine.admit(&wide(1, "q", 5)).is_ok());
    let refused = engine.admit(&wide(1, "q", 6)).unwrap_err();
    assert_eq!(refused.field, "groups");
    assert!(refused.why.starts_with("no cluster or region of the queue could hold the gang, even when empty: "), "{refused}");
    let refused = |job: JobSpec| check(&job.gang).unwrap_err().to_string();
    let small = elastic(wide(1, "q", 5), 2);
    assert_eq!(refused(small), "span: a gang that may be smaller stays on one cluster");
    let racked = together(wide(1, "q", 5), RACK, TopologyMode::Required);
    assert_eq!(refused(racked), "span: a gang that must stand in one domain stays on one cluster");
    assert!(check(&together(wide(1, "q", 5), RACK, TopologyMode::Preferred).gang).is_ok());
}

#[test]
fn it_is_foreseen_when_it_begins() {
    let mut engine = on_q(vec![of("eu", "one", 1), of("eu", "two", 1)]);
    submit(&mut engine, job(1, "q", 1, 8));
    run_all(&mut engine);
    submit(&mut engine, wide(2, "q", 2));
    submit(&mut engine, wide(3, "q", 2));
    assert_eq!(plan(&mut engine), []);
    let outlook = Outlook { horizon_ms: 1_000_000_000, most_steps: 100, permille: 500 };
    let forecast = engine.clone().forecast(outlook);
    assert_eq!(parts(&forecast.starts[&JobId(2)].placement), [("one", 1), ("two", 1)]);
    assert!(forecast.starts[&JobId(3)].at > forecast.starts[&JobId(2)].at);
}
