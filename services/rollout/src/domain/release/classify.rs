//! What a new commit means to an application: nothing, a release in waves, the fast lane, or what failed before.

/// What is known of one target when a commit arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TargetArrival<'a> {
    /// The cluster's name.
    pub cluster: &'a str,
    /// Digest of what the commit renders for it.
    pub rendered: &'a str,
    /// Digest of the rendering it is told to run now, if any.
    pub desired: Option<&'a str>,
    /// Whether a completed release brought exactly this rendering here before.
    pub completed_before: bool,
    /// Whether this rendering failed and is blocked here.
    pub blocked: bool,
}

/// What a commit is to be treated as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arrival {
    /// It renders to what runs everywhere.
    NoChange,
    /// It would bring again what was rolled back from these clusters; a person's retry lets it.
    Blocked(Vec<String>),
    /// Everything it changes has been completed before: no soak.
    Fast,
    /// A release in waves.
    Waves,
}

/// What a commit means, from what it renders for each target.
pub fn classify(targets: &[TargetArrival<'_>]) -> Arrival {
    let changed: Vec<&TargetArrival<'_>> = targets.iter().filter(|target| target.desired != Some(target.rendered)).collect();
    let blocked: Vec<String> = changed.iter().filter(|target| target.blocked).map(|target| target.cluster.to_owned()).collect();
    if changed.is_empty() {
        Arrival::NoChange
    } else if !blocked.is_empty() {
        Arrival::Blocked(blocked)
    } else if changed.iter().all(|target| target.completed_before) {
        Arrival::Fast
    } else {
        Arrival::Waves
    }
}
