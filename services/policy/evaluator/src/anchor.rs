//! Anchors: keys of a pattern that say *when* a field counts, such as `=(hostNetwork)` or `X(hostPath)`.
//!
//! The grammar is Kyverno's, `^([+<=X^])?\((.+)\)$` on the trimmed key.

/// What an anchored key asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `(key)`: the pattern beside it applies only where this holds.
    Condition,
    /// `<(key)`: the whole rule applies only where this holds, if the key is there.
    Global,
    /// `X(key)`: the key must be absent.
    Negation,
    /// `=(key)`: checked only where the key is there.
    Equality,
    /// `^(key)`: for each element of the pattern at least one element of the list matches.
    Existence,
    /// `+(key)`: of mutations; in a validation it is an ordinary (and odd) key.
    AddIfAbsent,
}

/// Splits a key into its anchor and the field's name; `None` where the key has no anchor.
pub fn parse(key: &str) -> Option<(Kind, &str)> {
    let key = key.trim();
    let (kind, rest) = match key.as_bytes().first()? {
        b'(' => (Kind::Condition, key),
        b'<' => (Kind::Global, &key[1..]),
        b'X' => (Kind::Negation, &key[1..]),
        b'=' => (Kind::Equality, &key[1..]),
        b'^' => (Kind::Existence, &key[1..]),
        b'+' => (Kind::AddIfAbsent, &key[1..]),
        _ => return None,
    };
    let field = rest.strip_prefix('(')?.strip_suffix(')')?;
    (!field.is_empty() && !field.contains('\n')).then_some((kind, field))
}

/// The same anchor around another field's name.
pub fn rename(key: &str, field: &str) -> String {
    let key = key.trim();
    let modifier = if key.starts_with('(') { "" } else { key.get(..1).unwrap_or_default() };
    format!("{modifier}({field})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_are_read_and_other_keys_are_left_alone() {
        assert_eq!(parse("(image)"), Some((Kind::Condition, "image")));
        assert_eq!(parse("<(image)"), Some((Kind::Global, "image")));
        assert_eq!(parse("X(hostPath)"), Some((Kind::Negation, "hostPath")));
        assert_eq!(parse("=(a.b/c-*)"), Some((Kind::Equality, "a.b/c-*")));
        assert_eq!(parse(" ^(containers) "), Some((Kind::Existence, "containers")));
        assert_eq!(parse("+(x)"), Some((Kind::AddIfAbsent, "x")));
        for plain in ["image", "Xhost", "()", "(a", "a)", "Y(a)", ""] {
            assert_eq!(parse(plain), None, "{plain:?}");
        }
        assert_eq!(rename("=(a-*)", "a-b"), "=(a-b)");
        assert_eq!(rename("(a-*)", "a-b"), "(a-b)");
    }
}
