//! Releases and their differences in words.

use crate::{
    kinds::{short, short_commit},
    output::{Table, human, table::Titles},
};
use jiff::Timestamp;
use muster_proto::rollout::v1::{
    Application, DiffReleaseResponse, Measurement, ObjectDiff, Release, TargetDiff, TargetStatus, measurement, release,
};

/// How a release stands: itself, its targets by wave, what its gates measured.
pub fn status(application: Option<&Application>, release: &Release, now: Timestamp) -> String {
    let mut text = String::new();
    let mut line = |title: &str, value: String| {
        if !value.is_empty() {
            text.push_str(&format!("{:<13}{value}\n", format!("{title}:")));
        }
    };
    if let Some(application) = application {
        let saying = human::saying(application.state().as_str_name(), &application.reason);
        line("Application", format!("{} ({saying})", short(&application.name)));
    }
    line("Release", short(&release.name));
    line("Commit", format!("{} {}", short_commit(&release.commit), release.title).trim().to_owned());
    line("Model", short(&release.model_version));
    line("State", human::saying(release.state().as_str_name(), &release.reason));
    let lane = if release.fast_lane { ", fast lane: no soak, no gate" } else { "" };
    line("Wave", format!("{} of {}{lane}", release.wave, release.wave_count));
    line("Took", human::span(release.create_time.as_ref(), release.finish_time.as_ref(), now));
    if release.revert() != release::Revert::Unspecified {
        let revert = human::state(release.revert().as_str_name().trim_start_matches("REVERT_"));
        line("Revert", format!("{revert} {}", short_commit(&release.revert_commit)).trim().to_owned());
    }
    for warning in &release.warnings {
        line("Warning", warning.clone());
    }
    if !release.targets.is_empty() {
        text.push_str(&targets(&release.targets, now));
    }
    if !release.measurements.is_empty() {
        text.push_str(&measurements(&release.measurements, now));
    }
    text
}

fn targets(targets: &[TargetStatus], now: Timestamp) -> String {
    let mut table = Table::new(["WAVE", "CLUSTER", "STATE", "WEIGHT", "FOR", "REASON"]);
    let mut sorted: Vec<_> = targets.iter().collect();
    sorted.sort_by_key(|target| (target.wave, &target.cluster));
    for target in sorted {
        table.row([
            target.wave.to_string(),
            short(&target.cluster),
            human::state(target.state().as_str_name()),
            target.weight.map_or_else(String::new, |weight| format!("{weight} %")),
            human::age(target.transition_time.as_ref(), now),
            target.reason.clone(),
        ]);
    }
    table.render(Titles::Shown, 0)
}

/// The newest few: the whole list is in `-o json`.
fn measurements(measurements: &[Measurement], now: Timestamp) -> String {
    const SHOWN: usize = 10;
    let mut table = Table::new(["GATE", "CLUSTER", "VALUE", "AGO", "REASON"]);
    for measurement in &measurements[measurements.len().saturating_sub(SHOWN)..] {
        let verdict = match measurement.verdict() {
            measurement::Verdict::Unspecified => "",
            measurement::Verdict::Pass => "pass",
            measurement::Verdict::Fail => "FAIL",
            measurement::Verdict::Inconclusive => "no verdict",
        };
        table.row([
            format!("wave {}: {verdict}", measurement.wave),
            short(&measurement.cluster),
            measurement.value.map_or_else(String::new, |value| format!("{value:.4}")),
            human::age(measurement.time.as_ref(), now),
            measurement.reason.clone(),
        ]);
    }
    table.render(Titles::Shown, 0)
}

/// What a commit would change, target by target.
pub fn diff(answer: &DiffReleaseResponse) -> String {
    let mut text = format!("commit {}\n", answer.commit);
    for TargetDiff { cluster, added, changed, removed, missing, problem } in &answer.targets {
        text.push_str(&format!("\n== {}\n", short(cluster)));
        if !problem.is_empty() {
            text.push_str(&format!("cannot be rendered: {problem}\n"));
            continue;
        }
        for line in missing {
            text.push_str(&format!("! missing there: {line}\n"));
        }
        for object in added {
            text.push_str(&format!("+ {object}\n"));
        }
        for object in removed {
            text.push_str(&format!("- {object}\n"));
        }
        for ObjectDiff { object, diff } in changed {
            text.push_str(&format!("~ {object}\n"));
            for line in diff.trim_end().lines() {
                text.push_str(&format!("    {line}\n"));
            }
        }
        if added.is_empty() && removed.is_empty() && changed.is_empty() {
            text.push_str("nothing changes\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_proto::rollout::v1::target_status;

    #[test]
    fn a_release_shows_its_targets_by_wave() {
        let target = |cluster: &str, wave, state: target_status::State, weight| TargetStatus {
            cluster: format!("clusters/{cluster}"),
            wave,
            state: state.into(),
            weight,
            ..TargetStatus::default()
        };
        let release = Release {
            name: "namespaces/ml/applications/web/releases/r-7".to_owned(),
            commit: "0123456789abcdef".to_owned(),
            title: "resnet50 v3".to_owned(),
            state: release::State::Progressing.into(),
            wave: 2,
            wave_count: 3,
            targets: vec![
                target("serve-online", 2, target_status::State::Progressing, Some(10)),
                target("edge-01", 1, target_status::State::Healthy, None),
            ],
            measurements: vec![Measurement {
                cluster: "clusters/edge-01".to_owned(),
                wave: 1,
                value: Some(0.998),
                verdict: measurement::Verdict::Pass.into(),
                ..Measurement::default()
            }],
            ..Release::default()
        };
        let expected = "\
Release:     ml/web/r-7
Commit:      0123456789 resnet50 v3
State:       Progressing
Wave:        2 of 3
WAVE   CLUSTER        STATE         WEIGHT   FOR   REASON
1      edge-01        Healthy
2      serve-online   Progressing   10 %
GATE           CLUSTER   VALUE    AGO   REASON
wave 1: pass   edge-01   0.9980
";
        assert_eq!(status(None, &release, Timestamp::UNIX_EPOCH), expected);
    }

    #[test]
    fn a_diff_says_what_comes_goes_changes_and_is_missing() {
        let target = TargetDiff {
            cluster: "clusters/edge-01".to_owned(),
            added: vec!["ConfigMap ml/b".to_owned()],
            removed: vec!["ConfigMap ml/a".to_owned()],
            changed: vec![ObjectDiff { object: "Deployment ml/web".to_owned(), diff: "-image: v2\n+image: v3\n".to_owned() }],
            missing: vec!["1 GPU".to_owned()],
            problem: String::new(),
        };
        let broken =
            TargetDiff { cluster: "clusters/edge-02".to_owned(), problem: "no such path".to_owned(), ..TargetDiff::default() };
        let answer = DiffReleaseResponse { commit: "abc".to_owned(), targets: vec![target, broken] };
        let expected = "\
commit abc

== edge-01
! missing there: 1 GPU
+ ConfigMap ml/b
- ConfigMap ml/a
~ Deployment ml/web
    -image: v2
    +image: v3

== edge-02
cannot be rendered: no such path
";
        assert_eq!(diff(&answer), expected);
    }
}
