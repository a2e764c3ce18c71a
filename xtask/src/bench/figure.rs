//! What was measured, for people and for programs.

use anyhow::Result;
use serde::Serialize;

/// One measurement.
#[derive(Debug, Serialize)]
pub struct Figure {
    /// What was measured.
    pub what: String,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
}

/// A span of time, from seconds.
pub fn millis(what: impl Into<String>, seconds: f64) -> Figure {
    Figure { what: what.into(), value: seconds * 1e3, unit: "ms" }
}

/// Resident memory, from kibibytes.
pub fn mebibytes(what: impl Into<String>, kibibytes: u64) -> Figure {
    Figure { what: what.into(), value: kibibytes as f64 / 1024.0, unit: "MiB" }
}

/// Prints them: a table, or JSON.
///
/// # Errors
/// None that is known: every figure is JSON.
pub fn print(figures: &[Figure], as_json: bool) -> Result<()> {
    if as_json {
        println!("{}", serde_json::to_string_pretty(figures)?);
        return Ok(());
    }
    println!();
    let width = figures.iter().map(|figure| figure.what.chars().count()).max().unwrap_or(0);
    for Figure { what, value, unit } in figures {
        println!("{what:width$}  {value:>9.1} {unit}");
    }
    Ok(())
}
