//! The ledger through restarts, damage, a full disk and a second process.

use super::*;
use crate::domain::{
    generation::Arrival,
    item::{Applied, Desired, ItemKey, Options},
    object::ObjectRef,
    observation::Phase,
};
use jiff::Timestamp;
use muster_core::{bundle, version::Version};
use serde_json::json;
use std::{fs, os::unix::fs::PermissionsExt};

fn key(name: &str) -> ItemKey {
    ItemKey::new("rollout", name)
}

fn desired(name: &str, n: u64, content: &str) -> Desired {
    let bundle = Some(Digest::of(content.as_bytes()));
    Desired { key: key(name), generation: Version::new(1, n), bundle, options: Options::default() }
}

fn observation(name: &str, n: u64, phase: Phase, message: &str) -> Observation {
    Observation {
        key: key(name),
        generation: Version::new(1, n),
        phase,
        reason: String::new(),
        message: message.to_owned(),
        observed_at: Timestamp::UNIX_EPOCH,
        run: None,
        objects: Vec::new(),
        heal_count: 0,
        traceparent: String::new(),
    }
}

fn said(queued: &[Queued]) -> Vec<(String, Phase, String)> {
    queued.iter().map(|q| (q.observation.key.name.clone(), q.observation.phase, q.observation.message.clone())).collect()
}

#[tokio::test]
async fn what_was_taken_and_applied_survives_a_restart() {
    let directory = tempfile::tempdir().expect("directory");
    let applied = Applied {
        object: ObjectRef { group: "apps".into(), kind: "Deployment".into(), namespace: "ml".into(), name: "a".into() },
        version: "v1".into(),
        uid: "u".into(),
        created: true,
        manifest_hash: "m".into(),
        live_hash: "l".into(),
    };
    {
        let ledger = Ledger::open(directory.path()).expect("opens");
        let written = applied.clone();
        let taken = ledger
            .update(move |state| {
                let taken = state.take(vec![desired("a", 7, "x")]);
                state.set_applied(&key("a"), Version::new(1, 7), vec![written]);
                taken
            })
            .await
            .expect("written");
        assert_eq!(taken, [Taken { key: key("a"), arrival: Arrival::Newer, generation: Version::new(1, 7) }]);
        ledger.observe(observation("a", 7, Phase::Healthy, "")).await.expect("queued");
    }
    let ledger = Ledger::open(directory.path()).expect("opens again");
    assert_eq!(ledger.state().item(&key("a")).map(|record| record.applied.clone()), Some(vec![applied]));
    assert_eq!(said(&ledger.unacknowledged(0, 10)), [("a".to_owned(), Phase::Healthy, String::new())]);
}

#[tokio::test]
async fn an_old_generation_is_refused_and_a_conflict_keeps_what_is_held() {
    let directory = tempfile::tempdir().expect("directory");
    let ledger = Ledger::open(directory.path()).expect("opens");
    let arrivals: Vec<_> = ledger
        .update(|state| state.take(vec![desired("a", 7, "x"), desired("a", 6, "y"), desired("a", 7, "z"), desired("a", 7, "x")]))
        .await
        .expect("written")
        .into_iter()
        .map(|taken| taken.arrival)
        .collect();
    assert_eq!(arrivals, [Arrival::Newer, Arrival::Older, Arrival::Conflict, Arrival::Same]);
    let held = ledger.state().item(&key("a")).and_then(|record| record.bundle.clone());
    assert_eq!(held, Some(Digest::of(b"x").to_string()));
}

#[tokio::test]
async fn a_disk_that_refuses_changes_nothing() {
    let directory = tempfile::tempdir().expect("directory");
    let ledger = Ledger::open(directory.path()).expect("opens");
    ledger.update(|state| state.take(vec![desired("a", 1, "x")])).await.expect("written");
    // A directory in the place of the file beside: the write fails whoever runs the test, as on a full disk.
    let beside = directory.path().join("state.new");
    fs::create_dir(&beside).expect("made");
    let refused = ledger.update(|state| state.take(vec![desired("a", 2, "y")])).await;
    assert!(matches!(refused, Err(LedgerError::Disk { action: "write", .. })), "{refused:?}");
    assert_eq!(ledger.state().item(&key("a")).map(|record| record.generation), Some(Version::new(1, 1)));
    fs::remove_dir(&beside).expect("removed");
    ledger.update(|state| state.take(vec![desired("a", 2, "y")])).await.expect("written");
    drop(ledger);
    let ledger = Ledger::open(directory.path()).expect("opens");
    assert_eq!(ledger.state().item(&key("a")).map(|record| record.generation), Some(Version::new(1, 2)));
}

#[tokio::test]
async fn half_a_write_beside_the_file_is_passed_over() {
    let directory = tempfile::tempdir().expect("directory");
    {
        let ledger = Ledger::open(directory.path()).expect("opens");
        ledger.update(|state| state.take(vec![desired("a", 1, "x")])).await.expect("written");
    }
    fs::write(directory.path().join("state.new"), "{\"format\":1,\"hub").expect("a torn write");
    let ledger = Ledger::open(directory.path()).expect("opens");
    assert_eq!(ledger.state().items().count(), 1);
    ledger.update(|state| state.take(vec![desired("b", 1, "x")])).await.expect("written over it");
    drop(ledger);
    assert_eq!(Ledger::open(directory.path()).expect("opens").state().items().count(), 2);
}

#[tokio::test]
async fn a_damaged_state_is_an_error_that_names_the_file() {
    let directory = tempfile::tempdir().expect("directory");
    fs::write(directory.path().join("state.json"), "not json").expect("written");
    let Err(error) = Ledger::open(directory.path()) else { panic!("opened a damaged ledger") };
    assert!(error.to_string().contains("state.json is damaged"), "{error}");
}

#[tokio::test]
async fn a_second_agent_on_the_same_directory_is_refused() {
    let directory = tempfile::tempdir().expect("directory");
    let first = Ledger::open(directory.path()).expect("opens");
    assert!(matches!(Ledger::open(directory.path()), Err(LedgerError::InUse(_))));
    drop(first);
    Ledger::open(directory.path()).expect("free again");
}

#[tokio::test]
async fn a_bundle_is_checked_when_it_comes_and_when_it_is_read() {
    let directory = tempfile::tempdir().expect("directory");
    let ledger = Ledger::open(directory.path()).expect("opens");
    let manifests = vec![json!({"kind": "ConfigMap"})];
    let (digest, packed) = bundle::encode(&manifests).expect("small");
    let other = Digest::of(b"other");
    assert!(matches!(ledger.put_bundle(other, packed.clone()).await, Err(LedgerError::Bundle(_))));
    ledger.put_bundle(digest.clone(), packed).await.expect("stored");
    drop(ledger);
    let ledger = Ledger::open(directory.path()).expect("opens");
    assert_eq!(*ledger.bundle(digest.clone()).await.expect("read"), manifests);
    drop(ledger);
    fs::write(directory.path().join("bundles").join(digest.hex()), "damaged").expect("written");
    let ledger = Ledger::open(directory.path()).expect("opens");
    assert!(matches!(ledger.bundle(digest.clone()).await, Err(LedgerError::NoBundle(_))));
    assert!(!ledger.has_bundle(&digest));
}

#[tokio::test]
async fn observations_wait_for_their_acknowledgement_and_repeat_nothing() {
    let directory = tempfile::tempdir().expect("directory");
    let ledger = Ledger::open(directory.path()).expect("opens");
    for (phase, message) in [
        (Phase::Applied, "1 of 2"),
        (Phase::Applied, "2 of 2"),
        (Phase::Healthy, ""),
        (Phase::Healthy, ""),
        (Phase::Drifted, "replicas"),
        (Phase::Healthy, "healed"),
    ] {
        ledger.observe(observation("a", 1, phase, message)).await.expect("queued");
    }
    let queued = ledger.unacknowledged(0, 10);
    let expected = [(Phase::Applied, "2 of 2"), (Phase::Healthy, ""), (Phase::Drifted, "replicas"), (Phase::Healthy, "healed")];
    assert_eq!(said(&queued), expected.map(|(phase, message)| ("a".to_owned(), phase, message.to_owned())));
    ledger.acknowledge(queued[..3].iter().map(|q| q.sequence).collect()).await.expect("forgotten");
    assert_eq!(ledger.unacknowledged(0, 10), queued[3..]);
    ledger.acknowledge(vec![queued[3].sequence]).await.expect("forgotten");
    ledger.observe_all_again().await.expect("queued");
    assert_eq!(said(&ledger.unacknowledged(0, 10)), [("a".to_owned(), Phase::Healthy, "healed".to_owned())]);
}

#[test]
fn the_queue_is_bounded_and_keeps_the_last_word_on_each_item() {
    let mut queue = Queue::default();
    queue.push(observation("first", 1, Phase::Healthy, "last word"));
    for n in 0..=queue::MAX_QUEUED as u64 {
        let phase = if n % 2 == 0 { Phase::Applied } else { Phase::Healthy };
        queue.push(observation("busy", n, phase, ""));
    }
    let pending = queue.pending(0, usize::MAX);
    assert_eq!(pending.len(), queue::MAX_QUEUED);
    assert_eq!(pending[0].observation.key, key("first"));
}

#[tokio::test]
async fn the_identity_is_for_its_owner_alone_and_an_enrolment_keeps_its_key() {
    let directory = tempfile::tempdir().expect("directory");
    let ledger = Ledger::open(directory.path()).expect("opens");
    assert_eq!(ledger.identity().expect("readable"), None);
    assert_eq!(ledger.enrolment_key(|| "first".to_owned()).expect("made"), "first");
    assert_eq!(ledger.enrolment_key(|| "second".to_owned()).expect("kept"), "first");
    let identity = Identity {
        cluster: "clusters/edge-01".into(),
        cluster_uid: "u".into(),
        key_pem: "first".into(),
        certificate_pem: "c".into(),
        ca_pem: "a".into(),
        issued_at: Timestamp::UNIX_EPOCH,
        expires_at: Timestamp::MAX,
    };
    ledger.set_identity(&identity).expect("written");
    assert_eq!(ledger.identity().expect("readable"), Some(identity.clone()));
    let mode = fs::metadata(directory.path().join("identity.json")).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(!format!("{identity:?}").contains("first"), "the key is in a debug print");
}

#[test]
fn old_tombstones_are_forgotten_and_new_ones_refuse_what_comes_late() {
    let mut state = State::default();
    for n in 1..=1_200 {
        let name = format!("jobs/ml/train-{n}");
        let tombstone = Desired { bundle: None, ..desired(&name, n, "") };
        state.take(vec![tombstone]);
        state.item_mut(&key(&name)).expect("just taken").deleted = true;
    }
    state.take(vec![desired("app", 2_000, "x")]);
    assert_eq!(state.items().count(), 1_001);
    let late = state.take(vec![desired("jobs/ml/train-1200", 1_199, "x")]);
    assert_eq!(late[0].arrival, Arrival::Older);
}
