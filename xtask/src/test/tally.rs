//! What all test programs said together.

use std::time::Duration;

use anyhow::{Result, bail};

/// The sum over all test binaries.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tally {
    passed: u64,
    failed: u64,
    ignored: u64,
    filtered: u64,
    failures: Vec<String>,
    broken: bool,
}

impl Tally {
    /// Takes in a line of a test harness, as in `test name ... FAILED` and
    /// `test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 2 filtered out; finished in 0.12s`.
    pub fn read(&mut self, line: &str) {
        if let Some(name) = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED")) {
            self.failures.push(name.to_owned());
        }
        let Some(counts) = line.strip_prefix("test result: ") else {
            return;
        };
        let counts = counts.split_once(". ").map_or(counts, |(_, counts)| counts);
        for part in counts.split("; ") {
            let Some((number, what)) = part.split_once(' ') else {
                continue;
            };
            let Ok(number) = number.parse::<u64>() else {
                continue;
            };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                "filtered out" => self.filtered += number,
                _ => {}
            }
        }
    }

    /// Takes in that a test program did not build, or ended with an error.
    pub fn broke(&mut self) {
        self.broken = true;
    }

    /// An error where a test failed, or none ran: a filter that matches nothing must not look like success.
    ///
    /// # Errors
    /// As said.
    pub fn verdict(&self) -> Result<()> {
        if self.broken || self.failed > 0 {
            bail!("tests failed");
        }
        if self.passed == 0 {
            bail!("no test ran");
        }
        Ok(())
    }

    /// The summary, last.
    pub fn print(&self, took: Duration) {
        println!();
        if !self.failures.is_empty() {
            println!("failures:");
            for name in &self.failures {
                println!("    {name}");
            }
            println!();
        }
        if self.broken && self.failed == 0 {
            println!("a test binary did not build, or ended before its last test");
        }
        println!(
            "test result: {}. {} passed; {} failed; {} ignored; {} filtered out; finished in {:.1}s",
            if self.broken || self.failed > 0 { "FAILED" } else { "ok" },
            self.passed,
            self.failed,
            self.ignored,
            self.filtered,
            took.as_secs_f64()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::Tally;

    #[test]
    fn the_results_of_all_binaries_are_added_up() {
        let mut tally = Tally::default();
        for line in [
            "test one ... ok",
            "test two ... FAILED",
            "test result: FAILED. 1 passed; 1 failed; 2 ignored; 0 measured; 3 filtered out; finished in 0.01s",
            "something a test printed. 7 passed; not a result",
            "test result: ok. 4 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s",
        ] {
            tally.read(line);
        }
        assert_eq!(
            tally,
            Tally { passed: 5, failed: 1, ignored: 2, filtered: 3, failures: vec!["two".to_owned()], broken: false }
        );
    }
}
