//! Kyverno's own program, asked the same.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// How many differences are shown.
const SHOWN: usize = 20;

/// Policy, rule, `Kind name` of the object and outcome, as Kyverno's report has them.
pub type Verdict = (String, String, String, String);

/// What the program at `program` says of the objects in a file.
pub fn ask(program: &Path, policies: &[PathBuf], objects: &Path) -> Result<BTreeSet<Verdict>> {
    let output = Command::new(program)
        .arg("apply")
        .args(policies)
        .arg("--resource")
        .arg(objects)
        .args(["--policy-report", "--output-format", "json"])
        .stdin(Stdio::null())
        .output()
        .with_context(|| program.display().to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let Some(start) = text.find("{\n").or_else(|| text.find("{\"")) else {
        bail!("no report: {}", String::from_utf8_lossy(&output.stderr))
    };
    let report: Value = serde_json::from_str(&text[start..]).context("Kyverno's report")?;
    let mut verdicts = BTreeSet::new();
    for result in report["results"].as_array().into_iter().flatten() {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        for resource in result["resources"].as_array().into_iter().flatten() {
            let object = format!("{} {}", text(&resource["kind"]), text(&resource["name"]));
            verdicts.insert((text(&result["policy"]), text(&result["rule"]), object, text(&result["result"])));
        }
    }
    ensure!(!verdicts.is_empty(), "Kyverno judged nothing: {}", String::from_utf8_lossy(&output.stderr));
    Ok(verdicts)
}

/// Every verdict of theirs has to be one of ours, and the other way round; what nobody judged here is not asked.
pub fn compare(ours: &BTreeSet<Verdict>, theirs: &BTreeSet<Verdict>) -> Result<()> {
    let unjudged: BTreeSet<_> = ours.iter().filter(|verdict| verdict.3 == "not evaluated").map(question).collect();
    let differing: Vec<&Verdict> =
        ours.symmetric_difference(theirs).filter(|verdict| !unjudged.contains(&question(verdict))).collect();
    for verdict in differing.iter().take(SHOWN) {
        let whose = if ours.contains(*verdict) { "here" } else { "Kyverno" };
        let (policy, rule, object, outcome) = verdict;
        println!("    {policy}/{rule} on {object}: {outcome} ({whose} only)");
    }
    ensure!(differing.is_empty(), "{} verdicts differ", differing.len());
    match unjudged.len() {
        0 => println!("    every verdict is the same"),
        count => println!("    every verdict is the same; {count} are not judged here"),
    }
    Ok(())
}

fn question(verdict: &Verdict) -> (&str, &str, &str) {
    (&verdict.0, &verdict.1, &verdict.2)
}
