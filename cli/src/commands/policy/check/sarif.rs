//! Findings as SARIF 2.1.0 (OASIS, 2020), for code scanning: a rule of a policy is a rule, a finding a result.

use super::{Finding, Verdict};
use serde::Serialize;
use std::{collections::BTreeSet, path::Path};

#[derive(Serialize)]
struct Log {
    #[serde(rename = "$schema")]
    schema: &'static str,
    version: &'static str,
    runs: [Run; 1],
}

#[derive(Serialize)]
struct Run {
    tool: Tool,
    invocations: [Invocation; 1],
    results: Vec<Reported>,
}

#[derive(Serialize)]
struct Tool {
    driver: Driver,
}

#[derive(Serialize)]
struct Driver {
    name: &'static str,
    version: &'static str,
    rules: Vec<Rule>,
}

#[derive(Serialize)]
struct Rule {
    id: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Invocation {
    execution_successful: bool,
    tool_execution_notifications: Vec<Notification>,
}

#[derive(Serialize)]
struct Notification {
    level: &'static str,
    message: Message,
}

#[derive(Serialize)]
struct Message {
    text: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Reported {
    rule_id: String,
    rule_index: usize,
    level: &'static str,
    message: Message,
    locations: [Location; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Location {
    physical_location: PhysicalLocation,
    logical_locations: [LogicalLocation; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PhysicalLocation {
    artifact_location: ArtifactLocation,
    region: Region,
}

#[derive(Serialize)]
struct ArtifactLocation {
    uri: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Region {
    start_line: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LogicalLocation {
    fully_qualified_name: String,
}

/// The whole log; `places` are file and line of each finding.
pub fn written(verdict: &Verdict, places: &[(String, usize)]) -> String {
    let id = |finding: &Finding| format!("{}/{}", finding.policy, finding.rule);
    let rules: BTreeSet<String> = verdict.findings.iter().map(id).collect();
    let rules: Vec<String> = rules.into_iter().collect();
    let result = |(finding, (file, line)): (&Finding, &(String, usize))| Reported {
        rule_id: id(finding),
        rule_index: rules.binary_search(&id(finding)).unwrap_or_default(),
        level: if finding.enforced { "error" } else { "warning" },
        message: Message { text: finding.message.clone() },
        locations: [Location {
            physical_location: PhysicalLocation {
                artifact_location: ArtifactLocation { uri: uri(file) },
                region: Region { start_line: *line },
            },
            logical_locations: [LogicalLocation {
                fully_qualified_name: format!("{} {}", finding.subject, finding.path).trim_end().to_owned(),
            }],
        }],
    };
    let results = verdict.findings.iter().zip(places).map(result).collect();
    let notification = |text: &String| Notification { level: "note", message: Message { text: text.clone() } };
    let log = Log {
        schema: "https://json.schemastore.org/sarif-2.1.0.json",
        version: "2.1.0",
        runs: [Run {
            tool: Tool {
                driver: Driver {
                    name: "muster",
                    version: env!("CARGO_PKG_VERSION"),
                    rules: rules.into_iter().map(|id| Rule { id }).collect(),
                },
            },
            invocations: [Invocation {
                execution_successful: true,
                tool_execution_notifications: verdict.warnings.iter().map(notification).collect(),
            }],
            results,
        }],
    };
    format!("{}\n", serde_json::to_string_pretty(&log).expect("texts and numbers always serialise"))
}

/// A relative reference as RFC 3986 writes it, for a path within a repository; a `file:` URI for any other.
fn uri(file: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    let encoded: String = file
        .trim_start_matches("./")
        .bytes()
        .map(|byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect();
    if Path::new(file).is_absolute() { format!("file://{encoded}") } else { encoded }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_references() {
        assert_eq!(uri("./a b/c.yaml"), "a%20b/c.yaml");
        assert_eq!(uri("/a/ü.yaml"), "file:///a/%C3%BC.yaml");
    }

    #[test]
    fn a_finding_names_its_rule_by_place() {
        let finding = |policy: &str, enforced| Finding {
            document: 0,
            policy: policy.to_owned(),
            rule: "r".to_owned(),
            subject: "Pod a/b".to_owned(),
            path: "spec".to_owned(),
            message: "no".to_owned(),
            enforced,
        };
        let verdict = Verdict { findings: vec![finding("q", true), finding("p", false)], warnings: vec!["w".to_owned()] };
        let places = [("a.yaml".to_owned(), 3), ("a.yaml".to_owned(), 7)];
        let log: serde_json::Value = serde_json::from_str(&written(&verdict, &places)).expect("JSON");
        let run = &log["runs"][0];
        assert_eq!(run["tool"]["driver"]["rules"], serde_json::json!([{"id": "p/r"}, {"id": "q/r"}]));
        assert_eq!((&run["results"][0]["ruleIndex"], &run["results"][0]["level"]), (&1.into(), &"error".into()));
        let location = &run["results"][1]["locations"][0];
        assert_eq!(location["physicalLocation"]["region"]["startLine"], 7);
        assert_eq!(location["logicalLocations"][0]["fullyQualifiedName"], "Pod a/b spec");
        assert_eq!(run["invocations"][0]["toolExecutionNotifications"][0]["message"]["text"], "w");
    }
}
