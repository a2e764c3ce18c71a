//! `cargo run --release -p muster-policy-evaluator --example speed -- POLICIES`: answers a second of the policies in these
//! files and folders over generated Pods, each file's kind of rule by itself. `cargo xtask bench policy` prints the same.

use muster_core::manifest::parse_documents;
use muster_policy_evaluator::{Policy, speed};
use std::{
    collections::BTreeMap,
    error::Error,
    fs,
    path::Path,
    time::{Duration, Instant},
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut policies: BTreeMap<String, Vec<Policy>> = BTreeMap::new();
    for argument in std::env::args().skip(1) {
        read(Path::new(&argument), 0, &mut policies)?;
    }
    let workloads = speed::workloads(3_000);
    let began = Instant::now();
    let all: Vec<Policy> = policies.values().flatten().cloned().collect();
    let answers = speed::answers(&all, &workloads, 2);
    println!("{} answers about 3000 workloads in {:.0?}: {:?}", answers.len(), began.elapsed(), speed::counted(&answers));
    let objects = speed::pods(240);
    let began = Instant::now();
    for (body, policies) in policies {
        let speed = speed::measure(&policies, &objects, 2, Duration::from_secs(2), &|| began.elapsed());
        let (rate, answers, objections) = (speed.per_second(), speed.answers, speed.objections);
        println!("{body:28} {:>3} policies {rate:>12.0}/s  {answers} answers, {objections} no pass", policies.len());
    }
    Ok(())
}

fn read(path: &Path, depth: usize, policies: &mut BTreeMap<String, Vec<Policy>>) -> Result<(), Box<dyn Error>> {
    if path.is_dir() && depth < 8 {
        for entry in fs::read_dir(path)? {
            read(&entry?.path(), depth + 1, policies)?;
        }
    } else if path.extension().is_some_and(|extension| extension == "yaml") {
        for document in parse_documents(&fs::read_to_string(path)?)? {
            if Policy::reads(document.api_version(), document.kind()) {
                let policy = Policy::parse(&document.value)?;
                let body = policy.rules().next().map_or_else(String::new, |(_, body, _)| body.to_string());
                policies.entry(body).or_default().push(policy);
            }
        }
    }
    Ok(())
}
