//! A number of clusters, or a share of them, as Open Cluster Management and Kubernetes write it: `3` or `25%`.

use serde::Deserialize;

/// A count or a percentage of a wave's targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proportion {
    /// So many targets.
    Count(u32),
    /// 0 to 100 of a hundred targets.
    Percent(u32),
}

impl Proportion {
    /// Of `total` targets, a share rounded up: 25 % of 3 are 1. Used where the number lets work go on.
    pub fn of_rounded_up(self, total: usize) -> usize {
        match self {
            Self::Count(count) => (count as usize).min(total),
            Self::Percent(percent) => (total * percent as usize).div_ceil(100),
        }
    }

    /// Of `total` targets, a share rounded down: 25 % of 3 are 0. Used where the number tolerates failures.
    pub fn of_rounded_down(self, total: usize) -> usize {
        match self {
            Self::Count(count) => (count as usize).min(total),
            Self::Percent(percent) => total * percent as usize / 100,
        }
    }
}

impl std::fmt::Display for Proportion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// A proportion before it is checked: a number, or a text such as `25%`.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum RawProportion {
    Number(i64),
    Text(String),
}

impl RawProportion {
    /// The proportion meant, or an error that names `field`.
    pub(super) fn check(&self, field: &str) -> Result<Proportion, super::SpecError> {
        let refuse = |shown: &str| {
            super::SpecError::new(field, format!("{shown} is neither a count such as 3 nor a percentage such as 25%"))
        };
        match self {
            Self::Number(number) => u32::try_from(*number).map(Proportion::Count).map_err(|_| refuse(&number.to_string())),
            Self::Text(text) => match text.strip_suffix('%') {
                Some(digits) => match digits.parse::<u32>() {
                    Ok(percent) if percent <= 100 => Ok(Proportion::Percent(percent)),
                    _ => Err(refuse(text)),
                },
                None => text.parse().map(Proportion::Count).map_err(|_| refuse(text)),
            },
        }
    }
}
