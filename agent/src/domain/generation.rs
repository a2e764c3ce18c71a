//! Whether something the hub says is newer than what the agent holds.
//!
//! The one thing to know: an older generation is refused, and the same generation with other content is a conflict that
//! the hub must settle by raising its incarnation; the agent never guesses which of the two is right.

use muster_core::version::Version;

/// What to do with an item that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// Newer than what is held, or nothing is held: take it.
    Newer,
    /// Exactly what is held: nothing to do.
    Same,
    /// Older than what is held: refuse it.
    Older,
    /// The generation that is held, with other content: report it, keep what is held.
    Conflict,
}

/// Compares an arriving generation and content with those held; `None` where nothing is held.
pub fn arrival<D: PartialEq>(held: Option<(Version, &D)>, generation: Version, content: &D) -> Arrival {
    match held {
        None => Arrival::Newer,
        Some((version, _)) if generation > version => Arrival::Newer,
        Some((version, _)) if generation < version => Arrival::Older,
        Some((_, held)) if held == content => Arrival::Same,
        Some(_) => Arrival::Conflict,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_generation_is_refused_and_a_restored_hub_is_obeyed() {
        let held = Some((Version::new(1, 9), &"a"));
        assert_eq!(arrival(held, Version::new(1, 8), &"b"), Arrival::Older);
        assert_eq!(arrival(held, Version::new(2, 1), &"b"), Arrival::Newer);
    }

    #[test]
    fn one_generation_with_two_contents_is_a_conflict() {
        let held = Some((Version::new(1, 9), &"a"));
        assert_eq!(arrival(held, Version::new(1, 9), &"a"), Arrival::Same);
        assert_eq!(arrival(held, Version::new(1, 9), &"b"), Arrival::Conflict);
        assert_eq!(arrival(None, Version::new(1, 1), &"b"), Arrival::Newer);
    }
}
