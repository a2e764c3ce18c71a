//! `muster policy test`: Kyverno's test files, judged here. A row passes only where a rule answers as it is expected.

use super::super::App;
use crate::{
    error::{Exit, Failure, Result},
    output::{Format, Table, format::text, table::Titles},
};
use muster_policy_evaluator::conformance::{Row, RowVerdict, SuiteError, SuiteRun, find_suites, run_suites};
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use serde_json::{Value, json};
use std::{path::PathBuf, thread};

const EXAMPLES: &str = "\
A row passes only where a rule answers, and answers as the file expects; no answer is a failure. Exit status 1 where a row
or a suite fails.

Examples:
  muster policy test policies/
  muster policy test policies/require-labels/.kyverno-test/kyverno-test.yaml --fail-only
  muster policy test policies/ -o junit";

/// Run the kyverno-test.yaml of files and folders, a table per suite
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Test files, and folders with everything below them
    #[arg(required = true, value_name = "PATH")]
    path: Vec<PathBuf>,
    /// Show only rows that fail
    #[arg(long)]
    fail_only: bool,
}

/// Runs it.
pub fn run(args: &Args, app: &App) -> Result<()> {
    let mut suites = Vec::new();
    for path in &args.path {
        suites.extend(find_suites(path).map_err(|error| Failure::usage(error.to_string()))?);
    }
    suites.sort();
    suites.dedup();
    let runs = run_suites(&suites, jiff::Timestamp::now(), thread::available_parallelism().map_or(1, usize::from));
    let (rows, failed) = count(&runs);
    match app.printer.format {
        Format::Table | Format::Wide => {
            text(&shown(&runs, args.fail_only, app.printer.titles))?;
            let suites = runs.len();
            eprintln!("{} of {rows} rows pass; suites: {suites}", rows - failed);
        }
        Format::Json | Format::Yaml | Format::Name => app.printer.value(&value(&runs))?,
        Format::Junit => text(&junit(&runs)?)?,
        Format::Sarif => return Err(Failure::usage("-o sarif is for `muster policy check`")),
    }
    match failed {
        0 => Ok(()),
        1 => Err(Failure::new(Exit::Failure, "1 row fails")),
        count => Err(Failure::new(Exit::Failure, format!("{count} rows fail"))),
    }
}

/// All rows and those that fail; a suite that cannot be run is one row that fails.
fn count(runs: &[SuiteRun]) -> (usize, usize) {
    runs.iter().fold((0, 0), |(all, failed), run| match &run.rows {
        Ok(rows) => (all + rows.len(), failed + rows.iter().filter(|row| row.verdict != RowVerdict::Passed).count()),
        Err(_) => (all + 1, failed + 1),
    })
}

/// How a row ended, in a word, and why.
fn ended(verdict: &RowVerdict) -> (&'static str, &str) {
    match verdict {
        RowVerdict::Passed => ("pass", ""),
        RowVerdict::Failed(reason) => ("FAIL", reason),
        RowVerdict::NotEvaluated(reason) => ("NOT EVALUATED", reason),
        RowVerdict::LeftOut(reason) => ("NO ANSWER", reason),
    }
}

fn shown(runs: &[SuiteRun], fail_only: bool, titles: Titles) -> String {
    let mut shown = String::new();
    for run in runs {
        let is_shown = |row: &&Row| !fail_only || row.verdict != RowVerdict::Passed;
        let heading = match &run.rows {
            Ok(rows) if rows.iter().any(|row| is_shown(&row)) => {
                let passed = rows.iter().filter(|row| row.verdict == RowVerdict::Passed).count();
                format!("{}: {passed} of {} pass\n", run.file.display(), rows.len())
            }
            Ok(rows) if rows.is_empty() => format!("{}: expects nothing\n", run.file.display()),
            Ok(_) => continue,
            Err(error) => format!("{}: cannot be run: {error}\n", run.file.display()),
        };
        shown.push_str(&heading);
        let mut table = Table::new(["RESULT", "POLICY", "RULE", "RESOURCE", "EXPECTED", "REASON"]);
        for row in run.rows.iter().flatten().filter(is_shown) {
            let Row { policy, rule, resource, body: _, expected, verdict } = row;
            let (result, reason) = ended(verdict);
            table.row([result, policy, rule, resource, expected, reason]);
        }
        if !table.is_empty() {
            shown.push_str(&table.render(titles, 2));
        }
        shown.push('\n');
    }
    shown
}

fn value(runs: &[SuiteRun]) -> Value {
    let row = |row: &Row| {
        let Row { policy, rule, resource, body, expected, verdict } = row;
        let (result, reason) = ended(verdict);
        json!({
            "policy": policy, "rule": rule, "resource": resource, "body": body, "expected": expected,
            "result": result.to_lowercase(), "reason": reason,
        })
    };
    let suite = |run: &SuiteRun| {
        let file = run.file.display().to_string();
        match &run.rows {
            Ok(rows) => json!({"suite": file, "rows": rows.iter().map(row).collect::<Vec<_>>()}),
            Err(error) => json!({"suite": file, "rows": [], "problem": error.to_string()}),
        }
    };
    let (rows, failed) = count(runs);
    json!({"passed": rows - failed, "failed": failed, "suites": runs.iter().map(suite).collect::<Vec<_>>()})
}

fn junit(runs: &[SuiteRun]) -> Result<String> {
    let mut report = Report::new("muster policy test");
    for run in runs {
        let mut suite = TestSuite::new(run.file.display().to_string());
        match &run.rows {
            Ok(rows) => suite.add_test_cases(rows.iter().map(test_case)),
            Err(error) => suite.add_test_case(broken(error)),
        };
        report.add_test_suite(suite);
    }
    report.to_string().map_err(|error| Failure::new(Exit::Failure, format!("cannot be written as JUnit: {error}")))
}

fn test_case(row: &Row) -> TestCase {
    let Row { policy, rule, resource, body: _, expected, verdict } = row;
    let status = match ended(verdict) {
        ("pass", _) => TestCaseStatus::success(),
        (word, reason) => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_type(word.to_lowercase()).set_message(reason);
            status
        }
    };
    let mut case = TestCase::new(format!("{rule} on {resource}: {expected}"), status);
    case.set_classname(policy.as_str());
    case
}

fn broken(error: &SuiteError) -> TestCase {
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
    status.set_message(error.to_string());
    TestCase::new("the suite", status)
}
