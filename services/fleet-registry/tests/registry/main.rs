//! The registry on a real Postgres: enrolment, desired state, liveness, fleets and prices, ticks by hand.

mod verdicts;

use jiff::Timestamp;
use muster_core::bundle;
use muster_fleet_registry::{
    MIGRATIONS,
    app::{self, App},
    config::Settings,
    link::{Session, Sessions, send::Sender},
    pki::{self, Authority},
    reconcile::liveness::Liveness,
};
use muster_kit::{
    Caller, Clock, FakeClock, Role, db,
    error::Kind,
    incarnation,
    reconcile::{Reconciler, Wake},
    watch::Tail,
};
use muster_proto::{
    agent::v1::{Bundle, DesiredItem, EnrolRequest, HubMessage, hub_message},
    registry::v1::{self as wire, cluster::State, cluster_change_result::Outcome},
};
use muster_testkit::TestDb;
use rcgen::{CertificateParams, KeyPair};
use serde_json::json;
use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// A registry without its server: use cases and reconcilers are called by hand, time stands still.
struct Registry {
    app: App,
    clock: FakeClock,
    _db: TestDb,
    _pki: tempfile::TempDir,
}

impl Registry {
    async fn start() -> Self {
        let db = TestDb::new(&[&muster_kit::db::MIGRATIONS, &MIGRATIONS]).await;
        let incarnation = incarnation::establish(db.pool()).await.expect("an incarnation");
        let directory = tempfile::tempdir().expect("a folder");
        pki::bootstrap(directory.path()).expect("an authority");
        let (ca_certificate_file, ca_key_file) = (directory.path().join("ca.crt"), directory.path().join("ca.key"));
        let authority = Authority::load(&ca_certificate_file, &ca_key_file).expect("it loads");
        let settings = Settings {
            ca_key_file,
            ca_certificate_file,
            heartbeat_interval_ms: 5_000,
            suspect_after_ms: 15_000,
            lost_after_ms: 60_000,
            steady_after_ms: 10_000,
            lease_ms: 40_000,
            certificate_hours: 24,
            renewal_grace_hours: 24,
        };
        let clock = FakeClock::at("2026-11-23T12:00:00Z".parse::<Timestamp>().expect("a time"));
        let (tail, _feed) = Tail::new(db.pool().clone(), CancellationToken::new());
        let app = App {
            pool: db.pool().clone(),
            clock: Arc::new(clock.clone()),
            settings,
            authority: Arc::new(authority),
            tail,
            send: Wake::default(),
            incarnation: Arc::new(AtomicU64::new(incarnation)),
        };
        Self { app, clock, _db: db, _pki: directory }
    }

    async fn token_for(&self, cluster: &str) -> String {
        let enrolment_token = wire::EnrolmentToken { cluster: format!("clusters/{cluster}"), ..wire::EnrolmentToken::default() };
        let request = wire::CreateEnrolmentTokenRequest { enrolment_token: Some(enrolment_token), ..Default::default() };
        app::enrolment_token::create(&self.app, &admin(), request).await.expect("a token").secret
    }

    async fn enrol(&self, token: String, uid: &str) -> muster_kit::Result<String> {
        self.enrol_with(&KeyPair::generate().expect("a key"), token, uid).await
    }

    async fn enrol_with(&self, key: &KeyPair, token: String, uid: &str) -> muster_kit::Result<String> {
        let csr = CertificateParams::new(vec![]).expect("params").serialize_request(key).expect("a request");
        let csr_pem = csr.pem().expect("pem");
        let request = EnrolRequest { token, cluster_uid: uid.to_owned(), csr_pem, agent_version: "0.1.0".to_owned() };
        Ok(app::enrolment::enrol(&self.app, request).await?.cluster)
    }

    async fn joined(&self, cluster: &str) {
        let token = self.token_for(cluster).await;
        self.enrol(token, &format!("uid-{cluster}")).await.expect("enrolled");
    }

    async fn cluster(&self, name: &str) -> wire::Cluster {
        let request = wire::GetClusterRequest { name: format!("clusters/{name}") };
        app::cluster::get(&self.app, &admin(), request).await.expect("a cluster")
    }

    async fn bundle(&self, text: &str) -> String {
        let (digest, content) = bundle::encode(&[json!({"kind": "ConfigMap", "data": {"text": text}})]).expect("small");
        let request = wire::PutBundlesRequest { bundles: vec![Bundle { digest: digest.to_string(), content }] };
        app::desired::put_bundles(&self.app, &rollout(), request).await.expect("stored");
        digest.to_string()
    }

    async fn apply(&self, epoch: u64, change: wire::ClusterChange) -> muster_kit::Result<wire::ClusterChangeResult> {
        let request = wire::ApplyDesiredRequest {
            owner: "rollout".to_owned(),
            leader_epoch: epoch,
            changes: vec![change],
            ..Default::default()
        };
        Ok(app::desired::apply(&self.app, &rollout(), request).await?.results.remove(0))
    }
}

fn admin() -> Caller {
    Caller::Person { subject: "admin".to_owned(), role: Role::Admin }
}

fn rollout() -> Caller {
    Caller::Service { name: "rollout".to_owned() }
}

fn change(base: u64, generation: u64, content: &str, upserts: &[(&str, &str)], deletes: &[&str]) -> wire::ClusterChange {
    let upserts = upserts.iter().map(|(name, digest)| DesiredItem {
        name: (*name).to_owned(),
        bundle_digest: (*digest).to_owned(),
        self_heal: true,
        ..DesiredItem::default()
    });
    wire::ClusterChange {
        cluster: "clusters/edge-01".to_owned(),
        base_generation: base,
        generation,
        content_digest: content.to_owned(),
        upserts: upserts.collect(),
        deletes: deletes.iter().map(|name| (*name).to_owned()).collect(),
        full: false,
    }
}

#[tokio::test]
async fn a_token_enrols_one_cluster_once() {
    let registry = Registry::start().await;
    let token = registry.token_for("edge-01").await;
    assert_eq!(registry.cluster("edge-01").await.state(), State::NotEnrolled);

    assert_eq!(registry.enrol(token.clone(), "uid-1").await.expect("enrolled"), "clusters/edge-01");

    assert_eq!(registry.cluster("edge-01").await.state(), State::Joining);
    assert_eq!(registry.enrol(token, "uid-1").await.expect_err("used").kind(), Kind::Unauthenticated);
    assert_eq!(registry.enrol("stranger".to_owned(), "uid-2").await.expect_err("unknown").kind(), Kind::Unauthenticated);
}

#[tokio::test]
async fn an_agent_that_died_before_it_kept_its_certificate_asks_again() {
    let registry = Registry::start().await;
    let token = registry.token_for("edge-01").await;
    let key = KeyPair::generate().expect("a key");
    registry.enrol_with(&key, token.clone(), "uid-1").await.expect("enrolled");
    let enrolled = registry.cluster("edge-01").await;

    assert_eq!(registry.enrol_with(&key, token.clone(), "uid-1").await.expect("again"), "clusters/edge-01");

    assert_eq!(registry.cluster("edge-01").await, enrolled, "it happened once");
    assert_eq!(registry.enrol_with(&key, token.clone(), "uid-2").await.expect_err("another").kind(), Kind::Unauthenticated);
    let connected = "update cluster set last_seen_at = enrolled_at + interval '1 second'";
    sqlx::query(connected).execute(&registry.app.pool).await.expect("heard");
    assert_eq!(registry.enrol_with(&key, token, "uid-1").await.expect_err("it has one").kind(), Kind::Unauthenticated);
}

#[tokio::test]
async fn an_expired_token_enrols_nobody() {
    let registry = Registry::start().await;
    let token = registry.token_for("edge-01").await;
    registry.clock.advance(Duration::from_secs(3_601));
    assert_eq!(registry.enrol(token, "uid-1").await.expect_err("expired").kind(), Kind::Unauthenticated);
}

#[tokio::test]
async fn a_second_cluster_under_one_identity_is_refused_and_shown() {
    let registry = Registry::start().await;
    registry.joined("edge-01").await;
    let token = registry.token_for("edge-02").await;

    let refused = registry.enrol(token.clone(), "uid-edge-01").await.expect_err("the same UID");

    assert_eq!((refused.kind(), refused.reason()), (Kind::Precondition, "DUPLICATE_IDENTITY"));
    assert!(registry.cluster("edge-01").await.reason.contains("edge-02"));
    assert_eq!(registry.cluster("edge-02").await.state(), State::NotEnrolled);
    let again = registry.token_for("edge-01").await;
    let refused = registry.enrol(again, "uid-other").await.expect_err("the same name with another UID");
    assert_eq!(refused.reason(), "DUPLICATE_IDENTITY");
    registry.enrol(token, "uid-edge-02").await.expect("its token was not spent on the refusal");
}

#[tokio::test]
async fn an_old_generation_is_refused_and_a_repetition_is_not() {
    let registry = Registry::start().await;
    registry.joined("edge-01").await;
    let (one, two) = (registry.bundle("one").await, registry.bundle("two").await);

    let outcome = async |change| registry.apply(7, change).await.expect("answered").outcome();
    assert_eq!(outcome(change(0, 1, "first", &[("app", &one)], &[])).await, Outcome::Applied);
    assert_eq!(outcome(change(0, 1, "first", &[("app", &one)], &[])).await, Outcome::Repeated);
    assert_eq!(outcome(change(0, 1, "other", &[("app", &two)], &[])).await, Outcome::Stale);
    assert_eq!(outcome(change(1, 2, "second", &[("app", &two)], &[])).await, Outcome::Applied);
    assert_eq!(outcome(change(0, 1, "first", &[("app", &one)], &[])).await, Outcome::Stale);

    let older = registry.apply(6, change(2, 3, "third", &[], &["app"])).await.expect_err("another leads");
    assert_eq!((older.kind(), older.reason()), (Kind::Conflict, "OLD_LEADER"));
}

#[tokio::test]
async fn what_is_no_longer_desired_becomes_a_tombstone() {
    let registry = Registry::start().await;
    registry.joined("edge-01").await;
    let digest = registry.bundle("one").await;
    registry.apply(1, change(0, 1, "a", &[("app-a", &digest), ("app-b", &digest)], &[])).await.expect("applied");

    let full = wire::ClusterChange { full: true, ..change(1, 2, "b", &[("app-b", &digest)], &[]) };
    registry.apply(1, full).await.expect("applied");

    let request = wire::ListDesiredRequest { owner: "rollout".to_owned(), ..Default::default() };
    let listed = app::desired::list(&registry.app, &rollout(), request).await.expect("listed");
    let names: Vec<_> = listed.items.iter().filter_map(|item| item.item.as_ref()).map(|item| item.name.as_str()).collect();
    assert_eq!(names, ["app-b"]);
    assert_eq!(listed.generations["clusters/edge-01"], 2);
    let buried: i64 = sqlx::query_scalar("select count(*) from desired_item where tombstone")
        .fetch_one(&registry.app.pool)
        .await
        .expect("counted");
    assert_eq!(buried, 1);
}

#[tokio::test]
async fn a_bundle_nobody_stored_and_a_foreign_owner_are_refused() {
    let registry = Registry::start().await;
    registry.joined("edge-01").await;
    let missing = format!("sha256:{}", "0".repeat(64));
    let refused = registry.apply(1, change(0, 1, "a", &[("app", &missing)], &[])).await.expect_err("never stored");
    assert_eq!(refused.violations()[0].field, "changes.upserts.bundle_digest");

    let request = wire::ApplyDesiredRequest { owner: "scheduler".to_owned(), leader_epoch: 1, ..Default::default() };
    let refused = app::desired::apply(&registry.app, &rollout(), request).await.expect_err("another's");
    assert_eq!(refused.kind(), Kind::Denied);
}

#[tokio::test]
async fn bundles_come_with_the_changes_that_name_them_and_go_on_with_their_items() {
    let registry = Registry::start().await;
    registry.joined("edge-01").await;
    registry.joined("edge-02").await;
    let bundle = |text: &str| {
        let (digest, content) = bundle::encode(&[json!({"kind": "ConfigMap", "data": {"text": text}})]).expect("small");
        Bundle { digest: digest.to_string(), content }
    };
    let noise: String = (0..20_000).map(|_| uuid::Uuid::new_v4().simple().to_string()).collect();
    let (one, two, large) = (bundle("one"), bundle("two"), bundle(&noise));
    let of = |cluster: &str, change| wire::ClusterChange { cluster: format!("clusters/{cluster}"), ..change };
    let changes = vec![
        of("edge-02", change(0, 1, "a", &[("app", &one.digest), ("large", &large.digest)], &[])),
        of("edge-01", change(0, 1, "b", &[("app", &one.digest), ("old", &one.digest)], &[])),
        of("edge-01", change(1, 2, "c", &[("app", &two.digest)], &["old"])),
        of("edge-03", change(0, 1, "d", &[("app", &one.digest)], &[])),
        of("edge-02", change(0, 1, "a", &[("app", &one.digest), ("large", &large.digest)], &[])),
    ];
    let request = |bundles: &[&Bundle]| wire::ApplyDesiredRequest {
        owner: "rollout".to_owned(),
        leader_epoch: 1,
        changes: changes.clone(),
        bundles: bundles.iter().map(|bundle| (*bundle).clone()).collect(),
    };
    let other = Bundle { content: two.content.clone(), ..one.clone() };
    let refused = app::desired::apply(&registry.app, &rollout(), request(&[&two, &other])).await.expect_err("another's content");
    assert_eq!(refused.violations()[0].field, "bundles[1].digest");

    let results = app::desired::apply(&registry.app, &rollout(), request(&[&one, &two, &large])).await.expect("answered").results;

    let outcomes: Vec<_> = results.iter().map(|result| (result.outcome(), result.current_generation)).collect();
    let (applied, repeated, unknown) = (Outcome::Applied, Outcome::Repeated, Outcome::UnknownCluster);
    assert_eq!(outcomes, [(applied, 1), (applied, 1), (applied, 2), (unknown, 0), (repeated, 1)]);
    assert_eq!(sent(&registry, "edge-01").await, (vec!["app".to_owned(), "old".to_owned()], vec![two]));
    assert_eq!(
        sent(&registry, "edge-02").await,
        (vec!["app".to_owned(), "large".to_owned()], vec![one]),
        "large ones are fetched"
    );
}

/// A replica that holds the stream of a cluster's agent, and what the agent hears.
async fn connected(registry: &Registry, cluster: &str) -> (Sender, mpsc::Receiver<Result<HubMessage, tonic::Status>>) {
    let id = uuid::Uuid::new_v4();
    let cluster_id = sqlx::query_scalar("update cluster set session = $1 where name = $2 returning cluster_id")
        .bind(id)
        .bind(cluster)
        .fetch_one(&registry.app.pool)
        .await
        .expect("a session");
    let (outbox, messages) = mpsc::channel(8);
    let sender = Sender { app: registry.app.clone(), sessions: Sessions::default() };
    sender.sessions.add(Session { id, cluster_id, outbox, sent: 0, told_to_leave: false });
    (sender, messages)
}

/// The items that the agent of a cluster is sent, and the bundles that come along.
async fn sent(registry: &Registry, cluster: &str) -> (Vec<String>, Vec<Bundle>) {
    let (sender, mut messages) = connected(registry, cluster).await;
    sender.tick().await.expect("sent");
    let message = messages.try_recv().expect("a message").expect("no refusal").message;
    let Some(hub_message::Message::Desired(desired)) = message else { panic!("{message:?}") };
    (desired.items.into_iter().map(|item| item.name).collect(), desired.bundles)
}

#[tokio::test]
async fn a_change_that_begins_at_the_end_of_a_message_is_sent_whole() {
    let registry = Registry::start().await;
    registry.joined("edge-01").await;
    let digest = registry.bundle("one").await;
    for generation in 1..=3 {
        let names: Vec<String> = (0..900).map(|number| format!("item-{generation}-{number}")).collect();
        let upserts: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), digest.as_str())).collect();
        let change = change(generation - 1, generation, &format!("{generation}"), &upserts, &[]);
        assert_eq!(registry.apply(1, change).await.expect("taken").outcome(), Outcome::Applied);
    }
    let (sender, mut sent) = connected(&registry, "edge-01").await;
    let mut names = std::collections::BTreeSet::new();
    for _ in 0..3 {
        sender.tick().await.expect("sent");
        while let Ok(message) = sent.try_recv() {
            let Some(hub_message::Message::Desired(desired)) = message.expect("no refusal").message else { continue };
            names.extend(desired.items.into_iter().map(|item| item.name));
        }
    }
    assert_eq!(names.len(), 2_700);
}

#[tokio::test]
async fn silence_makes_a_cluster_suspect_then_lost_and_only_steadiness_brings_it_back() {
    let registry = Registry::start().await;
    registry.joined("edge-01").await;
    let liveness = Liveness::new(registry.app.clone());
    let heard = async || {
        let at = muster_kit::time::to_db(registry.clock.now());
        sqlx::query("update cluster set inventory = '{}', last_seen_at = $1, steady_since_at = coalesce(steady_since_at, $1)")
            .bind(at)
            .execute(&registry.app.pool)
            .await
            .expect("heard");
    };
    let state_after = async |seconds: u64| {
        registry.clock.advance(Duration::from_secs(seconds));
        liveness.tick().await.expect("decided");
        registry.cluster("edge-01").await.state()
    };
    heard().await;
    assert_eq!(state_after(0).await, State::Live);
    assert_eq!(state_after(16).await, State::Suspect);
    assert_eq!(state_after(60).await, State::Lost);
    // A sign of life after the gap starts the steady time anew.
    sqlx::query("update cluster set steady_since_at = null").execute(&registry.app.pool).await.expect("a gap");
    heard().await;
    assert_eq!(state_after(5).await, State::Lost);
    heard().await;
    assert_eq!(state_after(5).await, State::Live);
}

#[tokio::test]
async fn a_fleet_names_clusters_that_nobody_enrolled_yet_and_a_collision_is_refused() {
    let registry = Registry::start().await;
    registry.joined("edge-01").await;
    let apply = async |namespace: &str| {
        let manifest = format!(
            "apiVersion: fleet.kurator.dev/v1alpha1\nkind: Fleet\nmetadata: {{name: edge, namespace: {namespace}}}\nspec:\n  clusters:\n  - name: edge-01\n  - name: edge-09\n"
        );
        let fleet = wire::Fleet { manifest, ..wire::Fleet::default() };
        let request = wire::UpdateFleetRequest { fleet: Some(fleet), allow_missing: true, ..Default::default() };
        app::fleet::update(&registry.app, &admin(), request).await
    };

    let fleet = apply("kurator-system").await.expect("made");

    let members: Vec<_> = fleet.members.iter().map(|member| (member.cluster.as_str(), member.state())).collect();
    assert_eq!(members, [("clusters/edge-01", State::Joining), ("clusters/edge-09", State::NotEnrolled)]);
    assert_eq!(registry.cluster("edge-01").await.fleets, ["fleets/edge"]);
    assert_eq!(apply("elsewhere").await.expect_err("a collision").kind(), Kind::AlreadyExists);
}

#[tokio::test]
async fn a_price_book_reaches_the_clusters_it_names() {
    let registry = Registry::start().await;
    registry.joined("edge-01").await;
    sqlx::query(r#"update cluster set inventory = '{"nodes": [{"name": "n", "flavor": "V100"}]}'"#)
        .execute(&registry.app.pool)
        .await
        .expect("inventory");
    let manifest = "apiVersion: muster.dev/v1\nkind: PriceBook\nmetadata: {name: list}\nspec:\n  currency: EUR\n  prices:\n  - {clusters: [edge-01], flavor: V100, perGpuHour: '0.55'}\n  egress:\n  - {perGib: '0.09'}\n  - {from: [eu-west], perGib: '0.02'}\n";
    let price_book = wire::PriceBook { manifest: manifest.to_owned(), ..wire::PriceBook::default() };
    let request = wire::CreatePriceBookRequest { price_book: Some(price_book), ..Default::default() };
    app::price_book::create(&registry.app, &admin(), request).await.expect("made");

    let cluster = registry.cluster("edge-01").await;
    let egress: Vec<_> = cluster.egress.iter().map(|price| (price.from.as_str(), price.micros_per_gib)).collect();
    assert_eq!(egress, [("*", 90_000), ("eu-west", 20_000)]);
    let prices = cluster.prices;
    assert_eq!((prices[0].micros_per_gpu_hour, prices[0].currency.as_str()), (550_000, "EUR"));
}

#[tokio::test]
async fn roles_are_kept_and_stale_etags_refused() {
    let registry = Registry::start().await;
    registry.joined("edge-01").await;
    let viewer = Caller::Person { subject: "viewer".to_owned(), role: Role::Viewer };
    let cordon = wire::CordonClusterRequest { name: "clusters/edge-01".to_owned(), ..Default::default() };
    let denied = app::cluster::cordon(&registry.app, &viewer, cordon.clone()).await.expect_err("a viewer");
    assert_eq!(denied.kind(), Kind::Denied);

    let before = registry.cluster("edge-01").await;
    app::cluster::cordon(&registry.app, &admin(), cordon).await.expect("cordoned");
    let update =
        wire::UpdateClusterRequest { cluster: Some(wire::Cluster { region: "eu".to_owned(), ..before }), ..Default::default() };
    let stale = app::cluster::update(&registry.app, &admin(), update).await.expect_err("it changed since");
    assert_eq!((stale.kind(), stale.reason()), (Kind::Conflict, "STALE_ETAG"));

    let mut tx = db::begin(&registry.app.pool).await.expect("begun");
    let audited: Vec<String> =
        sqlx::query_scalar("select action from audit order by audit_id").fetch_all(&mut *tx).await.expect("audited");
    assert_eq!(audited, ["CreateEnrolmentToken", "Enrol", "CordonCluster"]);
}
