//! Bindings that go from audit to enforce in waves.

use crate::{
    bindings::bind,
    harness::{ADMISSION, KYVERNO, SERVICE, Service, binding, person, policy},
    policies::{create, update},
    reports::{hear, observed, take},
};
use jiff::Timestamp;
use muster_kit::{Role, clock::FakeClock, reconcile::Reconciler};
use muster_policy::{
    domain::{Installation, Stage},
    peers::{ObservedEvent, Said},
    reconcile::{Leader, Ramps},
};
use muster_proto::policy::v1::{self as proto, ramp::State};
use std::{sync::Arc, time::Duration};
use tonic::Code;

const HOUR: Duration = Duration::from_secs(3_600);
const NAME: &str = "fleetPolicies/b";

struct Ramp {
    service: Service,
    clock: FakeClock,
    /// Observations made.
    second: i64,
}

fn ramped(waves: &str) -> String {
    let binding = binding("b", "edge", &["{name: p, action: enforce}"]);
    binding.replacen("  policies:", &format!("  ramp: {{soak: 1h, waves: [{waves}]}}\n  policies:"), 1)
}

impl Ramp {
    /// Three clusters that audit a policy, and report that two objects of each break it.
    async fn begun() -> Self {
        let service = Service::start().await;
        service.policies().create_policy(create(&policy("p", "owner"))).await.expect("made");
        let waves = "{clusters: [one]}, {selector: {matchLabels: {site: two}}}";
        service.bindings().update_fleet_policy(bind(&ramped(waves))).await.expect("bound");
        service.project(&[("one", true), ("two", true), ("three", true)], &[("edge", &["one", "two", "three"])]).await;
        let mut ramp = Self { service, clock: FakeClock::at(Timestamp::now()), second: 0 };
        ramp.step(2).await;
        ramp
    }

    async fn tick(&self) {
        let (app, leader) = (self.service.app.clone(), Arc::clone(&self.service.leader));
        Ramps { app, leader, clock: Arc::new(self.clock.clone()) }.tick().await.expect("stepped");
    }

    /// Every cluster is told, and reports so many failing objects; then the ramp looks.
    async fn step(&mut self, failing: u32) {
        self.tick().await;
        self.service.tick_distribute().await.expect("told");
        for cluster in ["one", "two", "three"] {
            self.reports(cluster, failing).await;
        }
        self.tick().await;
    }

    async fn reports(&mut self, cluster: &str, failing: u32) {
        let Some(kept) = self.service.registry.kept(cluster) else { return };
        self.second += 1;
        let judged = observed(cluster, kept.generation.cast_signed(), self.second, failing);
        let in_force = Installation { stage: Stage::InForce, message: String::new() };
        hear(&self.service, &ObservedEvent { said: Said::Installation(in_force), ..judged.event.clone() }).await;
        take(&self.service, &judged).await;
    }

    async fn after(&mut self, by: Duration, failing: u32) {
        self.clock.advance(by);
        self.step(failing).await;
    }

    async fn shown(&self) -> proto::Ramp {
        let request = proto::GetFleetPolicyRequest { name: NAME.to_owned() };
        let shown = self.service.bindings().get_fleet_policy(request).await.expect("shown").into_inner();
        shown.ramp.expect("it is ramped")
    }

    async fn stands(&self) -> (State, u32, Vec<&'static str>) {
        let shown = self.shown().await;
        (shown.state(), shown.wave, self.enforcing())
    }

    /// Where Kyverno is told to refuse.
    fn enforcing(&self) -> Vec<&'static str> {
        let refuses = |cluster: &&str| {
            let kept = self.service.registry.kept(cluster).expect("told");
            kept.manifests[0]["spec"]["validationFailureAction"] == "Enforce"
        };
        ["one", "two", "three"].into_iter().filter(refuses).collect()
    }

    async fn refuses(&self, cluster: &str) -> bool {
        let clusters = vec![format!("clusters/{cluster}")];
        let request = proto::EvaluateRequest { manifests: vec![SERVICE.to_owned()], clusters, ..Default::default() };
        !self.service.verdicts().evaluate(request).await.expect("judged").into_inner().allowed
    }

    async fn told_of_the_ramp(&self) -> Vec<String> {
        let all = self.service.events().await;
        all.into_iter().filter_map(|kind| kind.strip_prefix("policy.ramp_").map(str::to_owned)).collect()
    }

    async fn pause(&self) -> proto::FleetPolicy {
        let request = proto::PauseRampRequest { name: NAME.to_owned(), ..Default::default() };
        self.service.bindings().pause_ramp(request).await.expect("paused").into_inner()
    }

    async fn resume(&self) -> proto::FleetPolicy {
        let request = proto::ResumeRampRequest { name: NAME.to_owned(), ..Default::default() };
        self.service.bindings().resume_ramp(request).await.expect("resumed").into_inner()
    }

    async fn abort(&self) -> proto::FleetPolicy {
        let request = proto::AbortRampRequest { name: NAME.to_owned(), ..Default::default() };
        self.service.bindings().abort_ramp(request).await.expect("aborted").into_inner()
    }
}

#[tokio::test]
async fn a_fleet_is_audited_and_then_enforces_wave_by_wave() {
    let mut ramp = Ramp::begun().await;
    assert_eq!(ramp.stands().await, (State::Soaking, 0, vec![]));
    assert!(!ramp.refuses("one").await && !ramp.refuses("three").await);
    ramp.after(HOUR, 2).await;
    assert_eq!(ramp.stands().await, (State::Soaking, 1, vec!["one"]));
    assert!(ramp.refuses("one").await && !ramp.refuses("three").await, "the check before delivery goes along");
    ramp.after(HOUR, 2).await;
    assert_eq!(ramp.stands().await, (State::Soaking, 2, vec!["one", "two"]));
    ramp.after(HOUR, 2).await;
    assert_eq!(ramp.stands().await, (State::Soaking, 3, vec!["one", "two", "three"]));
    ramp.after(HOUR, 2).await;
    let shown = ramp.shown().await;
    assert_eq!((shown.state(), shown.wave_count, shown.enforcing_clusters), (State::Completed, 3, 3));
    assert_eq!(ramp.told_of_the_ramp().await, ["began", "advanced", "advanced", "advanced", "completed"]);
}

#[tokio::test]
async fn a_new_violation_in_the_soak_stops_it_says_which_and_its_end_lets_it_go_on() {
    let mut ramp = Ramp::begun().await;
    ramp.after(HOUR, 2).await;
    ramp.reports("three", 3).await;
    ramp.tick().await;
    let shown = ramp.shown().await;
    assert_eq!((shown.state(), shown.reason.as_str()), (State::Stopped, "violations were added: p in three: 1 more"));
    ramp.clock.advance(HOUR * 9);
    ramp.tick().await;
    assert_eq!(ramp.stands().await, (State::Stopped, 1, vec!["one"]));
    ramp.reports("three", 2).await;
    ramp.tick().await;
    ramp.after(HOUR, 2).await;
    assert_eq!(ramp.stands().await, (State::Soaking, 2, vec!["one", "two"]));
    assert_eq!(ramp.told_of_the_ramp().await, ["began", "advanced", "stopped", "resumed", "advanced"]);
}

#[tokio::test]
async fn people_accept_pause_and_take_back_and_a_repetition_changes_nothing() {
    let mut ramp = Ramp::begun().await;
    ramp.after(HOUR, 3).await;
    assert_eq!(ramp.stands().await.0, State::Stopped);
    ramp.resume().await;
    ramp.step(3).await;
    ramp.after(HOUR, 3).await;
    assert_eq!(ramp.stands().await, (State::Soaking, 2, vec!["one", "two"]));
    let paused = ramp.pause().await;
    assert_eq!(paused.ramp.as_ref().map(proto::Ramp::state), Some(State::Paused));
    assert_eq!(ramp.pause().await.etag, paused.etag);
    ramp.after(HOUR * 9, 3).await;
    assert_eq!(ramp.stands().await, (State::Paused, 2, vec!["one", "two"]));
    ramp.abort().await;
    ramp.after(HOUR * 9, 3).await;
    assert_eq!(ramp.stands().await, (State::Aborted, 0, vec![]));
    assert!(!ramp.refuses("one").await);
    ramp.resume().await;
    ramp.step(3).await;
    assert_eq!(ramp.stands().await, (State::Soaking, 0, vec![]));
}

#[tokio::test]
async fn only_operators_steer_and_only_what_is_ramped() {
    let service = Service::start().await;
    service.bindings().update_fleet_policy(bind(&binding("b", "edge", &["{name: p}"]))).await.expect("bound");
    let request = || proto::AbortRampRequest { name: NAME.to_owned(), ..Default::default() };
    let refused = service.bindings_as(person(Role::Viewer)).abort_ramp(request()).await.expect_err("refused");
    assert_eq!(refused.code(), Code::PermissionDenied);
    let refused = service.bindings().abort_ramp(request()).await.expect_err("refused");
    assert_eq!(refused.code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn a_cluster_that_is_away_holds_its_wave_and_no_other() {
    let mut ramp = Ramp::begun().await;
    let silent = async |ramp: &mut Ramp, by: Duration| {
        ramp.clock.advance(by);
        ramp.tick().await;
        ramp.service.tick_distribute().await.expect("told");
        for cluster in ["one", "three"] {
            ramp.reports(cluster, 2).await;
        }
        ramp.tick().await;
    };
    // Two hears nothing from now on; what it said last still counts until it is told something else.
    silent(&mut ramp, HOUR).await;
    silent(&mut ramp, HOUR).await;
    assert_eq!(ramp.stands().await.1, 2);
    silent(&mut ramp, HOUR * 9).await;
    let shown = ramp.shown().await;
    assert_eq!((shown.wave, shown.reason.as_str()), (2, "two does not have the policies in force"));
    assert_eq!(shown.soak_start_time, None);
    ramp.reports("two", 2).await;
    ramp.tick().await;
    ramp.after(HOUR, 2).await;
    assert_eq!(ramp.stands().await, (State::Soaking, 3, vec!["one", "two", "three"]));
}

#[tokio::test]
async fn a_cluster_that_joins_later_is_audited_first() {
    let mut ramp = Ramp::begun().await;
    for _ in 0..4 {
        ramp.after(HOUR, 2).await;
    }
    assert_eq!(ramp.stands().await.0, State::Completed);
    let clusters = [("one", KYVERNO), ("two", KYVERNO), ("three", KYVERNO), ("late", ADMISSION)];
    ramp.service.project_served(&clusters, &[("edge", &["one", "two", "three", "late"])]).await;
    ramp.step(2).await;
    let actions =
        |ramp: &Ramp| ramp.service.registry.kept("late").expect("told").manifests[2]["spec"]["validationActions"].clone();
    assert_eq!(actions(&ramp), serde_json::json!(["Audit", "Warn"]));
    ramp.reports("late", 5).await;
    ramp.tick().await;
    ramp.after(HOUR, 2).await;
    assert_eq!(actions(&ramp), serde_json::json!(["Deny"]));
    ramp.reports("late", 5).await;
    ramp.tick().await;
    ramp.after(HOUR, 2).await;
    assert_eq!(ramp.stands().await.0, State::Completed);
}

#[tokio::test]
async fn another_revision_is_audited_before_anybody_enforces_it() {
    let mut ramp = Ramp::begun().await;
    ramp.after(HOUR, 2).await;
    assert_eq!(ramp.enforcing(), ["one"]);
    ramp.service.policies().update_policy(update(&policy("p", "team"))).await.expect("changed");
    ramp.service.tick_distribute().await.expect("told before the ramp has looked");
    assert_eq!(ramp.enforcing(), [""; 0], "nobody enforces what was not audited");
    ramp.step(2).await;
    assert_eq!(ramp.stands().await, (State::Soaking, 0, vec![]));
    assert_eq!(ramp.told_of_the_ramp().await, ["began", "advanced", "began"]);
}

#[tokio::test]
async fn the_waves_may_be_changed_on_the_way_and_without_a_ramp_all_enforce() {
    let mut ramp = Ramp::begun().await;
    ramp.after(HOUR, 2).await;
    ramp.service.bindings().update_fleet_policy(bind(&ramped("{percent: 100}"))).await.expect("changed");
    ramp.after(HOUR, 2).await;
    assert_eq!(ramp.enforcing(), ["one", "two", "three"]);
    let plain = binding("b", "edge", &["{name: p, action: audit}"]);
    ramp.service.bindings().update_fleet_policy(bind(&plain)).await.expect("changed");
    ramp.service.tick_distribute().await.expect("told");
    assert_eq!(ramp.enforcing(), [""; 0]);
    let plain = binding("b", "edge", &["{name: p, action: enforce}"]);
    ramp.service.bindings().update_fleet_policy(bind(&plain)).await.expect("changed");
    ramp.service.tick_distribute().await.expect("told");
    assert_eq!(ramp.enforcing(), ["one", "two", "three"]);
}

#[tokio::test]
async fn another_leader_goes_on_where_the_last_one_was_and_that_one_changes_nothing() {
    let mut ramp = Ramp::begun().await;
    ramp.after(HOUR, 2).await;
    ramp.clock.advance(HOUR);
    sqlx::query("update lease set expires_at = now() - interval '1 minute'").execute(ramp.service.db.pool()).await.expect("out");
    let successor = Arc::new(Leader::new(ramp.service.db.pool().clone(), HOUR));
    successor.tick().await.expect("elected");
    let step = |leader: &Arc<Leader>| Ramps {
        app: ramp.service.app.clone(),
        leader: Arc::clone(leader),
        clock: Arc::new(ramp.clock.clone()),
    };
    assert_eq!(step(&ramp.service.leader).tick().await.expect_err("deposed").reason(), "NOT_LEADER");
    assert_eq!(ramp.shown().await.wave, 1);
    step(&successor).tick().await.expect("stepped");
    step(&successor).tick().await.expect("and once more");
    assert_eq!(ramp.shown().await.wave, 2);
    assert_eq!(ramp.told_of_the_ramp().await, ["began", "advanced", "advanced"]);
}

#[tokio::test]
async fn what_is_wrong_in_a_ramp_is_said_by_field() {
    let service = Service::start().await;
    let refused = service.bindings().update_fleet_policy(bind(&ramped("{percent: 0}"))).await.expect_err("refused");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("spec.ramp.waves[0].percent"), "{refused:?}");
}
