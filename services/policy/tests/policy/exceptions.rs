//! Exceptions: what they excuse, for how long, and who is told.

use crate::{
    bindings::bind,
    harness::{SERVICE, Service, binding, policy},
    policies::create,
    verdicts::{allowed, evaluate},
};
use jiff::{SignedDuration, Timestamp};
use std::time::Duration;
use tonic::Code;

/// Excuses Services called `web` from the policy `p`, until then.
fn exception(ends: Timestamp) -> String {
    format!(
        "apiVersion: kyverno.io/v2\nkind: PolicyException\nmetadata:\n  name: web-is-old\n  namespace: ops\n  annotations:\n    \
         muster.dev/exception-owner: ada\n    muster.dev/exception-ends: {ends}\nspec:\n  match: {{any: [{{resources: {{kinds: \
         [Service], names: [web]}}}}]}}\n  exceptions: [{{policyName: p, ruleNames: [\"*\"]}}]\n"
    )
}

async fn excused(service: &Service, ends: Timestamp) {
    service.policies().create_policy(create(&policy("p", "owner"))).await.expect("made");
    service.policies().create_policy(create(&exception(ends))).await.expect("made");
    let entries = ["{name: p}", "{name: web-is-old}"];
    service.bindings().update_fleet_policy(bind(&binding("b", "edge", &entries))).await.expect("bound");
}

fn in_an_hour() -> Timestamp {
    Timestamp::now() + SignedDuration::from_hours(1)
}

#[tokio::test]
async fn an_exception_excuses_what_it_matches_in_the_fleets_it_is_bound_to() {
    let service = Service::start().await;
    excused(&service, in_an_hour()).await;
    assert!(allowed(&service).await);
    let other = SERVICE.replace("web", "shop");
    assert_eq!(evaluate(&service, &[SERVICE, &other], &[]).await.violations.len(), 1);
    service.bindings().update_fleet_policy(bind(&binding("c", "train", &["{name: p}"]))).await.expect("bound");
    assert!(!allowed(&service).await, "the other fleet has no exception");
}

#[tokio::test]
async fn an_exception_ends_with_another_revision() {
    let service = Service::start().await;
    excused(&service, Timestamp::now() + SignedDuration::from_millis(1_500)).await;
    let before = evaluate(&service, &[SERVICE], &[]).await;
    assert!(before.allowed);
    let after = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            let verdict = evaluate(&service, &[SERVICE], &[]).await;
            if !verdict.allowed {
                return verdict;
            }
            assert_eq!(verdict.policy_revision, before.policy_revision, "equal verdicts until it ends");
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("it ends");
    assert_ne!(after.policy_revision, before.policy_revision);
    assert_eq!(evaluate(&service, &[SERVICE], &[]).await, after, "and that is the last of it");
}

#[tokio::test]
async fn clusters_are_told_of_exceptions_until_they_end() {
    let service = Service::start().await;
    excused(&service, in_an_hour()).await;
    service.project(&[("one", true)], &[("edge", &["one"])]).await;
    service.tick_distribute().await.expect("told");
    let told = |service: &Service| {
        let kept = service.registry.kept("one").expect("told");
        kept.manifests.iter().map(|manifest| manifest["kind"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(told(&service), ["ClusterPolicy", "PolicyException"]);
    // As if it had been made two hours ago, for one.
    sqlx::query(
        "update document set content = jsonb_set(content, '{metadata,annotations,muster.dev/exception-ends}', \
         to_jsonb(to_char(now() at time zone 'utc' - interval '1 minute', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'))) \
         where content ->> 'kind' = 'PolicyException'",
    )
    .execute(service.db.pool())
    .await
    .expect("written");
    sqlx::query("update policy_revision set n = n + 1, as_of = now() - interval '1 hour'")
        .execute(service.db.pool())
        .await
        .expect("written");
    service.tick_distribute().await.expect("told");
    assert_eq!(told(&service), ["ClusterPolicy"]);
}

#[tokio::test]
async fn an_exception_without_owner_or_end_is_refused_by_field() {
    let service = Service::start().await;
    let whole = exception(in_an_hour());
    for (line, field) in [("exception-owner", "exception-owner"), ("exception-ends", "exception-ends")] {
        let without: String = whole.lines().filter(|text| !text.contains(line)).map(|text| format!("{text}\n")).collect();
        let refused = service.policies().create_policy(create(&without)).await.expect_err("refused");
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains(field), "{}", refused.message());
    }
}

#[tokio::test]
async fn what_a_binding_may_say_of_policies_only_keeps_an_exception_from_holding() {
    let service = Service::start().await;
    excused(&service, in_an_hour()).await;
    let entries = ["{name: p}", "{name: web-is-old, namespaces: [default]}"];
    service.bindings().update_fleet_policy(bind(&binding("b", "edge", &entries))).await.expect("bound");
    let verdict = evaluate(&service, &[SERVICE], &[]).await;
    assert!(!verdict.allowed);
    assert!(verdict.warnings[0].contains("exception web-is-old of fleet policy b does not hold"), "{:?}", verdict.warnings);
}
