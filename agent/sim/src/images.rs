//! What an image does when it runs: the simulated registry. Of the rules whose pattern fits, the last one counts.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// One rule: an image pattern and the behaviour of the containers that run it.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImageRule {
    /// The image, with `*` for any run of characters. An image without a tag is found with and without `:latest`.
    #[serde(rename = "match")]
    pub pattern: String,
    /// Only in these clusters; everywhere where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clusters: Option<Vec<String>>,
    /// From running to ready, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_after_ms: Option<u64>,
    /// From running to the end of the process, milliseconds. Without it a container ends only in a pod whose
    /// `restartPolicy` is not `Always`, after the cluster's `jobRunMs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_for_ms: Option<u64>,
    /// The exit code at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Ends with an error at once, every time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub crash: bool,
    /// Cannot be pulled.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pull_error: bool,
    /// Runs and never becomes ready.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub never_ready: bool,
    /// The share of requests answered with 500, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_rate: Option<f64>,
    /// The middle of the request latency, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<f64>,
    /// How busy it keeps its GPUs, 0 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_utilisation: Option<f64>,
    /// The lines it writes while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logs: Option<Vec<String>>,
    /// Between two of these lines, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_interval_ms: Option<u64>,
}

/// What a container does.
#[derive(Debug, Clone, PartialEq)]
pub struct Behaviour {
    /// From running to ready; `None` never.
    pub ready_after: Option<Duration>,
    /// From running to the end; `None` runs for ever.
    pub run_for: Option<Duration>,
    /// The exit code at the end.
    pub exit_code: i32,
    /// Cannot be pulled.
    pub pull_error: bool,
    /// The share of requests answered with 500, 0 to 1.
    pub error_rate: f64,
    /// The middle of the request latency, seconds.
    pub latency_seconds: f64,
    /// How busy it keeps its GPUs, 0 to 100.
    pub gpu_utilisation: f64,
    /// The lines it writes.
    pub logs: Vec<String>,
    /// Between two lines.
    pub log_interval: Duration,
}

/// An image that crashes does so after this long.
const CRASH_AFTER: Duration = Duration::from_millis(50);

/// The image with its tag written out.
pub fn with_tag(image: &str) -> String {
    let name = image.rsplit('/').next().unwrap_or(image);
    if name.contains([':', '@']) { image.to_owned() } else { format!("{image}:latest") }
}

/// The tag of an image: what a version label would say where there is none.
pub fn tag(image: &str) -> String {
    let image = with_tag(image);
    let without_digest = image.split('@').next().unwrap_or("");
    let name = without_digest.rsplit('/').next().unwrap_or("");
    name.split_once(':').map_or_else(|| "latest".to_owned(), |(_, tag)| tag.to_owned())
}

/// What `image` does in `cluster`: each rule that fits lays what it says over the ones before.
/// `ends_after` is how long a container runs in a pod that is meant to end.
pub fn behaviour(rules: &[ImageRule], cluster: &str, image: &str, ends_after: Option<Duration>) -> Behaviour {
    let (written, image) = (image, with_tag(image));
    let mut behaviour = Behaviour {
        ready_after: Some(Duration::from_millis(200)),
        run_for: ends_after,
        exit_code: 0,
        pull_error: false,
        error_rate: 0.0,
        latency_seconds: 0.02,
        gpu_utilisation: if ends_after.is_some() { 92.0 } else { 55.0 },
        logs: vec![format!("started {image}")],
        log_interval: Duration::from_millis(100),
    };
    let here = |rule: &&ImageRule| rule.clusters.as_ref().is_none_or(|names| names.iter().any(|name| name == cluster));
    for rule in rules.iter().filter(here).filter(|rule| fits(&rule.pattern, &image) || fits(&rule.pattern, written)) {
        let millis = Duration::from_millis;
        behaviour.ready_after = rule.ready_after_ms.map(millis).or(behaviour.ready_after);
        if rule.never_ready {
            behaviour.ready_after = None;
        }
        behaviour.run_for = rule.run_for_ms.map(millis).or(behaviour.run_for);
        behaviour.exit_code = rule.exit_code.unwrap_or(behaviour.exit_code);
        behaviour.pull_error = rule.pull_error;
        if rule.crash {
            behaviour.run_for = Some(rule.run_for_ms.map_or(CRASH_AFTER, millis));
            behaviour.exit_code = rule.exit_code.filter(|code| *code != 0).unwrap_or(1);
        }
        behaviour.error_rate = rule.error_rate.unwrap_or(behaviour.error_rate);
        behaviour.latency_seconds = rule.latency_ms.map_or(behaviour.latency_seconds, |millis| millis / 1000.0);
        behaviour.gpu_utilisation = rule.gpu_utilisation.unwrap_or(behaviour.gpu_utilisation);
        behaviour.logs = rule.logs.clone().unwrap_or(behaviour.logs);
        behaviour.log_interval = rule.log_interval_ms.map_or(behaviour.log_interval, millis);
    }
    behaviour
}

/// `*` stands for any run of characters; two pointers, so that no pattern takes more than quadratic time.
fn fits(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut from, mut star) = (0, 0, None);
    while from < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, from));
                at += 1;
            }
            Some(byte) if *byte == text[from] => {
                at += 1;
                from += 1;
            }
            Some(_) | None => match star {
                Some((star_at, star_from)) => {
                    star = Some((star_at, star_from + 1));
                    at = star_at + 1;
                    from = star_from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_rule_that_fits_counts() {
        let rules: Vec<ImageRule> = serde_json::from_value(serde_json::json!([
            {"match": "*/server:v4*", "errorRate": 0.5},
            {"match": "*/server:v4", "clusters": ["edge"], "errorRate": 0.9},
        ]))
        .unwrap();
        assert_eq!(behaviour(&rules, "hub", "r.example.com/server:v4", None).error_rate, 0.5);
        assert_eq!(behaviour(&rules, "edge", "r.example.com/server:v4", None).error_rate, 0.9);
        assert_eq!(behaviour(&rules, "edge", "r.example.com/server", None).error_rate, 0.0);
    }

    #[test]
    fn a_tag_is_read_past_ports_and_digests() {
        assert_eq!(tag("r.example.com:5000/a/b"), "latest");
        assert_eq!(tag("r.example.com:5000/a/b:v3"), "v3");
        assert_eq!(tag("a/b:v3@sha256:00"), "v3");
    }
}
