//! `*` (any run of characters, also none) and `?` (exactly one), in time bounded by pattern × text.
//!
//! The matcher keeps one place to return to, the last `*`: what an earlier `*` took never has to be taken again, so
//! no pattern makes it explode. Patterns are bounded besides (`policy::MAX_PATTERN_TEXT`).

/// Whether the whole text matches the whole pattern.
pub fn matches(pattern: &str, text: &str) -> bool {
    if pattern == "*" {
        return true;
    }
    if !is_pattern(pattern) {
        return pattern == text;
    }
    if pattern.is_ascii() && text.is_ascii() {
        return units_match(pattern.as_bytes(), text.as_bytes(), b'*', b'?');
    }
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    units_match(&pattern, &text, '*', '?')
}

fn units_match<U: Copy + PartialEq>(pattern: &[U], text: &[U], any: U, one: U) -> bool {
    let (mut at_pattern, mut at_text) = (0, 0);
    // Where the last star stood, and up to where of the text it has taken.
    let mut star: Option<(usize, usize)> = None;
    while at_text < text.len() {
        match pattern.get(at_pattern) {
            Some(&wanted) if wanted == any => {
                star = Some((at_pattern, at_text));
                at_pattern += 1;
            }
            Some(&wanted) if wanted == one || wanted == text[at_text] => {
                at_pattern += 1;
                at_text += 1;
            }
            _ => {
                let Some((star_at, taken)) = star else { return false };
                star = Some((star_at, taken + 1));
                at_pattern = star_at + 1;
                at_text = taken + 1;
            }
        }
    }
    pattern[at_pattern..].iter().all(|&rest| rest == any)
}

/// Whether the text has a wildcard character.
pub fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn stars_and_question_marks_match_as_in_kyverno() {
        let cases = [
            ("*", "", true),
            ("*", "anything", true),
            ("?*", "", false),
            ("?*", "0", true),
            ("?", "ab", false),
            ("", "", true),
            ("", "a", false),
            ("a*b", "ab", true),
            ("a*b", "axxb", true),
            ("a*b", "axxbc", false),
            ("*:*", "nginx:1.27", true),
            ("*:latest", "nginx:latest-1", false),
            ("registry.example.com/*", "registry.example.com/ml/a", true),
            ("??", "äö", true),
            ("*a?c*", "xxabcxx", true),
            ("[a]", "a", false),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(matches(pattern, text), expected, "{pattern:?} against {text:?}");
        }
    }

    #[test]
    fn a_pathological_pattern_ends_at_once() {
        let pattern = format!("{}b", "a*".repeat(1_000));
        let text = "a".repeat(10_000);
        let start = Instant::now();
        assert!(!matches(&pattern, &text));
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}
