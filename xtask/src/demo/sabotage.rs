//! Steps whose causes are broken on purpose, and what the whole play amounts to.
//!
//! The one thing to know: a broken step that fails is what is wanted, and the play fails all the same: only a play in which
//! nothing was broken and everything true is a success.

use std::collections::BTreeSet;
use std::str::FromStr;

use anyhow::{Result, bail};
use muster_integration_tests::main_job::{Cause, TITLES};

use super::table::{Outcome, Row};

/// Steps, as in `3`, `3,8` or `all`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Steps(BTreeSet<u8>);

impl Steps {
    pub fn contains(&self, step: u8) -> bool {
        self.0.contains(&step)
    }

    pub fn last(&self) -> u8 {
        *self.0.last().expect("parsed from at least one")
    }
}

impl FromStr for Steps {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = 1..=TITLES.len() as u8;
        if text == "all" {
            return Ok(Self(all.collect()));
        }
        let step = |word: &str| word.trim().parse().ok().filter(|step| all.contains(step));
        let steps: Option<BTreeSet<u8>> = text.split(',').map(step).collect();
        steps.map(Self).ok_or_else(|| format!("{text:?} is neither `all` nor steps from 1 to {}, as in 3,8", TITLES.len()))
    }
}

/// What the play amounts to.
///
/// # Errors
/// A step was not true; or it was, although its cause was broken.
pub fn verdict(rows: &[Row]) -> Result<()> {
    if let Some(Row { number, title, cause, .. }) = rows.iter().find(|row| row.is_unexpected()) {
        match cause {
            Cause::Whole => bail!("step {number} is not true: {title}"),
            Cause::Broken => bail!("step {number} is true although its cause is broken: {title}"),
            Cause::Mended => bail!("step {number} is not true after its cause was mended: {title}"),
        }
    }
    let broken = rows.iter().filter(|row| matches!(row.outcome, Outcome::False(_)));
    let broken: Vec<String> = broken.map(|row| format!("step {} is not true: {}", row.number, row.title)).collect();
    if !broken.is_empty() {
        bail!("with their causes broken\n  {}", broken.join("\n  "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn row(number: u8, cause: Cause, outcome: Outcome) -> Row {
        Row { number, title: "it is so", cause, outcome, took: Duration::ZERO }
    }

    fn yes() -> Outcome {
        Outcome::True(Vec::new())
    }

    fn no() -> Outcome {
        Outcome::False("it is not".to_owned())
    }

    #[test]
    fn steps_are_named_one_by_one_or_all() {
        assert_eq!("8,3".parse(), Ok(Steps(BTreeSet::from([3, 8]))));
        assert_eq!("all".parse::<Steps>().unwrap().last(), 10);
        for wrong in ["", "0", "11", "3,", "three"] {
            assert!(wrong.parse::<Steps>().unwrap_err().contains("from 1 to 10"), "{wrong}");
        }
    }

    #[test]
    fn only_a_play_in_which_everything_was_true_succeeds() {
        assert!(verdict(&[row(1, Cause::Whole, yes())]).is_ok());
        let says = |rows: &[Row]| verdict(rows).unwrap_err().to_string();
        assert!(says(&[row(1, Cause::Whole, no())]).contains("step 1 is not true"));
        assert!(says(&[row(2, Cause::Broken, no()), row(2, Cause::Mended, yes())]).contains("step 2 is not true: "));
        assert!(says(&[row(2, Cause::Broken, yes())]).contains("although"));
        assert!(says(&[row(2, Cause::Broken, no()), row(2, Cause::Mended, no())]).contains("after its cause was mended"));
    }
}
