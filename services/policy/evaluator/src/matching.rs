//! `match` and `exclude`: which objects a rule is about.
//!
//! Inside a filter everything given must hold, and of a list one entry. What cannot be known (the labels of a
//! namespace nobody told us) is neither yes nor no; the rule is then not evaluated instead of guessed.

use crate::{
    facts::{Facts, Identity, Operation, Truth, UserInfo},
    field::{Field, PolicyError},
    kind_index::Kinds,
    policy::MAX_WILDCARD_CHARS,
    wildcard,
};
use muster_core::selector::{LabelSelector, Labels};
use serde::Deserialize;
use std::collections::BTreeMap;

/// `group/version/Kind/subresource`, each part a wildcard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KindSelector {
    pub text: String,
    group: Part,
    version: Part,
    kind: Part,
    subresource: Part,
}

/// A part of a selector, told apart once: most are words, and every rule is asked about every object.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Any,
    Word(String),
    Wildcard(String),
}

impl Part {
    fn read(text: &str) -> Self {
        match text {
            "*" => Self::Any,
            word if !wildcard::is_pattern(word) => Self::Word(word.to_owned()),
            pattern => Self::Wildcard(pattern.to_owned()),
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::Any => "*",
            Self::Word(text) | Self::Wildcard(text) => text,
        }
    }

    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Word(word) => word == text,
            Self::Wildcard(pattern) => wildcard::matches(pattern, text),
        }
    }
}

impl KindSelector {
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts: Vec<&str> = text.split('/').collect();
        let last = parts.pop()?;
        parts.extend(last.split('.'));
        let [group, version, kind, subresource] = match parts[..] {
            [kind] => ["*", "*", kind, ""],
            ["*", "*"] => ["*", "*", "*", "*"],
            ["*", below] if below.to_lowercase() == below => ["*", "*", "*", below],
            [version, kind] if is_version(version) => ["*", version, kind, ""],
            [kind, subresource] => ["*", "*", kind, subresource],
            [version, kind, subresource] if is_version(version) => ["*", version, kind, subresource],
            [group, version, kind] => [group, version, kind, ""],
            [group, version, kind, subresource] => [group, version, kind, subresource],
            _ => return None,
        }
        .map(Part::read);
        Some(Self { text: text.to_owned(), group, version, kind, subresource })
    }

    /// Group, version, kind and subresource, each a word or a wildcard; the last empty for the object itself.
    pub fn parts(&self) -> [&str; 4] {
        [&self.group, &self.version, &self.kind, &self.subresource].map(Part::text)
    }

    /// The kind's name, for the question whether a rule is about Pods.
    pub fn kind(&self) -> &str {
        self.kind.text()
    }

    /// The kind, where it is one and not a wildcard.
    fn one_kind(&self) -> Option<&str> {
        match &self.kind {
            Part::Word(kind) => Some(kind),
            Part::Any | Part::Wildcard(_) => None,
        }
    }

    fn matches(&self, facts: &Facts<'_>) -> bool {
        let Identity { group, version, kind } = facts.identity;
        let is_core_pod = || group.is_empty() && version == "v1" && kind == "Pod";
        self.kind.matches(kind)
            && self.group.matches(group)
            && self.version.matches(version)
            && (self.subresource.matches(facts.subresource) || (facts.subresource == "ephemeralcontainers" && is_core_pod()))
    }
}

/// `*`, or a version such as `v1` or `v1beta1`.
fn is_version(text: &str) -> bool {
    let Some(rest) = text.strip_prefix('v') else { return text == "*" };
    let Some(rest) = rest.strip_prefix(|c: char| c.is_ascii_digit()) else { return false };
    let stage = rest.strip_prefix("alpha").or_else(|| rest.strip_prefix("beta"));
    rest.is_empty() || stage.is_some_and(|digit| digit.len() == 1 && digit.as_bytes()[0].is_ascii_digit())
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Subject {
    kind: String,
    name: String,
    namespace: String,
}

/// One entry of `any` or `all`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Filter {
    pub kinds: Vec<KindSelector>,
    pub name: Option<String>,
    pub names: Vec<String>,
    namespaces: Vec<String>,
    pub annotations: Option<BTreeMap<String, String>>,
    pub selector: Option<LabelSelector>,
    namespace_selector: Option<LabelSelector>,
    operations: Vec<Operation>,
    roles: Vec<String>,
    cluster_roles: Vec<String>,
    subjects: Vec<Subject>,
}

impl Filter {
    fn parse(filter: &Field<'_>) -> Result<Self, PolicyError> {
        let resources = filter.get("resources");
        let kinds = resources.get("kinds");
        let mut parsed = Self {
            name: bounded(&resources.get("name"), resources.get("name").text()?)?,
            names: all_bounded(&resources.get("names"))?,
            namespaces: all_bounded(&resources.get("namespaces"))?,
            annotations: resources.get("annotations").text_map()?,
            selector: selector(&resources.get("selector"))?,
            namespace_selector: selector(&resources.get("namespaceSelector"))?,
            roles: filter.get("roles").texts()?,
            cluster_roles: filter.get("clusterRoles").texts()?,
            ..Self::default()
        };
        for kind in kinds.texts()? {
            let selector = KindSelector::parse(&kind).filter(|_| !kind.is_empty() && kind.len() <= MAX_WILDCARD_CHARS);
            parsed.kinds.push(selector.ok_or_else(|| kinds.error(format!("{kind:?} is no kind")))?);
        }
        for operation in resources.get("operations").list()? {
            let text = operation.required_text()?;
            let known = Operation::parse(&text);
            parsed.operations.push(known.ok_or_else(|| operation.error(format!("{text:?} is no operation")))?);
        }
        for subject in filter.get("subjects").list()? {
            parsed.subjects.push(Subject {
                kind: subject.get("kind").required_text()?,
                name: subject.get("name").required_text()?,
                namespace: subject.get("namespace").text()?.unwrap_or_default(),
            });
        }
        Ok(parsed)
    }

    /// Kinds outside of which it matches nothing.
    fn kinds(&self) -> Kinds<'_> {
        let named: Option<Vec<&str>> = self.kinds.iter().map(KindSelector::one_kind).collect();
        named.filter(|kinds| !kinds.is_empty()).map_or(Kinds::Every, Kinds::Named)
    }

    fn asks_nothing(&self) -> bool {
        self.asks_only_for_users() && self.roles.is_empty() && self.cluster_roles.is_empty() && self.subjects.is_empty()
    }

    fn asks_only_for_users(&self) -> bool {
        self.kinds.is_empty()
            && self.name.is_none()
            && self.names.is_empty()
            && self.namespaces.is_empty()
            && self.annotations.is_none()
            && self.selector.is_none()
            && self.namespace_selector.is_none()
            && self.operations.is_empty()
    }

    fn matches(&self, facts: &Facts<'_>, ask_users: bool) -> Truth {
        let known = (self.operations.is_empty() || self.operations.contains(&facts.operation))
            && (self.kinds.is_empty() || self.kinds.iter().any(|kind| kind.matches(facts)))
            && self.name.as_ref().is_none_or(|name| wildcard::matches(name, facts.name()))
            && (self.names.is_empty() || one_matches(&self.names, facts.name()))
            && (self.namespaces.is_empty() || one_matches(&self.namespaces, facts.namespace()))
            && self.annotations.as_ref().is_none_or(|wanted| annotations_match(wanted, &facts.texts("/metadata/annotations")))
            && self.selector.as_ref().is_none_or(|wanted| selector_matches(wanted, &facts.texts("/metadata/labels")))
            && (!ask_users || self.users_match(facts.user));
        let namespace = match (&self.namespace_selector, facts.namespace_labels) {
            (None, _) => Truth::Yes,
            (Some(_), _) if facts.kind() == "Namespace" => Truth::No,
            (Some(wanted), Some(labels)) => Truth::of(selector_matches(wanted, labels)),
            (Some(_), None) => Truth::Unknown,
        };
        Truth::of(known).and(namespace)
    }

    fn users_match(&self, user: Option<&UserInfo>) -> bool {
        let nobody = UserInfo::default();
        let user = user.unwrap_or(&nobody);
        (self.roles.is_empty() || self.roles.iter().any(|role| user.roles.contains(role)))
            && (self.cluster_roles.is_empty() || self.cluster_roles.iter().any(|role| user.cluster_roles.contains(role)))
            && (self.subjects.is_empty() || self.subjects.iter().any(|subject| subject.matches(user)))
    }
}

impl Subject {
    fn matches(&self, user: &UserInfo) -> bool {
        match self.kind.as_str() {
            "ServiceAccount" => {
                wildcard::matches(&format!("system:serviceaccount:{}:{}", self.namespace, self.name), &user.username)
            }
            "Group" => user.groups.iter().any(|group| wildcard::matches(&self.name, group)),
            "User" => wildcard::matches(&self.name, &user.username),
            _ => false,
        }
    }
}

/// A whole `match` or `exclude`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MatchBlock {
    pub any: Vec<Filter>,
    pub all: Vec<Filter>,
    /// The old form, `resources` and users directly in the block.
    pub direct: Filter,
}

impl MatchBlock {
    pub fn parse(block: &Field<'_>) -> Result<Self, PolicyError> {
        block.object()?;
        let filters = |name: &str| block.get(name).list()?.iter().map(Filter::parse).collect::<Result<Vec<_>, _>>();
        Ok(Self { any: filters("any")?, all: filters("all")?, direct: Filter::parse(block)? })
    }

    /// Every filter of the block, whichever form it has.
    pub fn filters(&self) -> impl Iterator<Item = &Filter> {
        self.any.iter().chain(&self.all).chain(std::iter::once(&self.direct))
    }

    /// Kinds outside of which a rule with this `match` is about nothing.
    pub(crate) fn kinds(&self) -> Kinds<'_> {
        if !self.any.is_empty() {
            return self.any.iter().map(Filter::kinds).reduce(Kinds::or).unwrap_or(Kinds::Every);
        }
        if !self.all.is_empty() {
            return self.all.iter().map(Filter::kinds).find(|kinds| *kinds != Kinds::Every).unwrap_or(Kinds::Every);
        }
        self.direct.kinds()
    }

    /// Whether a rule with this `match` is about the object.
    pub fn includes(&self, facts: &Facts<'_>) -> Truth {
        let one = |filter: &Filter| {
            let ask_users = facts.user.is_some();
            if filter.asks_nothing() || (!ask_users && filter.asks_only_for_users()) {
                return Truth::No;
            }
            filter.matches(facts, ask_users)
        };
        if !self.any.is_empty() {
            return self.any.iter().map(one).fold(Truth::No, Truth::or);
        }
        if !self.all.is_empty() {
            return self.all.iter().map(one).fold(Truth::Yes, Truth::and);
        }
        one(&self.direct)
    }

    /// Whether a rule with this `exclude` leaves the object out.
    pub fn excludes(&self, facts: &Facts<'_>) -> Truth {
        let one = |filter: &Filter| if filter.asks_nothing() { Truth::No } else { filter.matches(facts, true) };
        if !self.any.is_empty() {
            return self.any.iter().map(one).fold(Truth::No, Truth::or);
        }
        if !self.all.is_empty() {
            return self.all.iter().map(one).fold(Truth::Yes, Truth::and);
        }
        one(&self.direct)
    }
}

fn bounded(field: &Field<'_>, text: Option<String>) -> Result<Option<String>, PolicyError> {
    match text {
        Some(text) if text.len() > MAX_WILDCARD_CHARS => {
            Err(field.error(format!("is longer than {MAX_WILDCARD_CHARS} characters")))
        }
        text => Ok(text.filter(|text| !text.is_empty())),
    }
}

fn all_bounded(field: &Field<'_>) -> Result<Vec<String>, PolicyError> {
    let texts = field.texts()?;
    match texts.iter().find(|text| text.len() > MAX_WILDCARD_CHARS) {
        Some(_) => Err(field.error(format!("an entry is longer than {MAX_WILDCARD_CHARS} characters"))),
        None => Ok(texts),
    }
}

/// Reads a label selector and checks its expressions.
pub fn selector(field: &Field<'_>) -> Result<Option<LabelSelector>, PolicyError> {
    let Some(value) = field.value() else { return Ok(None) };
    let selector = LabelSelector::deserialize(value).map_err(|error| field.error(error.to_string()))?;
    selector.validate().map_err(|error| field.error(error.to_string()))?;
    Ok(Some(selector))
}

fn one_matches(patterns: &[String], text: &str) -> bool {
    patterns.iter().any(|pattern| wildcard::matches(pattern, text))
}

fn annotations_match(wanted: &BTreeMap<String, String>, found: &Labels) -> bool {
    wanted.iter().all(|(key, value)| {
        found.iter().any(|(found_key, found)| wildcard::matches(key, found_key) && wildcard::matches(value, found))
    })
}

/// A label selector whose `matchLabels` may hold wildcards in keys and values, as Kyverno's may.
pub fn selector_matches(wanted: &LabelSelector, labels: &Labels) -> bool {
    let expressions = LabelSelector { match_expressions: wanted.match_expressions.clone(), ..LabelSelector::default() };
    expressions.matches(labels)
        && wanted.match_labels.iter().all(|(key, value)| {
            if wildcard::is_pattern(key) || wildcard::is_pattern(value) {
                labels.iter().any(|(found_key, found)| wildcard::matches(key, found_key) && wildcard::matches(value, found))
            } else {
                labels.get(key) == Some(value)
            }
        })
}

/// Whether one of the patterns matches the namespace.
pub fn namespace_matches(patterns: &[String], namespace: &str) -> bool {
    patterns.iter().any(|pattern| wildcard::matches(pattern, namespace))
}

#[cfg(test)]
#[path = "matching_tests.rs"]
mod tests;
