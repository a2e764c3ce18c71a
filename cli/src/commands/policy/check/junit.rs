//! Findings as JUnit's XML: a suite a file, a case a manifest, which fails where something enforced is broken.

use super::{Finding, Verdict};
use crate::{
    documents::Document,
    error::{Exit, Failure, Result},
};
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

/// The whole report. What is only reported stands in a case's output.
pub fn written(verdict: &Verdict, documents: &[Document], places: &[(String, usize)]) -> Result<String> {
    let mut report = Report::new("muster policy check");
    let mut found: Vec<Vec<(&Finding, usize)>> = vec![Vec::new(); documents.len()];
    for (finding, (_, line)) in verdict.findings.iter().zip(places) {
        if let Some(of_document) = found.get_mut(finding.document) {
            of_document.push((finding, *line));
        }
    }
    let mut suites: Vec<TestSuite> = Vec::new();
    for (document, found) in documents.iter().zip(&found) {
        if suites.last().is_none_or(|suite| suite.name.as_str() != document.file) {
            suites.push(TestSuite::new(document.file.as_str()));
        }
        if let Some(suite) = suites.last_mut() {
            suite.add_test_case(case(document, found));
        }
    }
    report.add_test_suites(suites);
    report.to_string().map_err(|error| Failure::new(Exit::Failure, format!("cannot be written as JUnit: {error}")))
}

fn case(document: &Document, found: &[(&Finding, usize)]) -> TestCase {
    let manifest = &document.manifest;
    let name = match manifest.namespace() {
        "" => format!("{} {}", manifest.kind(), manifest.name()),
        namespace => format!("{} {namespace}/{}", manifest.kind(), manifest.name()),
    };
    let line = |(finding, line): &(&Finding, usize)| {
        let Finding { document: _, policy, rule, subject, path, message, enforced: _ } = finding;
        format!("line {line}: {policy}/{rule}: {subject} {path}: {message}")
    };
    let (refused, reported): (Vec<_>, Vec<_>) = found.iter().partition(|(finding, _)| finding.enforced);
    let status = match refused.first() {
        None => TestCaseStatus::success(),
        Some((first, _)) => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_type(format!("{}/{}", first.policy, first.rule)).set_message(first.message.as_str());
            status.set_description(refused.iter().map(line).collect::<Vec<_>>().join("\n"));
            status
        }
    };
    let mut case = TestCase::new(name, status);
    case.set_classname(manifest.api_version());
    if !reported.is_empty() {
        case.set_system_out(reported.iter().map(line).collect::<Vec<_>>().join("\n"));
    }
    case
}
