//! `validate.podSecurity`: the Pod Security Standards, with what a rule exempts from them.
//!
//! Every control says where a Pod breaks it; an exemption takes back what the exempt part of the Pod breaks by itself,
//! field by field and, where it names images, container by container.

mod baseline;
mod pod;
mod restricted;

use crate::{
    evaluate::Outcome,
    exception::PolicyException,
    field::{Field, PolicyError},
    path::Path,
    rule::Rule,
    wildcard,
};
use pod::Pod;
use serde_json::Value;

/// Exemptions of one rule.
const MAX_EXEMPTIONS: usize = 200;

/// How much is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    /// Nothing.
    Privileged,
    Baseline,
    Restricted,
}

/// The minor version of Kubernetes whose standards are asked; the latest where none is.
type Version = Option<u32>;

/// A place of a Pod that breaks a control.
#[derive(Debug, Clone, PartialEq)]
struct Breach {
    control: &'static str,
    reason: &'static str,
    path: Path,
    /// The container it is in.
    container: Option<String>,
    /// What is there and should not.
    values: Vec<String>,
}

/// One version of one control.
struct Check {
    control: &'static str,
    level: Level,
    /// The minor version it begins with.
    since: u32,
    /// Whether a later version takes its place where the latest is asked.
    is_latest: bool,
    breaches: fn(&Pod<'_>, &mut Found),
}

/// Collects breaches of one control.
struct Found {
    control: &'static str,
    breaches: Vec<Breach>,
}

impl Found {
    fn add(&mut self, reason: &'static str, path: Path, container: Option<&str>, values: Vec<String>) {
        self.breaches.push(Breach { control: self.control, reason, path, container: container.map(str::to_owned), values });
    }
}

/// The path with `*` for every number, as exemptions name it.
fn starred(path: &Path) -> String {
    let path = path.to_string();
    let mut starred = String::with_capacity(path.len());
    let mut in_brackets = false;
    for c in path.chars() {
        match c {
            '[' => {
                in_brackets = true;
                starred.push(c);
            }
            ']' => {
                in_brackets = false;
                starred.push(c);
            }
            digit if in_brackets && digit.is_ascii_digit() => {
                if !starred.ends_with('*') {
                    starred.push('*');
                }
            }
            other => starred.push(other),
        }
    }
    starred
}

/// What a rule, or an exception, does not ask.
#[derive(Debug, Clone, PartialEq)]
pub struct Exemption {
    control: String,
    images: Vec<String>,
    restricted_field: String,
    values: Vec<String>,
}

/// A compiled `podSecurity`.
#[derive(Debug, Clone, PartialEq)]
pub struct PodSecurity {
    level: Level,
    version: Version,
    exemptions: Vec<Exemption>,
}

impl Exemption {
    /// Reads a list of exemptions.
    pub fn parse_all(field: &Field<'_>) -> Result<Vec<Self>, PolicyError> {
        let listed = field.list()?;
        if listed.len() > MAX_EXEMPTIONS {
            return Err(field.error(format!("holds more than {MAX_EXEMPTIONS} entries")));
        }
        listed
            .iter()
            .map(|entry| {
                let control = entry.get("controlName").required_text()?;
                if !is_control(&control) {
                    return Err(entry
                        .get("controlName")
                        .error(format!("{control:?} is no control of the Pod Security Standards")));
                }
                Ok(Self {
                    control,
                    images: entry.get("images").texts()?,
                    restricted_field: entry.get("restrictedField").text()?.unwrap_or_default(),
                    values: entry.get("values").texts()?,
                })
            })
            .collect()
    }
}

impl PodSecurity {
    /// Reads a `podSecurity`.
    pub fn parse(field: &Field<'_>) -> Result<Self, PolicyError> {
        let level = match field.get("level").required_text()?.as_str() {
            "privileged" => Level::Privileged,
            "baseline" => Level::Baseline,
            "restricted" => Level::Restricted,
            other => return Err(field.get("level").error(format!("{other:?} is not privileged, baseline or restricted"))),
        };
        let version = match field.get("version").text()?.as_deref() {
            None | Some("" | "latest") => None,
            Some(text) => {
                let minor = text.strip_prefix("v1.").and_then(|minor| minor.parse().ok());
                Some(minor.ok_or_else(|| field.get("version").error(format!("{text:?} is not latest or such as v1.30")))?)
            }
        };
        Ok(Self { level, version, exemptions: Exemption::parse_all(&field.get("exclude"))? })
    }

    /// What it says of an object; `None` where it says nothing at all.
    ///
    /// `excused` are further exemptions, of exceptions: a Pod that breaks nothing beside them is not passed but skipped.
    pub fn judge(&self, rule: &Rule, object: &Value, excused: &[&PolicyException]) -> Option<Outcome> {
        let Some((pod, place)) = Pod::of(object) else {
            return Some(Outcome::Error { message: "the object has no Pod whose security could be judged".to_owned() });
        };
        let mut breaches = self.breaches(&pod, |_| true);
        self.exempt(&mut breaches, &pod, &self.exemptions);
        if breaches.is_empty() {
            return Some(Outcome::Pass);
        }
        for exception in excused {
            self.exempt(&mut breaches, &pod, exception.exemptions());
            if breaches.is_empty() {
                return Some(exception.excuse());
            }
        }
        let Some(first) = breaches.first() else { return Some(Outcome::Pass) };
        let told: Vec<String> = breaches.iter().map(|breach| breach.told(&place)).collect();
        let level = match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        };
        let version = self.version.map_or("latest".to_owned(), |minor| format!("v1.{minor}"));
        let told = told.join(", ");
        let message = format!("Validation rule '{}' failed. It violates PodSecurity \"{level}:{version}\": {told}", rule.name);
        Some(Outcome::Fail { path: place.join(&first.path), message, detail: told })
    }

    /// Where a Pod breaks the controls that are meant.
    fn breaches(&self, pod: &Pod<'_>, is_meant: impl Fn(&str) -> bool) -> Vec<Breach> {
        let mut breaches = Vec::new();
        for check in baseline::CHECKS.iter().chain(restricted::CHECKS) {
            let is_asked = check.level <= self.level
                && is_meant(check.control)
                && match self.version {
                    None => check.is_latest,
                    // As in Kyverno every version up to the one asked is asked, not only the newest of them.
                    Some(minor) => check.since <= minor,
                };
            if is_asked {
                let mut found = Found { control: check.control, breaches: Vec::new() };
                (check.breaches)(pod, &mut found);
                breaches.extend(found.breaches);
            }
        }
        breaches
    }

    fn exempt(&self, breaches: &mut Vec<Breach>, pod: &Pod<'_>, exemptions: &[Exemption]) {
        for exemption in exemptions {
            if breaches.iter().all(|breach| breach.control != exemption.control) {
                continue;
            }
            let by_container = !exemption.images.is_empty();
            let part = if by_container {
                pod.only(|image| exemption.images.iter().any(|pattern| wildcard::matches(pattern, image)))
            } else {
                pod.without_containers()
            };
            for exempt in self.breaches(&Pod::from(&part), |control| control == exemption.control) {
                let field = starred(&exempt.path);
                let is_meant = (exemption.restricted_field.is_empty() || field == exemption.restricted_field)
                    && (exemption.values.is_empty() || exempt.values.iter().all(|value| matches_one(&exemption.values, value)));
                let is_same = |breach: &Breach| {
                    breach.control == exempt.control
                        && breach.reason == exempt.reason
                        && starred(&breach.path) == field
                        && (!by_container || breach.container == exempt.container)
                };
                if is_meant && let Some(index) = breaches.iter().position(is_same) {
                    breaches.remove(index);
                }
            }
        }
    }
}

fn matches_one(patterns: &[String], text: &str) -> bool {
    patterns.iter().any(|pattern| wildcard::matches(pattern, text))
}

fn is_control(name: &str) -> bool {
    baseline::CHECKS.iter().chain(restricted::CHECKS).any(|check| check.control == name)
}

impl Breach {
    fn told(&self, place: &Path) -> String {
        let Self { control, reason, path, values, .. } = self;
        let path = place.join(path);
        let found = if values.is_empty() { String::new() } else { format!(", found {}", values.join(", ")) };
        format!("{control}: {path} {reason}{found}")
    }
}

#[cfg(test)]
mod tests;
