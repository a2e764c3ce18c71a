//! Kubernetes label selectors: `matchLabels` and `matchExpressions`, all of which must hold.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Labels of an object or a cluster.
pub type Labels = BTreeMap<String, String>;

/// `metav1.LabelSelector`. The empty selector matches everything.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LabelSelector {
    /// Each label must have exactly this value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: Labels,
    /// Each expression must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub match_expressions: Vec<Requirement>,
}

/// One of a selector's expressions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// How the label relates to the values.
    pub operator: Operator,
    /// Not empty for In and NotIn, empty for Exists and DoesNotExist.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// The operators of `metav1.LabelSelectorRequirement`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operator {
    /// The label has one of the values.
    In,
    /// The label is absent or has none of the values.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is not there.
    DoesNotExist,
}

/// Why a selector is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SelectorError {
    /// In and NotIn need at least one value.
    #[error("matchExpressions[{index}].values: must not be empty for In and NotIn")]
    NoValues {
        /// Which expression.
        index: usize,
    },
    /// Exists and DoesNotExist take none.
    #[error("matchExpressions[{index}].values: must be empty for Exists and DoesNotExist")]
    Values {
        /// Which expression.
        index: usize,
    },
}

impl LabelSelector {
    /// Checks what the types cannot say.
    pub fn validate(&self) -> Result<(), SelectorError> {
        for (index, requirement) in self.match_expressions.iter().enumerate() {
            match (requirement.operator, requirement.values.is_empty()) {
                (Operator::In | Operator::NotIn, true) => return Err(SelectorError::NoValues { index }),
                (Operator::Exists | Operator::DoesNotExist, false) => return Err(SelectorError::Values { index }),
                (Operator::In | Operator::NotIn, false) | (Operator::Exists | Operator::DoesNotExist, true) => {}
            }
        }
        Ok(())
    }

    /// Whether every requirement holds for the labels.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(|requirement| requirement.matches(labels))
    }

    /// Whether the selector asks for nothing, and so matches everything.
    pub fn is_empty(&self) -> bool {
        self.match_labels.is_empty() && self.match_expressions.is_empty()
    }
}

impl Requirement {
    fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match self.operator {
            Operator::In => value.is_some_and(|value| self.values.contains(value)),
            Operator::NotIn => value.is_none_or(|value| !self.values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selector(text: &str) -> LabelSelector {
        serde_json::from_str(text).expect("a selector")
    }

    #[test]
    fn every_operator_means_what_kubernetes_means() {
        let labels = Labels::from([("site".to_owned(), "edge".to_owned())]);
        let cases = [
            (r#"{}"#, true),
            (r#"{"matchLabels":{"site":"edge"}}"#, true),
            (r#"{"matchLabels":{"site":"cloud"}}"#, false),
            (r#"{"matchExpressions":[{"key":"site","operator":"In","values":["edge"]}]}"#, true),
            (r#"{"matchExpressions":[{"key":"zone","operator":"NotIn","values":["a"]}]}"#, true),
            (r#"{"matchExpressions":[{"key":"site","operator":"NotIn","values":["edge"]}]}"#, false),
            (r#"{"matchExpressions":[{"key":"site","operator":"Exists"}]}"#, true),
            (r#"{"matchExpressions":[{"key":"site","operator":"DoesNotExist"}]}"#, false),
        ];
        for (text, expected) in cases {
            assert_eq!(selector(text).matches(&labels), expected, "{text}");
        }
    }

    #[test]
    fn an_expression_without_its_values_is_refused_by_place() {
        let bad = selector(r#"{"matchExpressions":[{"key":"site","operator":"In"}]}"#);
        assert_eq!(bad.validate(), Err(SelectorError::NoValues { index: 0 }));
    }
}
