//! The table at the end: what happened, what was checked, how long it took.

use std::time::Duration;

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
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
}

/// The table as text.
pub fn render(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.title.chars().count()).max().unwrap_or(0);
    let mut text = format!("{:>4}  {:width$}  {:>7}  what was checked\n", "step", "", "took");
    for row in rows {
        let lines = match &row.outcome {
            Outcome::True(checked) => checked.clone(),
            Outcome::False(problem) => vec![format!("NOT TRUE: {problem}")],
        };
        let took = format!("{:.1} s", row.took.as_secs_f64());
        let mut lines = lines.iter();
        let first = lines.next().map_or("", String::as_str);
        text.push_str(&format!("{:>4}  {:width$}  {took:>7}  {first}\n", row.number, row.title));
        for line in lines {
            text.push_str(&format!("{:>4}  {:width$}  {:>7}  {line}\n", "", "", ""));
        }
    }
    text
}
