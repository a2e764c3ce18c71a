//! Keyset paging (AIP-158): a token is where the last page ended and what was asked for.
//!
//! A token that comes back with another filter is refused, since the pages would not fit together.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Rows of a page when the caller names no size.
pub const DEFAULT_SIZE: usize = 50;
/// Rows of a page at most; a larger size asked for is lowered to it, as AIP-158 says.
pub const MAX_SIZE: usize = 1_000;

/// One page asked for: rows after `after`, in key order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The last key of the page before; empty for the first page.
    pub after: String,
    /// How many rows, 1 to [`MAX_SIZE`].
    pub size: usize,
    filter: String,
}

/// Why a page cannot be given.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PageError {
    /// `page_size` below zero.
    #[error("page_size: must not be negative")]
    NegativeSize,
    /// Not a token that we gave.
    #[error("page_token: not a token of this list")]
    BadToken,
    /// A token of the same list under another filter.
    #[error("page_token: was given for another filter")]
    OtherFilter,
}

#[derive(Serialize, Deserialize)]
struct Token {
    after: String,
    filter: String,
}

impl Page {
    /// Reads a request's size and token; `filter` is everything else of the request that chooses rows.
    pub fn parse(size: i32, token: &str, filter: &str) -> Result<Self, PageError> {
        let size = match usize::try_from(size).map_err(|_| PageError::NegativeSize)? {
            0 => DEFAULT_SIZE,
            size => size.min(MAX_SIZE),
        };
        let filter = hex::encode(&Sha256::digest(filter)[..8]);
        if token.is_empty() {
            return Ok(Self { after: String::new(), size, filter });
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| PageError::BadToken)?;
        let token: Token = serde_json::from_slice(&bytes).map_err(|_| PageError::BadToken)?;
        if token.filter != filter {
            return Err(PageError::OtherFilter);
        }
        Ok(Self { after: token.after, size, filter })
    }

    /// How many rows to read: one more than the page, to know whether another follows.
    pub fn limit(&self) -> i64 {
        self.size as i64 + 1
    }

    /// Cuts the surplus row off and gives the token of the next page, empty after the last.
    pub fn finish<T>(&self, rows: &mut Vec<T>, key: impl Fn(&T) -> String) -> String {
        if rows.len() <= self.size {
            return String::new();
        }
        rows.truncate(self.size);
        let after = rows.last().map(key).unwrap_or_default();
        let token = Token { after, filter: self.filter.clone() };
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).expect("two strings always serialise"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_pages_walk_a_list_to_its_end() {
        let all: Vec<String> = ('a'..='e').map(String::from).collect();
        let (mut token, mut seen) = (String::new(), vec![]);
        for _ in 0..3 {
            let page = Page::parse(2, &token, "").expect("a page");
            let rows = all.iter().filter(|key| **key > page.after).take(page.size + 1);
            let mut rows: Vec<String> = rows.cloned().collect();
            token = page.finish(&mut rows, Clone::clone);
            seen.push(rows);
        }
        assert_eq!(seen, [vec!["a", "b"], vec!["c", "d"], vec!["e"]]);
        assert_eq!(token, "");
    }

    #[test]
    fn a_token_is_refused_under_another_filter() {
        let page = Page::parse(1, "", "queue=a").expect("a page");
        let token = page.finish(&mut vec!["x", "y"], |key| (*key).to_owned());
        assert_eq!(Page::parse(1, &token, "queue=b"), Err(PageError::OtherFilter));
        assert_eq!(Page::parse(1, "nonsense", ""), Err(PageError::BadToken));
        assert_eq!(Page::parse(-1, "", ""), Err(PageError::NegativeSize));
    }
}
