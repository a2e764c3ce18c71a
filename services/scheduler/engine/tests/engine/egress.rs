//! Places compared by what moving a job's dataset there costs, and by the order of a list.

use std::collections::BTreeMap;

use crate::world::{Dice, cluster, engine, job, placed, plan, queue, submit, tier};
use muster_scheduler_engine::{
    Budget, BudgetLimit, BudgetUnit, ClusterSpec, Dataset, Engine, Event, Hold, JobId, JobSpec, Moving, Prefers, QueueSpec, Tier,
    TierOpens, Time, check,
};

const GIB: i64 = Dataset::GIB;
const UNIT: i64 = 1_000_000;

/// A node in a region, at a price in units for a GPU-hour, into which a GiB costs so many millionths, by where it comes from.
fn in_region(name: &str, region: &str, model: &str, price: i64, egress: &[(&str, i64)]) -> ClusterSpec {
    ClusterSpec {
        region: region.to_owned(),
        egress: egress.iter().map(|(from, micros)| ((*from).to_owned(), *micros)).collect(),
        ..cluster(name, 1, model, price * UNIT)
    }
}

/// A job of so many GPUs that reads so many GiB in a region.
fn reads(id: u64, gpus: i64, region: &str, gib: i64) -> JobSpec {
    let mut job = job(id, "q", 1, gpus);
    job.gang.dataset = Some(Dataset { region: region.to_owned(), bytes: gib * GIB });
    job
}

fn goes_to(mut engine: Engine, job: JobSpec) -> (String, i64) {
    submit(&mut engine, job);
    let placements = plan(&mut engine);
    (placements[0].cluster.clone(), placements[0].egress_micros)
}

/// `home` at 3 where the data is, `away` at 1, a GiB for 0.02.
fn home_and_away(prefers: Option<Prefers>) -> Engine {
    let clusters =
        vec![in_region("home", "eu", "V100", 3, &[]), in_region("away", "us", "A100", 1, &[("eu", 20_000), ("*", 90_000)])];
    engine(clusters, vec![QueueSpec { prefers, ..queue("q", 1) }])
}

#[test]
fn a_cheaper_hour_loses_where_moving_the_data_costs_more_than_it_saves() {
    // An hour is assumed: 8 GPUs save 16 there.
    assert_eq!(goes_to(home_and_away(None), reads(1, 8, "eu", 700)), ("away".to_owned(), 14 * UNIT));
    assert_eq!(goes_to(home_and_away(None), reads(1, 8, "eu", 900)), ("home".to_owned(), 0), "moving it costs 18");
    assert_eq!(goes_to(home_and_away(None), reads(1, 4, "eu", 700)), ("home".to_owned(), 0), "four save 8");
    assert_eq!(goes_to(home_and_away(None), reads(1, 8, "us", 900)), ("away".to_owned(), 0), "it is there");
    assert_eq!(goes_to(home_and_away(None), reads(1, 8, "asia", 100)).0, "away", "nobody says what moving it home costs");
    let (cluster, egress) = goes_to(home_and_away(None), reads(1, 8, "asia", 100));
    assert_eq!((cluster.as_str(), egress), ("away", 9 * UNIT), "any other region");
    assert_eq!(goes_to(home_and_away(None), job(1, "q", 1, 8)), ("away".to_owned(), 0), "it reads nothing");
}

#[test]
fn the_more_work_is_expected_the_less_moving_weighs() {
    let mut engine = home_and_away(None);
    for id in 1..=20 {
        let mut spec = JobSpec { kind: "long".to_owned(), ..reads(id, 8, "eu", 900) };
        spec.submitted_at = engine.now();
        submit(&mut engine, spec);
        let placement = plan(&mut engine).remove(0);
        let at = engine.now();
        engine.apply(Event::Started { job: JobId(id), epoch: placement.epoch, at }).unwrap();
        engine.apply(Event::Time(Time(at.0 + 8 * 3_600_000))).unwrap();
        let end = muster_scheduler_engine::RunEnd::Finished;
        engine.apply(Event::Ended { job: JobId(id), epoch: placement.epoch, end }).unwrap();
    }
    submit(&mut engine, JobSpec { kind: "long".to_owned(), ..reads(31, 8, "eu", 900) });
    submit(&mut engine, JobSpec { kind: "new".to_owned(), ..reads(32, 8, "eu", 900) });
    let placements = plan(&mut engine);
    let mut where_to: Vec<(u64, &str)> = placed(&placements);
    where_to.sort_unstable();
    assert_eq!(where_to, [(31, "away"), (32, "home")], "18 against eight hours, and against one");
}

#[test]
fn a_place_to_which_moving_has_no_price_comes_last() {
    let clusters = || {
        vec![
            in_region("unsaid", "us", "A100", 1, &[]),
            in_region("dear", "asia", "A100", 9, &[("eu", 1_000_000)]),
            in_region("nowhere", "", "A100", 1, &[]),
        ]
    };
    let of = |clusters| engine(clusters, vec![queue("q", 1)]);
    assert_eq!(goes_to(of(clusters()), reads(1, 8, "eu", 100)), ("dear".to_owned(), 100 * UNIT));
    let mut only = clusters();
    only.retain(|cluster| cluster.name == "unsaid");
    assert_eq!(goes_to(of(only.clone()), reads(1, 8, "eu", 100)), ("unsaid".to_owned(), 0), "last is not never");
    // Of its models the cheapest comes first all the same, and not the fastest.
    only[0].nodes.extend(cluster("x", 1, "K80", 0).nodes.into_iter().map(|mut node| {
        node.name = "old".to_owned();
        node
    }));
    only[0].prices.insert("K80".to_owned(), UNIT / 2);
    let mut engine = of(only);
    let mut fast = reads(1, 8, "eu", 100);
    fast.gang.speeds = BTreeMap::from([("A100".to_owned(), 1_500)]);
    submit(&mut engine, fast);
    assert_eq!(plan(&mut engine)[0].flavor.as_deref(), Some("K80"), "0.50 for an hour's work, and 0.67");
}

#[test]
fn where_nothing_else_has_a_price_moving_the_data_decides() {
    let mut near = in_region("near", "eu", "V100", 0, &[]);
    let mut far = in_region("far", "us", "V100", 0, &[("eu", 20_000)]);
    (near.prices, far.prices) = (BTreeMap::new(), BTreeMap::new());
    near.name = "z".to_owned();
    let of = || engine(vec![near.clone(), far.clone()], vec![queue("q", 1)]);
    assert_eq!(goes_to(of(), reads(1, 8, "eu", 1)).0, "z");
    let mut without_gpus = reads(1, 0, "eu", 1);
    without_gpus.gang.flavors.clear();
    assert_eq!(goes_to(of(), without_gpus).0, "z", "a job without GPUs reads too");
}

#[test]
fn moving_breaks_the_ties_of_the_other_preferences() {
    let greenest = |gib| {
        let mut engine = home_and_away(Some(Prefers::Greenest));
        for (name, region, model, price) in [("home", "eu", "V100", 3), ("away", "us", "A100", 1)] {
            let mut cluster = in_region(name, region, model, price, &[("eu", 20_000)]);
            cluster.emissions.insert(model.to_owned(), 1_000);
            engine.apply(Event::Cluster(cluster)).unwrap();
        }
        goes_to(engine, reads(1, 8, "eu", gib)).0
    };
    assert_eq!([greenest(700), greenest(900)], ["away", "home"]);
    let fastest = |gib| goes_to(home_and_away(Some(Prefers::Fastest)), reads(1, 8, "eu", gib)).0;
    assert_eq!([fastest(700), fastest(900)], ["away", "home"]);
}

#[test]
fn an_explanation_names_what_moving_costs() {
    let mut engine = home_and_away(None);
    submit(&mut engine, reads(1, 8, "eu", 900));
    let explanation = engine.explain(JobId(1)).unwrap();
    let [away, home] = explanation.clusters.as_slice() else { panic!("two clusters") };
    assert_eq!(home.moving, None);
    let moving = Moving { from: "eu".to_owned(), bytes: 900 * GIB, micros: Some(18 * UNIT) };
    assert_eq!(away.moving, Some(moving.clone()));
    assert_eq!(moving.to_string(), "moving 900Gi out of eu costs 18.00");
    assert_eq!(
        explanation.preference.unwrap().to_string(),
        "V100 on home comes before A100 on away: an hour's work costs 3.00 there, and costs 3.25 with 2.25 of it for moving its \
         dataset on the other"
    );
}

#[test]
fn a_budget_of_money_counts_what_moving_costs() {
    let budget = |money| Budget { unit: BudgetUnit::Micros, amount: money * UNIT, limit: BudgetLimit::Hard };
    let with = |money| {
        let clusters = vec![in_region("away", "us", "A100", 1, &[("eu", 20_000)])];
        let mut engine = engine(clusters, vec![QueueSpec { budgets: vec![budget(money)], ..queue("q", 1) }]);
        submit(&mut engine, reads(1, 8, "eu", 700));
        (plan(&mut engine).len(), engine.explain(JobId(1)).unwrap().holds)
    };
    assert_eq!(with(22).0, 1, "8 for the hour that is assumed, and 14");
    let (placed, holds) = with(21);
    assert_eq!(placed, 0);
    let asked = holds.iter().find_map(|hold| if let Hold::Budget { asked, .. } = hold { Some(*asked) } else { None });
    assert_eq!(asked, Some(22 * UNIT));
}

#[test]
fn what_is_listed_first_comes_first_whatever_it_costs() {
    let clusters = || vec![cluster("a", 1, "V100", 1), cluster("b", 1, "V100", 2), cluster("c", 1, "V100", 9)];
    let of = |tiers| engine(clusters(), vec![QueueSpec { prefers: Some(Prefers::Listed), tiers, ..queue("q", 1) }]);
    let order = |mut engine: Engine| -> Vec<String> {
        (1..=3).for_each(|id| submit(&mut engine, job(id, "q", 1, 8)));
        plan(&mut engine).into_iter().map(|placement| placement.cluster).collect()
    };
    assert_eq!(order(of(vec![tier(&["c", "a", "b"], TierOpens::WhenFull)])), ["c", "a", "b"]);
    // Members of a fleet are behind what is listed, by name.
    let some = Tier {
        clusters: BTreeMap::from([("c".to_owned(), 0), ("b".to_owned(), Tier::UNLISTED), ("a".to_owned(), Tier::UNLISTED)]),
        ..tier(&[], TierOpens::WhenFull)
    };
    assert_eq!(order(of(vec![some])), ["c", "a", "b"]);
    assert_eq!(order(of(Vec::new())), ["a", "b", "c"], "nothing is listed");
    let mut engine = of(vec![tier(&["c", "a", "b"], TierOpens::WhenFull)]);
    submit(&mut engine, job(1, "q", 1, 8));
    let preference = engine.explain(JobId(1)).unwrap().preference.unwrap().to_string();
    assert_eq!(preference, "V100 on c comes before V100 on a: its tier lists it first");
    // On one cluster the model by price of its work.
    let mut both = cluster("c", 1, "V100", 9);
    both.nodes.extend(cluster("x", 1, "K80", 0).nodes.into_iter().map(|mut node| {
        node.name = "old".to_owned();
        node
    }));
    both.prices.insert("K80".to_owned(), 3);
    engine.apply(Event::Cluster(both)).unwrap();
    assert_eq!(plan(&mut engine)[0].flavor.as_deref(), Some("K80"));
}

#[test]
fn a_slow_twin_finds_the_same_place() {
    let mut moved = 0;
    for seed in 0..600 {
        let mut dice = Dice(seed);
        let regions = ["eu", "us", "asia", ""];
        let names = ["a", "b", "c", "d", "e"];
        let clusters: Vec<ClusterSpec> = names
            .iter()
            .map(|name| {
                let price = dice.roll(4) as i64;
                let region = regions[dice.roll(4) as usize];
                let mut cluster = in_region(name, region, "V100", price, &[]);
                for from in ["eu", "us", "*"] {
                    if dice.roll(3) > 0 {
                        cluster.egress.insert(from.to_owned(), 10_000 * dice.roll(8) as i64);
                    }
                }
                if dice.roll(6) == 0 {
                    cluster.prices.clear();
                }
                cluster
            })
            .collect();
        let mut listed = names.to_vec();
        (1..listed.len()).rev().for_each(|last| listed.swap(last, dice.roll(last as u64 + 1) as usize));
        let prefers = if dice.roll(4) == 0 { Prefers::Listed } else { Prefers::Cheapest };
        let (gpus, gib) = (1 + dice.roll(8) as i64, dice.roll(400) as i64);
        let reads = reads(1, gpus, regions[dice.roll(3) as usize], gib);
        let home = reads.gang.dataset.clone().unwrap().region;
        // What the whole of it costs in an hour, in millionths for all GPUs.
        let cost = |cluster: &ClusterSpec| {
            let egress = if cluster.region == home {
                Some(0)
            } else {
                cluster.egress.get(&home).or(cluster.egress.get("*")).map(|per_gib| per_gib * gib)
            };
            let place = listed.iter().position(|name| *name == cluster.name).unwrap();
            let gpu = cluster.prices.get("V100").copied();
            // As the engine has it: for one GPU, rounded down.
            let whole = gpu.zip(egress).map(|(gpu, egress)| gpu + egress / gpus);
            let listed = if prefers == Prefers::Listed { place } else { 0 };
            let unpriced = egress.map_or(i64::MAX, |egress| egress / gpus);
            let key = whole.map_or((i64::MAX, unpriced, gpu.unwrap_or(i64::MAX)), |whole| (whole, 0, 0));
            (listed, key, cluster.name.clone(), egress.unwrap_or(0))
        };
        let best = clusters.iter().map(cost).min().unwrap();
        moved += u32::from(best.3 > 0);
        let tiers = vec![tier(&listed, TierOpens::WhenFull)];
        let engine = engine(clusters, vec![QueueSpec { prefers: Some(prefers), tiers, ..queue("q", 1) }]);
        assert_eq!(goes_to(engine, reads), (best.2, best.3), "seed {seed}");
    }
    assert!(moved > 100, "{moved} were moved");
}

#[test]
fn a_dataset_that_is_nowhere_or_of_a_negative_size_is_refused() {
    let field = |spec: &JobSpec| check(&spec.gang).unwrap_err().field;
    assert_eq!(field(&reads(1, 1, "", 1)), "dataset.region");
    assert_eq!(field(&reads(1, 1, "eu", -1)), "dataset.bytes");
    let mut engine = home_and_away(None);
    let refused = engine.apply(Event::Cluster(in_region("home", "eu", "V100", 1, &[("us", -1)]))).unwrap_err();
    assert_eq!(refused.field, "egress[us]");
}
