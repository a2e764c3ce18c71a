//! Policies that were tampered with: whatever a document says, it is refused or judged, soon and without a panic.
//!
//! Seeds are changed by a generator with fixed states, so that what fails here fails again. `fuzz/` does the same with
//! coverage, for as long as one likes.

use muster_core::manifest::parse_value;
use muster_policy_evaluator::{BodyKind, Extent, Inventory, Policy, PolicyException, Request, speed};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const SEEDS: &[&str] = &[
    r#"{apiVersion: kyverno.io/v1, kind: ClusterPolicy, metadata: {name: p}, spec: {rules: [{name: r,
        match: {any: [{resources: {kinds: [Pod, "apps/*/Deployment"], names: ["a-*"], selector: {matchLabels: {app: "?*"}}}}]},
        exclude: {all: [{subjects: [{kind: User, name: root}]}]},
        context: [{name: a, variable: {value: {b: "{{ request.object.metadata.name }}"}, jmesPath: "b | to_upper(@)", default: x}},
                  {name: m, configMap: {name: m, namespace: "{{ request.namespace }}"}},
                  {name: c, apiCall: {urlPath: "/api/v1/namespaces/{{ request.namespace }}/pods", jmesPath: "items | length(@)"}}],
        preconditions: {any: [{key: "{{ a }}", operator: AnyIn, value: ["POD-*", "1-10"]}]},
        validate: {message: "{{ a }} is {{ c }}", deny: {conditions: {all: [{key: "{{ m.data.x || `5` }}", operator: GreaterThan, value: 1h}]}}}}]}}"#,
    r#"{apiVersion: kyverno.io/v1, kind: ClusterPolicy, metadata: {name: p}, spec: {rules: [{name: r,
        match: {any: [{resources: {kinds: [Pod]}}]},
        validate: {foreach: [{list: "request.object.spec.[containers, initContainers][]", foreach: [{list: "element.ports || `[]`",
          deny: {conditions: [{key: "{{ regex_replace_all('a(.*)', '{{ element0.name }}', '$1$1') }}", operator: Equals, value: "b*"}]}}]}]}}]}}"#,
    r#"{apiVersion: kyverno.io/v1, kind: ClusterPolicy, metadata: {name: p}, spec: {rules: [{name: r,
        match: {any: [{resources: {kinds: [Pod]}}]},
        validate: {anyPattern: [{spec: {"=(hostNetwork)": "false", "^(containers)": [{"(name)": "m* | ?x", image: "!*:latest & *:*"}],
          containers: [{resources: {limits: {memory: "<=1Gi", cpu: "100m-2"}, requests: {memory: "$(<=./../../limits/memory)"}}}]}},
          {metadata: {labels: {"a*": "{{ request.object.metadata.labels.app }}", X(b): "null"}}}]}}]}}"#,
    r#"{apiVersion: kyverno.io/v1, kind: ClusterPolicy, metadata: {name: p}, spec: {rules: [{name: r,
        match: {any: [{resources: {kinds: [Pod]}}]},
        validate: {podSecurity: {level: restricted, version: v1.29, exclude: [{controlName: Capabilities, images: ["*"], values: ["SYS_*"]}]}}}]}}"#,
    r#"{apiVersion: policies.kyverno.io/v1, kind: ValidatingPolicy, metadata: {name: p}, spec: {
        matchConstraints: {resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}]},
        matchConditions: [{name: c, expression: "object.metadata.?labels.orValue({}).size() < 9"}],
        variables: [{name: v, expression: "object.spec.containers.map(c, c.image)"}],
        validations: [{expression: "variables.v.all(i, i.matches('^[a-z./:0-9-]*$')) || quantity('1Gi').isGreaterThan(quantity('1M'))",
                       messageExpression: "variables.v.join(',')"}]}}"#,
    r#"{apiVersion: kyverno.io/v1, kind: ClusterPolicy, metadata: {name: p}, spec: {rules: [
        {name: r, match: {any: [{resources: {kinds: [Pod]}}]}, mutate: {foreach: [{list: "request.object.spec.containers", order: Descending,
          patchesJson6902: "[{op: add, path: '/spec/containers/{{ elementIndex }}/args/-', value: '{{ element.name }}'}]"}]}},
        {name: s, match: {any: [{resources: {kinds: [Pod]}}]}, mutate: {patchStrategicMerge: {metadata: {labels: {+(a): "{{ request.namespace }}"}},
          spec: {containers: [{"(image)": "*", env: [{name: E, value: e}]}], volumes: [{"<(emptyDir)": {}}]}}}}]}}"#,
    r#"{apiVersion: kyverno.io/v2, kind: PolicyException, metadata: {name: e}, spec: {exceptions: [{policyName: p, ruleNames: ["r*"]}],
        match: {any: [{resources: {kinds: [Pod]}}]}, conditions: {all: [{key: "{{ request.object.metadata.name }}", operator: Equals, value: "p*"}]}}}"#,
];

/// Pieces that mean something to one of the languages.
const PIECES: &[&str] = &[
    "{{",
    "}}",
    "$(",
    ")",
    "(",
    "[",
    "]",
    "[]",
    "[?",
    "*",
    "||",
    "&&",
    "|",
    "@",
    "&",
    "`",
    "'",
    "\"",
    "-",
    "!",
    "<=",
    "1-2",
    "{",
    "}",
    ": ",
    ", ",
    "0",
    "-1",
    "9999999999999999999",
    "1e400",
    "null",
    "true",
    "request.object",
    "element",
    "length(@)",
    "to_string(@)",
    "join('', @)",
    "map(&@, @)",
    "(.*)*",
    "\\",
    "é",
    "a: &a [*a]",
    "\u{0}",
    "object.spec.containers",
    ".all(c, c)",
    "%",
];

/// A small generator; the same state, the same numbers.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap_or_default() % sides.max(1)
    }
}

fn tampered(seed: &str, dice: &mut Dice) -> String {
    let mut text: Vec<char> = seed.chars().collect();
    for _ in 0..=dice.roll(4) {
        let at = dice.roll(text.len());
        match dice.roll(4) {
            0 => {
                let end = (at + 1 + dice.roll(12)).min(text.len());
                text.drain(at..end);
            }
            1 => {
                let end = (at + 1 + dice.roll(40)).min(text.len());
                let copied: Vec<char> = text[at..end].to_vec();
                let times = 1 + dice.roll(30);
                text.splice(at..at, copied.iter().cycle().take(copied.len() * times).copied());
            }
            _ => {
                let piece = PIECES[dice.roll(PIECES.len())];
                let times = if dice.roll(10) == 0 { 300 } else { 1 };
                text.splice(at..at, piece.repeat(times).chars());
            }
        }
    }
    text.into_iter().collect()
}

/// Objects of every kind, one of them nothing like what rules expect.
fn objects() -> Vec<Value> {
    let mut objects = speed::workloads(6);
    let deep = (0..60).fold(json!("x"), |inner, _| json!({"spec": inner, "a": [1.5, null, "b"]}));
    objects.push(json!({"apiVersion": "v1", "kind": "Pod", "metadata": [], "spec": {"containers": {"name": deep}}}));
    objects
}

#[test]
fn a_policy_that_was_tampered_with_is_refused_or_judged_soon() {
    let objects = objects();
    let inventory = Inventory::new(objects.clone(), Extent::Whole);
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let (mut judged, mut slowest) = (0, Duration::ZERO);
    for round in 0..1_500 {
        let text = tampered(SEEDS[round % SEEDS.len()], &mut dice);
        let Ok(document) = parse_value(&text) else { continue };
        let began = Instant::now();
        let exceptions: Vec<PolicyException> = PolicyException::parse(&document).into_iter().collect();
        if let Ok(policy) = Policy::parse(&document) {
            for object in &objects {
                let request = Request { inventory: Some(&inventory), exceptions: &exceptions, ..Request::create(object) };
                judged += policy.evaluate(&request).len() + policy.mutate(&request).len();
            }
        }
        let took = began.elapsed();
        assert!(took < Duration::from_secs(20), "{took:?} for {text}");
        slowest = slowest.max(took);
    }
    assert!(judged > 200, "only {judged} answers: the seeds are no policies any more");
}

#[test]
fn the_seeds_themselves_are_read() {
    for seed in SEEDS {
        let document = parse_value(seed).expect("YAML");
        let read = if document["kind"] == "PolicyException" {
            PolicyException::parse(&document).map(|_| ())
        } else {
            Policy::parse(&document).map(|policy| {
                let unknown = policy.rules().filter(|(_, body, _)| *body != BodyKind::Mutate).filter_map(|(_, _, reason)| reason);
                let unknown: Vec<_> = unknown.collect();
                assert!(unknown.is_empty(), "{unknown:?}");
            })
        };
        assert_eq!(read, Ok(()), "{seed}");
    }
}
