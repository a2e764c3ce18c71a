//! Ranges of semantic versions, as `semver_compare` and numeric conditions read them.

pub use crate::cel::Version;
use std::cmp::Ordering;

/// Comparisons of one range, at most.
const MAX_COMPARISONS: usize = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    Less,
    LessOrEqual,
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
}

/// Alternatives (`||`) of comparisons that all have to hold, as `>=1.2.0 <2.0.0 || 3.x`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range(Vec<Vec<(Sign, Version)>>);

impl Range {
    /// Reads a range; `None` where it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let mut alternatives = Vec::new();
        for part in text.split("||") {
            let mut comparisons = Vec::new();
            for word in joined(part) {
                comparisons.extend(comparison(&word)?);
            }
            if comparisons.is_empty() || comparisons.len() > MAX_COMPARISONS {
                return None;
            }
            alternatives.push(comparisons);
        }
        (alternatives.len() <= MAX_COMPARISONS).then_some(Self(alternatives))
    }

    /// Whether a version is in it. What is no version counts as `0.0.0`.
    pub fn contains(&self, version: &str) -> bool {
        let version = Version::parse(version).or_else(|| Version::parse("0.0.0"));
        let Some(version) = version else { return false };
        self.0.iter().any(|comparisons| comparisons.iter().all(|(sign, bound)| sign.holds(version.cmp(bound))))
    }
}

impl Sign {
    fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
        }
    }
}

/// The words of a part, a sign that stands alone joined to what follows.
fn joined(part: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for word in part.split_whitespace() {
        match words.last_mut() {
            Some(last) if last.chars().all(|c| "<>=!".contains(c)) => last.push_str(word),
            _ => words.push(word.to_owned()),
        }
    }
    words
}

fn comparison(word: &str) -> Option<Vec<(Sign, Version)>> {
    let signs = [
        (">=", Sign::GreaterOrEqual),
        ("<=", Sign::LessOrEqual),
        ("!=", Sign::NotEqual),
        ("==", Sign::Equal),
        (">", Sign::Greater),
        ("<", Sign::Less),
        ("!", Sign::NotEqual),
        ("=", Sign::Equal),
    ];
    let found = signs.iter().find_map(|(text, sign)| word.strip_prefix(text).map(|rest| (*sign, rest)));
    let (sign, text) = found.unwrap_or((Sign::Equal, word));
    let wild = text.split('.').position(|part| matches!(part, "x" | "X" | "*"));
    let Some(wild) = wild else { return Some(vec![(sign, Version::parse(text)?)]) };
    let numbers: Vec<u64> = text.split('.').take(wild).map(str::parse).collect::<Result<_, _>>().ok()?;
    let version = |numbers: &[u64]| {
        let mut parts = numbers.iter().chain(std::iter::repeat(&0)).take(3).map(u64::to_string);
        Version::parse(&[parts.next()?, parts.next()?, parts.next()?].join("."))
    };
    let low = version(&numbers)?;
    let Some((last, rest)) = numbers.split_last() else { return Some(vec![(Sign::GreaterOrEqual, low)]) };
    let next = version(&[rest, &[last.checked_add(1)?]].concat())?;
    Some(match sign {
        Sign::Equal => vec![(Sign::GreaterOrEqual, low), (Sign::Less, next)],
        Sign::Greater => vec![(Sign::GreaterOrEqual, next)],
        Sign::LessOrEqual => vec![(Sign::Less, next)],
        Sign::Less | Sign::GreaterOrEqual => vec![(sign, low)],
        // Outside of both ends cannot be said by comparisons that all hold.
        Sign::NotEqual => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_what_they_say() {
        for (range, version, expected) in [
            (">=1.2.0 <2.0.0", "1.9.9", true),
            (">=1.2.0 <2.0.0", "2.0.0", false),
            ("<1.0.0 || >=2.0.0", "2.1.0", true),
            ("1.x", "1.4.2", true),
            ("1.2.x", "1.3.0", false),
            (">1.x", "2.0.0", true),
            ("!=1.0.0", "1.0.0", false),
            ("> 1.0.0", "1.0.1", true),
            ("<1.0.0", "none", true),
            ("1.0.0", "1.0.0-beta.1", false),
        ] {
            assert_eq!(Range::parse(range).expect("a range").contains(version), expected, "{range} {version}");
        }
        for wrong in ["", "a", ">=", "1.2", "!=1.x", "|| 1.0.0"] {
            assert_eq!(Range::parse(wrong), None, "{wrong:?}");
        }
    }
}
