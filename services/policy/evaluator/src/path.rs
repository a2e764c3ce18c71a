//! Where in a document something is, kept as steps: keys such as `nvidia.com/gpu` make a joined text ambiguous.

use std::{fmt, sync::Arc};

/// One step into a document.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// A field of a mapping; shared with the rule that names it.
    Key(Arc<str>),
    /// An element of a list, from 0.
    Index(usize),
}

/// A place in a document. Prints as `spec.containers[0].resources.limits["nvidia.com/gpu"]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Path(Vec<Step>);

impl Path {
    /// The document itself.
    pub const fn root() -> Self {
        Self(Vec::new())
    }

    /// A path from keys that hold no dots, as in `spec.template`.
    pub fn of_keys(dotted: &str) -> Self {
        Self(dotted.split('.').filter(|key| !key.is_empty()).map(|key| Step::Key(key.into())).collect())
    }

    /// One field further.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Key(key.into()));
        Self(steps)
    }

    /// One element further.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Index(index));
        Self(steps)
    }

    /// This path and then another.
    #[must_use]
    pub fn join(&self, rest: &Self) -> Self {
        Self(self.0.iter().chain(&rest.0).cloned().collect())
    }

    /// The path without its last step, if that is this field.
    pub(crate) fn parent_of(&self, key: &str) -> Option<Self> {
        let (last, rest) = self.0.split_last()?;
        matches!(last, Step::Key(last) if &**last == key).then(|| Self(rest.to_vec()))
    }

    /// The steps, outermost first.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// The form of Kyverno's messages: `/spec/containers/0/`.
    pub fn slashed(&self) -> String {
        let mut text = String::new();
        self.write_slashed(&mut text);
        text
    }

    /// As [`Path::slashed`], at the end of a text.
    pub(crate) fn write_slashed(&self, text: &mut String) {
        text.push('/');
        for step in &self.0 {
            match step {
                Step::Key(key) => text.push_str(key),
                Step::Index(index) => text.push_str(&index.to_string()),
            }
            text.push('/');
        }
    }
}

impl From<Vec<Step>> for Path {
    fn from(steps: Vec<Step>) -> Self {
        Self(steps)
    }
}

impl FromIterator<Step> for Path {
    fn from_iter<I: IntoIterator<Item = Step>>(steps: I) -> Self {
        Self(steps.into_iter().collect())
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) if key.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') => {
                    if position > 0 {
                        f.write_str(".")?;
                    }
                    f.write_str(key)?;
                }
                Step::Key(key) => write!(f, "[{key:?}]")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_prints_so_that_keys_with_dots_and_slashes_stay_whole() {
        let path = Path::of_keys("spec.containers").index(0).key("limits").key("nvidia.com/gpu");
        assert_eq!(path.to_string(), r#"spec.containers[0].limits["nvidia.com/gpu"]"#);
        assert_eq!(path.slashed(), "/spec/containers/0/limits/nvidia.com/gpu/");
        assert_eq!(Path::root().slashed(), "/");
    }
}
