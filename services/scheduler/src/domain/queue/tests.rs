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
    assert_eq!(queue.capability, limits([("cpu", 200_000), ("memory", 800 << 30), ("nvidia.com/gpu", 64)]));
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
    assert_eq!(spec.tiers[0].clusters, BTreeMap::from([("idc".to_owned(), Tier::UNLISTED), ("spare".to_owned(), 0)]));
    assert_eq!(spec.tiers[1].opens, TierOpens::AfterWaitingMs(600_000));
    assert_eq!(spec.tiers[2].opens, TierOpens::AfterWaitingForWork { permille: 250 });
}

#[test]
fn a_threshold_of_what_waits_and_the_order_of_a_list_are_read() {
    let queue = read(
        "apiVersion: muster.dev/v1\nkind: Queue\nmetadata: {name: train}\nspec:\n  placement: listed\n  tiers:\n  - clusters: [c, a, c, b]\n    \
         fleet: all\n  - clusters: [d]\n    overflowAboveWaiting: {gpus: 64, jobs: 0}\n",
    )
    .expect("a sound queue");
    let member = |name: &str| ClusterFacts {
        name: name.to_owned(),
        fleets: BTreeSet::from(["all".to_owned()]),
        ..ClusterFacts::default()
    };
    let facts = [member("a"), member("z")];
    let spec = queue.spec(facts.iter());
    assert_eq!(spec.prefers, Some(Prefers::Listed));
    let places = [("a", 1), ("b", 2), ("c", 0), ("z", Tier::UNLISTED)];
    assert_eq!(spec.tiers[0].clusters, places.map(|(name, place)| (name.to_owned(), place)).into());
    assert_eq!(spec.tiers[1].opens, TierOpens::WhileWaiting { gpus: Some(64), jobs: Some(0) });
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
fn limits_of_lending_and_borrowing_are_read() {
    let queue = read(
        "apiVersion: muster.dev/v1\nkind: Queue\nmetadata: {name: train}\nspec:\n  guarantee: {resource: {nvidia.com/gpu: 8, cpu: 4}}\n  \
         borrowingLimit: {nvidia.com/gpu: 0}\n  lendingLimit: {cpu: 500m}\n",
    )
    .expect("a sound queue");
    let spec = queue.spec([].iter());
    assert_eq!(spec.borrowing_limit, limits([("nvidia.com/gpu", 0)]));
    assert_eq!(spec.lending_limit, limits([("cpu", 500)]));
}

#[test]
fn what_volcano_guarantees_nobody_else_gets_and_what_a_queue_deserves_is_lent() {
    let volcano = |spec: &str| {
        read(&format!("apiVersion: scheduling.volcano.sh/v1beta1\nkind: Queue\nmetadata: {{name: q}}\nspec: {spec}\n"))
    };
    let queue = volcano("{guarantee: {resource: {nvidia.com/gpu: 8}}, deserved: {nvidia.com/gpu: 24, cpu: 4}}").expect("sound");
    assert_eq!(queue.guarantee, Amounts::new().with("nvidia.com/gpu", 24).with("cpu", 4_000));
    assert_eq!(queue.lending_limit, limits([("nvidia.com/gpu", 16)]));
    let queue = volcano("{guarantee: {resource: {nvidia.com/gpu: 8}}}").expect("sound");
    assert_eq!(queue.lending_limit, limits([("nvidia.com/gpu", 0)]));
    let fault = |spec| volcano(spec).unwrap_err().field;
    assert_eq!(fault("{guarantee: {resource: {cpu: 3}}, deserved: {cpu: 2}}"), "spec.deserved[cpu]");
    assert_eq!(fault("{deserved: {cpu: 3}, capability: {cpu: 2}}"), "spec.deserved[cpu]");
}

fn limits<const SOME: usize>(limits: [(&str, i64); SOME]) -> BTreeMap<String, i64> {
    limits.into_iter().map(|(name, limit)| (name.to_owned(), limit)).collect()
}

const MEMBER: &str = "apiVersion: kueue.x-k8s.io/v1beta1
kind: ClusterQueue
metadata: {name: vision}
spec:
  cohort: research
  namespaceSelector: {}
  queueingStrategy: BestEffortFIFO
  preemption: {reclaimWithinCohort: Any, withinClusterQueue: LowerPriority, borrowWithinCohort: {policy: Never}}
  fairSharing: {weight: \"2\"}
  resourceGroups:
  - coveredResources: [cpu, nvidia.com/gpu]
    flavors:
    - name: default
      resources:
      - {name: cpu, nominalQuota: \"96\"}
      - {name: nvidia.com/gpu, nominalQuota: 16, borrowingLimit: 8, lendingLimit: 4}
";

#[test]
fn kueues_quotas_are_read_and_a_cohort_has_what_its_members_have() {
    let member = read(MEMBER).expect("a sound ClusterQueue");
    assert_eq!((member.parent.as_deref(), member.weight), (Some("research"), 2));
    let lone = read(
        "apiVersion: kueue.x-k8s.io/v1beta2\nkind: ClusterQueue\nmetadata: {name: lone}\nspec: {resourceGroups: [{flavors: [{resources: \
         [{name: cpu, nominalQuota: 0}]}]}]}\n",
    )
    .expect("a sound ClusterQueue");
    let two =
        read(&MEMBER.replace("name: vision", "name: speech").replace("cohort: research", "cohortName: lab")).expect("sound");
    let lab = read(
        "apiVersion: kueue.x-k8s.io/v1beta1\nkind: Cohort\nmetadata: {name: lab}\nspec: {parentName: research, resourceGroups: [{flavors: \
         [{resources: [{name: nvidia.com/gpu, nominalQuota: 3, borrowingLimit: 5}]}]}]}\n",
    )
    .expect("a sound Cohort");
    let definitions = [member, lone, two, lab].map(|queue| (queue.name.clone(), queue)).into();
    let specs = specs(&definitions, &[]);
    let gpus = |name: &str| specs[name].guarantee.get("nvidia.com/gpu");
    assert_eq!(["vision", "speech", "lab", "research"].map(gpus), [16, 16, 19, 35]);
    assert_eq!(specs["vision"].borrowing_limit, limits([("nvidia.com/gpu", 8)]));
    assert_eq!(specs["vision"].lending_limit, limits([("nvidia.com/gpu", 4)]));
    assert_eq!(specs["lab"].borrowing_limit, limits([("nvidia.com/gpu", 5)]), "as it says");
    assert_eq!(specs["research"].borrowing_limit, limits([("cpu", 0), ("nvidia.com/gpu", 0)]), "nobody lends to it");
    assert_eq!(specs["lone"].borrowing_limit, limits([("cpu", 0)]), "without a cohort nothing is borrowed");
}

#[test]
fn what_kueue_would_do_and_muster_does_not_is_refused_by_name() {
    let with = |old: &str, new: &str| {
        assert!(MEMBER.contains(old), "{old}");
        read(&MEMBER.replace(old, new)).unwrap_err().field
    };
    let flavor = "spec.resourceGroups[0].flavors[0].resources";
    assert_eq!(with("queueingStrategy: BestEffortFIFO", "queueingStrategy: StrictFIFO"), "spec.queueingStrategy");
    assert_eq!(with("queueingStrategy: BestEffortFIFO", "stopPolicy: Hold"), "spec.stopPolicy");
    assert_eq!(with("namespaceSelector: {}", "namespaceSelector: {matchLabels: {a: b}}"), "spec.namespaceSelector");
    assert_eq!(with("namespaceSelector: {}", "admissionChecks: [quick]"), "spec.admissionChecks");
    assert_eq!(with("reclaimWithinCohort: Any", "reclaimWithinCohort: Never"), "spec.preemption.reclaimWithinCohort");
    assert_eq!(with("withinClusterQueue: LowerPriority", "withinClusterQueue: Never"), "spec.preemption.withinClusterQueue");
    assert_eq!(with("policy: Never", "policy: LowerPriority"), "spec.preemption.borrowWithinCohort.policy");
    assert_eq!(with("weight: \"2\"", "weight: 500m"), "spec.fairSharing.weight");
    assert_eq!(with("lendingLimit: 4", "lendingLimit: 17"), format!("{flavor}[1].lendingLimit"));
    assert_eq!(with("nominalQuota: 16, ", ""), format!("{flavor}[1].nominalQuota"));
    assert_eq!(with("name: nvidia.com/gpu", "name: cpu"), format!("{flavor}[1].name"));
    assert_eq!(with("nominalQuota: \"96\"", "nominalQuota: many"), format!("{flavor}[0].nominalQuota"));
    assert_eq!(with("    - name: default", "    - {name: other}\n    - name: default"), "spec.resourceGroups[0].flavors");
    assert_eq!(with("  cohort: research\n", ""), format!("{flavor}[1].borrowingLimit"));
    assert_eq!(with("cohort: research", "cohort: research\n  cohorts: x"), "spec.cohorts");
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
    assert_eq!(muster("{lendingLimit: {cpu: 1}}"), "spec.lendingLimit[cpu]");
    assert_eq!(muster("{borrowingLimit: {cpu: -1}}"), "spec.borrowingLimit[cpu]");
    assert_eq!(muster("{minRuntime: soon}"), "spec.minRuntime");
    assert_eq!(muster("{placement: best}"), "spec.placement");
    for half_life in ["59s", "9000h", "soon"] {
        assert_eq!(muster(&format!("{{usageHalfLife: {half_life}}}")), "spec.usageHalfLife");
    }
    assert_eq!(muster("{tiers: [{}]}"), "spec.tiers[0]");
    assert_eq!(muster("{tiers: [{fleet: a, overflowAfter: soon}]}"), "spec.tiers[0].overflowAfter");
    for multiple in ["-1", "1001", "0.0001", "10m", "true"] {
        assert_eq!(
            muster(&format!("{{tiers: [{{fleet: a, overflowAfterWork: {multiple}}}]}}")),
            "spec.tiers[0].overflowAfterWork"
        );
    }
    assert_eq!(muster("{tiers: [{fleet: a, overflowAfter: 1h, overflowAfterWork: 1}]}"), "spec.tiers[0].overflowAfterWork");
    for (wrong, field) in [
        ("{}", ""),
        ("64", ""),
        ("{gpus: -1}", ".gpus"),
        ("{jobs: 1.5}", ".jobs"),
        ("{gpus: 1, cores: 2}", ".cores"),
        ("{gpus: 64}, overflowAfter: 1h", ""),
        ("{gpus: 64}, overflowAfterWork: 1", ""),
    ] {
        let expected = format!("spec.tiers[0].overflowAboveWaiting{field}");
        assert_eq!(muster(&format!("{{tiers: [{{fleet: a, overflowAboveWaiting: {wrong}}}]}}")), expected);
    }
    assert_eq!(muster("{placement: nearest}"), "spec.placement");
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
