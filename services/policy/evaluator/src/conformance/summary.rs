//! Rows counted by folder and by what their rules are made of.

use super::{Row, RowVerdict, SuiteError};
use std::{collections::BTreeMap, fmt};

/// Rows by how they ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// The expected answer was given.
    pub passed: usize,
    /// A wrong answer, or none.
    pub failed: usize,
    /// Rules this evaluator does not judge.
    pub not_evaluated: usize,
    /// Rows nothing can answer, and suites with a file missing.
    pub left_out: usize,
}

impl Tally {
    fn count(&mut self, verdict: &RowVerdict) {
        match verdict {
            RowVerdict::Passed => self.passed += 1,
            RowVerdict::Failed(_) => self.failed += 1,
            RowVerdict::NotEvaluated(_) => self.not_evaluated += 1,
            RowVerdict::LeftOut(_) => self.left_out += 1,
        }
    }
}

/// What a run over many suites found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Suites that were run.
    pub suites: usize,
    /// All rows.
    pub total: Tally,
    /// By folder.
    pub folders: BTreeMap<String, Tally>,
    /// By what the rules are made of.
    pub bodies: BTreeMap<String, Tally>,
    /// Reasons for not evaluating, and how many rows each has.
    pub reasons: BTreeMap<String, usize>,
    /// Each failed row, and each suite that could not be read, with its place.
    pub failures: Vec<String>,
    /// Each row and suite that was left out, with its place.
    pub left_out: Vec<String>,
}

impl Summary {
    /// Counts a suite's rows under its folder.
    pub fn add(&mut self, folder: &str, suite: &str, rows: &[Row]) {
        self.suites += 1;
        let by_folder = self.folders.entry(folder.to_owned()).or_default();
        for row in rows {
            self.total.count(&row.verdict);
            by_folder.count(&row.verdict);
            self.bodies.entry(row.body.clone()).or_default().count(&row.verdict);
            let Row { policy, rule, resource, .. } = row;
            match &row.verdict {
                RowVerdict::Passed => {}
                RowVerdict::NotEvaluated(reason) => *self.reasons.entry(reason.clone()).or_default() += 1,
                RowVerdict::Failed(reason) => self.failures.push(format!("{suite}: {policy}/{rule} on {resource}: {reason}")),
                RowVerdict::LeftOut(reason) => self.left_out.push(format!("{suite}: {policy}/{rule} on {resource}: {reason}")),
            }
        }
    }

    /// Counts a suite that could not be run as one row: left out where a file of it is missing, else failed.
    pub fn add_unreadable(&mut self, folder: &str, suite: &str, error: &SuiteError) {
        self.suites += 1;
        let by_folder = self.folders.entry(folder.to_owned()).or_default();
        let (list, verdict) = match error {
            SuiteError::MissingFile(_) => (&mut self.left_out, RowVerdict::LeftOut(String::new())),
            SuiteError::Malformed(_) => (&mut self.failures, RowVerdict::Failed(String::new())),
        };
        list.push(format!("{suite}: {error}"));
        self.total.count(&verdict);
        by_folder.count(&verdict);
    }

    /// Whether nothing failed and something passed: a run that checks nothing is no success.
    pub fn is_success(&self) -> bool {
        self.total.failed == 0 && self.total.passed > 0
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |f: &mut fmt::Formatter<'_>, name: &str, tally: &Tally| {
            let Tally { passed, failed, not_evaluated, left_out } = tally;
            writeln!(f, "{name:<32} {passed:>7} {failed:>7} {not_evaluated:>14} {left_out:>9}")
        };
        for (title, tallies) in [("folder", &self.folders), ("rule body", &self.bodies)] {
            writeln!(f, "{title:<32} {:>7} {:>7} {:>14} {:>9}", "passed", "failed", "not evaluated", "left out")?;
            for (name, tally) in tallies {
                line(f, name, tally)?;
            }
            writeln!(f)?;
        }
        line(f, &format!("all rows of {} suites", self.suites), &self.total)?;
        if !self.reasons.is_empty() {
            writeln!(f, "\nnot evaluated, by reason")?;
            for (reason, rows) in &self.reasons {
                writeln!(f, "{rows:>7}  {reason}")?;
            }
        }
        for (title, list) in [("left out", &self.left_out), ("failed", &self.failures)] {
            if !list.is_empty() {
                writeln!(f, "\n{title}")?;
                list.iter().try_for_each(|entry| writeln!(f, "  {entry}"))?;
            }
        }
        Ok(())
    }
}
