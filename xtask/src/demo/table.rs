//! The table at the end: what happened, what was checked, how long it took.

use std::time::Duration;

use muster_integration_tests::main_job::Cause;

/// How a step ended.
pub enum Outcome {
    /// Every check was true; what was checked.
    True(Vec<String>),
    /// The first check that was not.
    False(String),
}

/// One step.
pub struct Row {
    /// From 1; 0 is the setting up.
    pub number: u8,
    /// What it is about.
    pub title: &'static str,
    /// How it was played.
    pub cause: Cause,
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
}

impl Row {
    /// It failed, or it did not although its cause was broken.
    pub fn is_unexpected(&self) -> bool {
        matches!(self.outcome, Outcome::False(_)) != (self.cause == Cause::Broken)
    }
}

/// How a step is played, in words that follow its number.
pub fn how(cause: Cause) -> &'static str {
    match cause {
        Cause::Whole => "",
        Cause::Broken => ", its cause broken",
        Cause::Mended => ", its cause mended",
    }
}

/// The table as text.
pub fn render(rows: &[Row]) -> String {
    let titles: Vec<String> = rows.iter().map(|row| format!("{}{}", row.title, how(row.cause))).collect();
    let width = titles.iter().map(|title| title.chars().count()).max().unwrap_or(0);
    let mut text = format!("{:>4}  {:width$}  {:>7}  what was checked\n", "step", "", "took");
    for (row, title) in rows.iter().zip(titles) {
        let lines = match &row.outcome {
            Outcome::True(checked) => checked.clone(),
            Outcome::False(problem) => format!("NOT TRUE: {problem}").lines().map(str::to_owned).collect(),
        };
        let took = format!("{:.1} s", row.took.as_secs_f64());
        let mut lines = lines.iter();
        let first = lines.next().map_or("", String::as_str);
        text.push_str(&format!("{:>4}  {title:width$}  {took:>7}  {first}\n", row.number));
        for line in lines {
            text.push_str(&format!("{:>4}  {:width$}  {:>7}  {line}\n", "", "", ""));
        }
    }
    text
}
