//! What an agent found in its cluster, as a list of findings that ends well or badly.

use crate::{
    commands::App,
    error::{Exit, Failure, Result},
    kinds::short,
};
use muster_proto::{Duration, agent::v1::Preflight, registry::v1::Cluster};

/// Prints it; a failure where something is wrong.
pub fn show(cluster: &Cluster, app: &App) -> Result<()> {
    let Some(preflight) = &cluster.preflight else {
        return Err(Failure::new(Exit::NotFound, format!("the agent of {} has not reported yet", short(&cluster.name))));
    };
    app.printer.either(|| words(preflight), || serde_json::to_value(preflight).expect("every message has proto3 JSON"))?;
    match preflight.problems.len() {
        0 => Ok(()),
        1 => Err(Failure::new(Exit::Failure, format!("1 problem in {}", short(&cluster.name)))),
        count => Err(Failure::new(Exit::Failure, format!("{count} problems in {}", short(&cluster.name)))),
    }
}

fn millis(duration: Option<&Duration>) -> String {
    duration.map_or_else(
        || "unknown".to_owned(),
        |duration| format!("{} ms", duration.seconds.saturating_mul(1_000).saturating_add(i64::from(duration.nanos / 1_000_000))),
    )
}

fn words(preflight: &Preflight) -> String {
    let Preflight { kubernetes_version, api_groups, crds, gpu_stack_present, clock_offset, api_round_trip, problems } = preflight;
    let mut text = format!(
        "Kubernetes:      {kubernetes_version}\n\
         GPU stack:       {}\n\
         Clock offset:    {}\n\
         API round trip:  {}\n",
        if *gpu_stack_present { "present" } else { "absent" },
        millis(clock_offset.as_ref()),
        millis(api_round_trip.as_ref()),
    );
    for (title, groups) in [("API groups", api_groups), ("Definitions", crds)] {
        if !groups.is_empty() {
            text.push_str(&format!("{title}:\n"));
        }
        for group in groups {
            let name = if group.name.is_empty() { "core" } else { &group.name };
            text.push_str(&format!("  {name} {}\n", group.versions.join(", ")));
        }
    }
    match problems.is_empty() {
        true => text.push_str("Problems:        none\n"),
        false => text.push_str("Problems:\n"),
    }
    for problem in problems {
        text.push_str(&format!("  - {problem}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_proto::agent::v1::ApiGroup;

    #[test]
    fn a_preflight_lists_versions_and_problems() {
        let group = |name: &str| ApiGroup { name: name.to_owned(), versions: vec!["v1".to_owned()] };
        let preflight = Preflight {
            kubernetes_version: "v1.37.2".to_owned(),
            api_groups: vec![group(""), group("apps")],
            clock_offset: Some(Duration { seconds: -2, nanos: -500_000_000 }),
            problems: vec!["jobs.batch.volcano.sh is missing".to_owned()],
            ..Preflight::default()
        };
        let expected = "\
Kubernetes:      v1.37.2
GPU stack:       absent
Clock offset:    -2500 ms
API round trip:  unknown
API groups:
  core v1
  apps v1
Problems:
  - jobs.batch.volcano.sh is missing
";
        assert_eq!(words(&preflight), expected);
    }
}
