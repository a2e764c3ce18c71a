use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use muster_scheduler_engine::{Budget, BudgetLimit, BudgetUnit, TierOpens};

use super::*;

fn read(text: &str) -> Result<QueueDefinition, Fault> {
    QueueDefinition::read(&muster_core::manifest::parse_one(text).expect("sound YAML"))
}

#[test]
fn the_queue_people_have_is_read() {
    let queue = read(
        "apiVersion: scheduling.volcano.sh/v1beta1\nkind: Queue\nmetadata:\n  name: train-queue\nspec:\n  weight: 1\n  reclaimable: true\n  \
         capability:\n    cpu: \"200\"\n    memory: \"800Gi\"\n    nvidia.com/gpu: \"64\"\n",
    )
    .expect("a sound queue");
    assert_eq!(queue.capability, Amounts::new().with("cpu", 200_000).with("memory", 800 << 30).with("nvidia.com/gpu", 64));
    assert_eq!(queue.volcano_manifest()["spec"]["capability"]["memory"], "800Gi");
    assert_eq!((queue.weight, queue.reclaimable, queue.parent.as_deref()), (1, true, None));
}

#[test]
fn tiers_are_read_and_resolved_to_the_members_of_fleets() {
    let queue = read(
        "apiVersion: muster.dev/v1\nkind: Queue\nmetadata: {name: train}\nspec:\n  tiers:\n  - fleet: fleet-train\n    clusters: [spare]\n  - \
         clusterSelector: {matchLabels: {tier: cloud}}\n    overflowAfter: 10m\n  - clusters: [dear]\n    overflowAfterWork: 0.25\n",
    )
    .expect("a sound queue");
    let facts =
        [ClusterFacts { name: "idc".to_owned(), fleets: BTreeSet::from(["fleet-train".to_owned()]), ..ClusterFacts::default() }];
    let spec = queue.spec(facts.iter());
    assert_eq!(spec.tiers[0].clusters, BTreeSet::from(["idc".to_owned(), "spare".to_owned()]));
    assert_eq!(spec.tiers[1].opens, TierOpens::AfterWaitingMs(600_000));
    assert_eq!(spec.tiers[2].opens, TierOpens::AfterWaitingForWork { permille: 250 });
}

#[test]
fn a_guarantee_and_a_least_run_time_are_read() {
    let queue = read(
        "apiVersion: muster.dev/v1\nkind: Queue\nmetadata: {name: train}\nspec:\n  guarantee: {resource: {nvidia.com/gpu: 8}}\n  \
         minRuntime: 10m\n  placement: fastest\n",
    )
    .expect("a sound queue");
    let spec = queue.spec([].iter());
    assert_eq!(spec.prefers, Some(Prefers::Fastest));
    assert_eq!((spec.guarantee, spec.min_runtime_ms), (Amounts::new().with("nvidia.com/gpu", 8), 600_000));
}

#[test]
fn what_is_wrong_is_named() {
    let muster = |spec: &str| {
        read(&format!("apiVersion: muster.dev/v1\nkind: Queue\nmetadata: {{name: q}}\nspec: {spec}\n")).unwrap_err().field
    };
    assert_eq!(muster("{weight: 0}"), "spec.weight");
    assert_eq!(muster("{wieght: 1}"), "spec.wieght");
    let misplaced = read("apiVersion: muster.dev/v1\nkind: Queue\nmetadata: {name: q}\nweight: 1\n").unwrap_err();
    assert_eq!(misplaced.field, "weight");
    assert!(misplaced.why.starts_with("line 4, column 1: "), "{misplaced}");
    assert_eq!(muster("{capability: {cpu: -1}}"), "spec.capability[cpu]");
    assert_eq!(muster("{capability: {cpu: many}}"), "spec.capability[cpu]");
    assert_eq!(muster("{guarantee: {cpu: 1}}"), "spec.guarantee.cpu");
    assert_eq!(muster("{guarantee: {resource: {cpu: 2}}, capability: {cpu: 1}}"), "spec.guarantee.resource[cpu]");
    assert_eq!(muster("{minRuntime: soon}"), "spec.minRuntime");
    assert_eq!(muster("{placement: best}"), "spec.placement");
    assert_eq!(muster("{tiers: [{}]}"), "spec.tiers[0]");
    assert_eq!(muster("{tiers: [{fleet: a, overflowAfter: soon}]}"), "spec.tiers[0].overflowAfter");
    for multiple in ["-1", "1001", "0.0001", "10m", "true"] {
        assert_eq!(
            muster(&format!("{{tiers: [{{fleet: a, overflowAfterWork: {multiple}}}]}}")),
            "spec.tiers[0].overflowAfterWork"
        );
    }
    assert_eq!(muster("{tiers: [{fleet: a, overflowAfter: 1h, overflowAfterWork: 1}]}"), "spec.tiers[0].overflowAfterWork");
    assert_eq!(muster("{tiers: [{clusterSelector: {matchLabel: {a: b}}}]}"), "spec.tiers[0].clusterSelector");
    assert_eq!(muster("{budgets: [{window: month}]}"), "spec.budgets[0]");
    assert_eq!(muster("{budgets: [{gpuHours: 1, money: 1, window: month}]}"), "spec.budgets[0]");
    assert_eq!(muster("{budgets: [{gpuHours: -1, window: month}]}"), "spec.budgets[0].gpuHours");
    assert_eq!(muster("{budgets: [{money: much, window: month}]}"), "spec.budgets[0].money");
    for window in ["P1M", "PT1M", "P400D", "30d", "P", "fortnight"] {
        assert_eq!(muster(&format!("{{budgets: [{{gpuHours: 1, window: {window}}}]}}")), "spec.budgets[0].window", "{window}");
    }
    assert_eq!(muster("{budgets: [{gpuHours: 1}]}"), "spec.budgets[0].window");
    assert_eq!(muster("{budgets: [{gpuHours: 1, window: day, enforcement: firm}]}"), "spec.budgets[0].enforcement");
    assert_eq!(read("apiVersion: v1\nkind: Pod\nmetadata: {name: q}\n").unwrap_err().field, "manifest");
}

#[test]
fn a_budget_has_an_amount_and_a_window() {
    let queue = read(
        "apiVersion: muster.dev/v1\nkind: Queue\nmetadata: {name: train}\nspec:\n  budgets:\n  - {gpuHours: 1.5, window: P30D}\n  - {money: \
         2000.5, window: month, enforcement: soft}\n  - {gpuHours: 0, window: PT12H}\n",
    )
    .expect("a sound queue");
    let budget = |unit, amount, limit| Budget { unit, amount, limit };
    assert_eq!(
        queue.spec([].iter()).budgets,
        [
            budget(BudgetUnit::GpuMs, 5_400_000, BudgetLimit::Hard),
            budget(BudgetUnit::Micros, 2_000_500_000, BudgetLimit::Soft),
            budget(BudgetUnit::GpuMs, 0, BudgetLimit::Hard),
        ]
    );
    let shown: Vec<String> = queue.budgets.iter().map(|budget| budget.window.to_string()).collect();
    assert_eq!(shown, ["P30D", "month", "PT12H"]);
}

#[test]
fn windows_move_on_or_begin_with_the_calendar() {
    let at = |text: &str| text.parse::<Timestamp>().expect("a time");
    // A Thursday.
    let now = at("2026-11-26T16:00:00Z");
    let windows = [
        (Window::Rolling(SignedDuration::from_hours(24 * 30)), "2026-10-27T16:00:00Z", None),
        (Window::Day, "2026-11-26T00:00:00Z", Some("2026-11-27T00:00:00Z")),
        (Window::Week, "2026-11-23T00:00:00Z", Some("2026-11-30T00:00:00Z")),
        (Window::Month, "2026-11-01T00:00:00Z", Some("2026-12-01T00:00:00Z")),
        (Window::Year, "2026-01-01T00:00:00Z", Some("2027-01-01T00:00:00Z")),
    ];
    for (window, start, next) in windows {
        assert_eq!((window.start(now), window.next(now)), (at(start), next.map(at)), "{window}");
    }
    let monday = at("2026-11-23T00:00:00Z");
    assert_eq!(Window::Week.start(monday), monday);
}
