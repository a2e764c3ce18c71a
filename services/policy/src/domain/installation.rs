//! How a member cluster has the policies it was told.

use super::PolicyForm;

/// How far the agent came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Not all of it is there yet.
    Applying,
    /// All of it is there.
    InForce,
    /// The cluster refused some of it, and what was there before stays.
    Refused,
}

impl Stage {
    /// As it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Applying => "applying",
            Self::InForce => "in_force",
            Self::Refused => "refused",
        }
    }

    /// As it was stored.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Applying, Self::InForce, Self::Refused].into_iter().find(|stage| stage.as_str() == text)
    }
}

/// What an agent says of applying what it was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// How far it came.
    pub stage: Stage,
    /// For people; the API server's own words where it refused.
    pub message: String,
}

/// A member of a binding's fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetPolicyCluster {
    /// The cluster's identifier.
    pub cluster: String,
    /// What its agent says of what it was told last; `None` while it has said nothing.
    pub installation: Option<Installation>,
    /// Whether it was told all the policies of the binding.
    pub is_told: bool,
    /// The forms of the binding's policies.
    pub forms: Vec<PolicyForm>,
}
