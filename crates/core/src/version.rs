//! A version is `(incarnation, n)`, compared in that order.
//!
//! The incarnation is raised when a database turns out to be another one than a peer remembers (a restore, a lossy
//! failover), so that a restored hub is obeyed and not refused for ever.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// The version of a row, a desired item or a projection; older ones are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Version {
    /// Which life of the database gave the number.
    pub incarnation: u64,
    /// Counts up within an incarnation, from 1; 0 means "nothing yet".
    pub n: u64,
}

impl Version {
    /// The version below every other.
    pub const ZERO: Self = Self { incarnation: 0, n: 0 };

    /// A version of the given incarnation and number.
    pub const fn new(incarnation: u64, n: u64) -> Self {
        Self { incarnation, n }
    }

    /// The next version in the same incarnation.
    pub const fn next(self) -> Self {
        Self { incarnation: self.incarnation, n: self.n + 1 }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.incarnation, self.n)
    }
}

/// The text is not `incarnation.n`.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a version is written incarnation.n, as in 1.42")]
pub struct ParseVersionError;

impl FromStr for Version {
    type Err = ParseVersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (incarnation, n) = text.split_once('.').ok_or(ParseVersionError)?;
        Ok(Self {
            incarnation: incarnation.parse().map_err(|_| ParseVersionError)?,
            n: n.parse().map_err(|_| ParseVersionError)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_higher_incarnation_wins_over_any_number() {
        assert!(Version::new(2, 1) > Version::new(1, 9_999));
        assert!(Version::new(1, 2) > Version::new(1, 1));
    }

    #[test]
    fn a_version_reads_back_what_it_prints() {
        let version = Version::new(3, 42);
        assert_eq!(version.to_string().parse(), Ok(version));
        assert_eq!("42".parse::<Version>(), Err(ParseVersionError));
    }
}
