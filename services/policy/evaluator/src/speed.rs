//! How fast policies are judged: generated workloads, and the same policies over them on several threads.
//!
//! No clock here: whoever measures brings one. The workloads depend on their number alone, so that another evaluator can
//! be asked the same.

use crate::{Outcome, Policy, Request};
use serde_json::{Value, json};
use std::{collections::BTreeMap, thread, time::Duration};

/// Kinds of generated workloads, in turn.
const KINDS: [(&str, &str); 6] = [
    ("v1", "Pod"),
    ("apps/v1", "Deployment"),
    ("apps/v1", "StatefulSet"),
    ("apps/v1", "DaemonSet"),
    ("batch/v1", "Job"),
    ("batch/v1", "CronJob"),
];

/// What was done in what time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Speed {
    /// Answers of single rules about single objects.
    pub answers: u64,
    /// Those that were no *pass*.
    pub objections: u64,
    /// How long it took.
    pub elapsed: Duration,
}

impl Speed {
    /// Answers a second.
    pub fn per_second(&self) -> f64 {
        self.answers as f64 / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

/// One answer, for comparison with another evaluator's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Answer {
    /// The policy's name.
    pub policy: String,
    /// The rule's name.
    pub rule: String,
    /// The object's name; those of generated workloads differ.
    pub object: String,
    /// `pass`, `fail`, `skip`, `error` or `not evaluated`.
    pub outcome: &'static str,
}

/// Mixed workloads; every other one breaks something.
pub fn workloads(count: usize) -> Vec<Value> {
    (0..count).map(|number| workload(number, KINDS[number % KINDS.len()])).collect()
}

/// Pods; every other one breaks something.
pub fn pods(count: usize) -> Vec<Value> {
    (0..count).map(|number| workload(number, KINDS[0])).collect()
}

fn workload(number: usize, (api_version, kind): (&str, &str)) -> Value {
    let name = format!("{}-{number}", kind.to_lowercase());
    let labels = json!({"app": name, "tier": "backend"});
    let template = json!({"metadata": {"labels": labels}, "spec": pod_spec(number, kind)});
    let selector = json!({"matchLabels": {"app": name}});
    let spec = match kind {
        "Pod" => template["spec"].clone(),
        "Deployment" => json!({"replicas": 3, "selector": selector, "template": template}),
        "StatefulSet" => json!({"serviceName": name, "replicas": 3, "selector": selector, "template": template}),
        "Job" => json!({"backoffLimit": 2, "template": template}),
        "CronJob" => json!({"schedule": "0 3 * * *", "jobTemplate": {"spec": {"template": template}}}),
        _ => json!({"selector": selector, "template": template}),
    };
    let metadata = json!({"name": name, "namespace": format!("team-{}", number % 20), "labels": labels});
    json!({"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec})
}

fn pod_spec(number: usize, kind: &str) -> Value {
    let container = |name: &str, image: &str| {
        json!({
            "name": name, "image": image,
            "ports": [{"containerPort": 8080, "protocol": "TCP"}],
            "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
            "securityContext": {
                "allowPrivilegeEscalation": false, "runAsNonRoot": true, "runAsUser": 1000,
                "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
            },
            "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        })
    };
    let mut spec = json!({
        "containers": [container("main", "registry.example.com/team/app:1.4.2"), container("proxy", "registry.example.com/mesh/proxy:2.0")],
        "initContainers": [container("init", "registry.example.com/team/init:1.4.2")],
        "securityContext": {"runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
        "volumes": [{"name": "data", "emptyDir": {}}],
    });
    if matches!(kind, "Job" | "CronJob") {
        spec["restartPolicy"] = json!("OnFailure");
    }
    if number % 2 == 1 {
        breach(&mut spec, number / 2);
    }
    spec
}

fn breach(spec: &mut Value, number: usize) {
    let main = &mut spec["containers"][0];
    match number % 12 {
        0 => main["securityContext"]["privileged"] = json!(true),
        1 => main["securityContext"]["capabilities"] = json!({"add": ["SYS_ADMIN"]}),
        2 => main["ports"][0]["hostPort"] = json!(80),
        3 => main["securityContext"]["allowPrivilegeEscalation"] = json!(true),
        4 => main["securityContext"]["procMount"] = json!("Unmasked"),
        5 => main["securityContext"]["runAsUser"] = json!(0),
        6 => spec["hostNetwork"] = json!(true),
        7 => spec["volumes"][0] = json!({"name": "data", "hostPath": {"path": "/var/run"}}),
        8 => spec["securityContext"]["seccompProfile"] = json!({"type": "Unconfined"}),
        9 => spec["securityContext"]["sysctls"] = json!([{"name": "kernel.msgmax", "value": "1"}]),
        10 => spec["securityContext"]["seLinuxOptions"] = json!({"user": "root"}),
        _ => spec["securityContext"]["runAsNonRoot"] = json!(false),
    }
}

/// Every answer of every policy about every object, in order, found on so many threads.
pub fn answers(policies: &[Policy], objects: &[Value], threads: usize) -> Vec<Answer> {
    let share = objects.len().div_ceil(threads.max(1)).max(1);
    let mut answers = thread::scope(|scope| {
        let running: Vec<_> = objects.chunks(share).map(|chunk| scope.spawn(move || answers_about(policies, chunk))).collect();
        running.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect::<Vec<_>>()
    });
    answers.sort();
    answers
}

fn answers_about(policies: &[Policy], objects: &[Value]) -> Vec<Answer> {
    let mut answers = Vec::new();
    for object in objects {
        let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        for policy in policies {
            answers.extend(policy.evaluate(&Request::create(object)).into_iter().map(|result| Answer {
                policy: policy.name().to_owned(),
                rule: result.rule.to_owned(),
                object: name.to_owned(),
                outcome: result.outcome.word(),
            }));
        }
    }
    answers
}

/// Judges all objects by all policies again and again on threads of its own, for at least so long. `clock` says how long
/// it is since something fixed.
pub fn measure(
    policies: &[Policy],
    objects: &[Value],
    threads: usize,
    at_least: Duration,
    clock: &(dyn Fn() -> Duration + Sync),
) -> Speed {
    let began = clock();
    let share = objects.len().div_ceil(threads.max(1)).max(1);
    let counts = thread::scope(|scope| {
        let running: Vec<_> = objects
            .chunks(share)
            .map(|chunk| {
                scope.spawn(move || {
                    let (mut answers, mut objections) = (0_u64, 0_u64);
                    while clock().saturating_sub(began) < at_least || answers == 0 {
                        for object in chunk {
                            let request = Request::create(object);
                            let facts = request.facts();
                            for policy in policies {
                                policy.each_answer(&request, &facts, |result| {
                                    answers += 1;
                                    objections += u64::from(result.outcome != Outcome::Pass);
                                });
                            }
                        }
                        if chunk.is_empty() || policies.is_empty() {
                            break;
                        }
                    }
                    (answers, objections)
                })
            })
            .collect();
        running.into_iter().map(|thread| thread.join().unwrap_or_default()).collect::<Vec<_>>()
    });
    let (answers, objections) = counts.into_iter().fold((0, 0), |(a, b), (x, y)| (a + x, b + y));
    Speed { answers, objections, elapsed: clock().saturating_sub(began) }
}

/// How many answers there are of each kind.
pub fn counted(answers: &[Answer]) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for answer in answers {
        *counts.entry(answer.outcome).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn policy() -> Policy {
        Policy::parse(&json!({
            "apiVersion": "kyverno.io/v1", "kind": "ClusterPolicy", "metadata": {"name": "p"},
            "spec": {"rules": [{
                "name": "r", "match": {"any": [{"resources": {"kinds": ["Pod"]}}]},
                "validate": {"pattern": {"spec": {"=(hostNetwork)": false}}},
            }]},
        }))
        .expect("a policy")
    }

    #[test]
    fn every_kind_is_made_and_half_of_all_break_something() {
        let made = workloads(144);
        assert_eq!(made, workloads(144));
        for (_, kind) in KINDS {
            assert!(made.iter().any(|object| object["kind"] == kind), "{kind}");
        }
        let answers = answers(&[policy()], &made, 2);
        assert_eq!(counted(&answers), BTreeMap::from([("fail", 6), ("pass", 138)]));
    }

    #[test]
    fn what_is_measured_is_what_was_judged() {
        let began = Instant::now();
        let speed = measure(&[policy()], &pods(24), 2, Duration::ZERO, &|| began.elapsed());
        assert_eq!((speed.answers, speed.objections), (24, 1));
        assert!(speed.per_second() > 0.0);
    }
}
