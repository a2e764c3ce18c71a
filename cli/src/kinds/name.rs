//! From what people type to resource names: `resnet50`, `ml/resnet50`, or the whole name.
//!
//! A short name gives the identifiers that the kind's pattern asks for; the namespace may be left to the context.

use super::Spec;
use crate::error::{Failure, Result};
use muster_core::name::{check_id, check_version_id};

/// The resource name of a kind from what was typed.
///
/// Accepted are the whole name, every identifier (`ml/resnet50/r-7`), or every one but the namespace (`resnet50/r-7`).
pub fn resource_name(spec: &Spec, typed: &str, namespace: &str) -> Result<String> {
    let typed = typed.trim_matches('/');
    fill(spec.pattern, typed, namespace).ok_or_else(|| {
        Failure::usage(format!("{typed:?} does not name a {}", spec.singular)).hint(format!(
            "write {}, or {}",
            short_form(spec.pattern),
            spec.pattern
        ))
    })?
}

/// The parent of a list from what was typed; `None` means all parents.
///
/// An error where the kind has parents and a list needs one.
pub fn parent_name(spec: &Spec, typed: Option<&str>, namespace: Option<&str>, default_namespace: &str) -> Result<String> {
    let Some((pattern, _)) = spec.pattern.rsplit_once("/{").and_then(|(rest, _)| rest.rsplit_once('/')) else {
        return match typed {
            None => Ok(String::new()),
            Some(_) => Err(Failure::usage(format!("{} belong to nothing; --of is not for them", spec.plural))),
        };
    };
    match typed {
        Some(typed) => {
            let namespace = namespace.unwrap_or(default_namespace);
            fill(pattern, typed.trim_matches('/'), namespace)
                .ok_or_else(|| Failure::usage(format!("--of: {typed:?} is not of the form {}", short_form(pattern))))?
        }
        None if spec.lists_all_parents => {
            let namespace = namespace.unwrap_or("-");
            Ok(pattern
                .split('/')
                .map(|part| variable(part).map_or(part, |name| if name == "namespace" { namespace } else { "-" }))
                .collect::<Vec<_>>()
                .join("/"))
        }
        None => Err(Failure::usage(format!("{} are listed for one parent: --of {}", spec.plural, short_form(pattern)))),
    }
}

/// The last identifiers of a resource name: what stays when the words of its pattern go.
pub fn short(name: &str) -> String {
    let ids: Vec<_> = name.split('/').skip(1).step_by(2).collect();
    ids.join("/")
}

fn variable(part: &str) -> Option<&str> {
    part.strip_prefix('{').and_then(|part| part.strip_suffix('}'))
}

/// `[NAMESPACE/]APPLICATION/RELEASE` for the pattern of releases.
fn short_form(pattern: &str) -> String {
    let names: Vec<_> = pattern.split('/').filter_map(variable).map(str::to_uppercase).collect();
    names.join("/").replacen("NAMESPACE/", "[NAMESPACE/]", 1)
}

/// `None` where the number of identifiers does not fit; an inner error where one is outside the grammar.
fn fill(pattern: &'_ str, typed: &str, namespace: &str) -> Option<Result<String>> {
    let expected: Vec<_> = pattern.split('/').collect();
    let given: Vec<_> = typed.split('/').collect();
    let whole = given.len() == expected.len()
        && expected.iter().zip(&given).all(|(expected, given)| variable(expected).is_some() || expected == given);
    let variables: Vec<_> = expected.iter().filter_map(|part| variable(part)).collect();
    let ids: Vec<&str> = if whole {
        expected.iter().zip(&given).filter(|(expected, _)| variable(expected).is_some()).map(|(_, given)| *given).collect()
    } else if given.len() == variables.len() {
        given
    } else if variables.first() == Some(&"namespace") && given.len() + 1 == variables.len() {
        std::iter::once(namespace).chain(given).collect()
    } else {
        return None;
    };
    for (variable, id) in variables.iter().zip(&ids) {
        let checked = if *variable == "version" { check_version_id(id) } else { check_id(id) };
        if let Err(error) = checked {
            return Some(Err(Failure::usage(error.to_string())));
        }
    }
    let mut ids = ids.into_iter();
    let parts = expected.iter().map(|part| if variable(part).is_some() { ids.next().unwrap_or_default() } else { *part });
    Some(Ok(parts.collect::<Vec<_>>().join("/")))
}

#[cfg(test)]
mod tests {
    use super::super::find;
    use super::*;

    #[test]
    fn what_people_type_becomes_the_resource_name() {
        let cases = [
            ("cluster", "edge-01", Some("clusters/edge-01")),
            ("cluster", "clusters/edge-01", Some("clusters/edge-01")),
            ("job", "train", Some("namespaces/ml/jobs/train")),
            ("job", "team/train", Some("namespaces/team/jobs/train")),
            ("job", "namespaces/x/jobs/train", Some("namespaces/x/jobs/train")),
            ("run", "train/2", Some("namespaces/ml/jobs/train/runs/2")),
            ("release", "web/r-7", Some("namespaces/ml/applications/web/releases/r-7")),
            ("release", "web", None),
            ("modelVersion", "resnet50/V2_final", Some("models/resnet50/versions/V2_final")),
            ("model", "Upper", None),
            ("cluster", "a/b", None),
        ];
        for (kind, typed, expected) in cases {
            let spec = find(kind).expect("known").spec();
            assert_eq!(resource_name(spec, typed, "ml").ok().as_deref(), expected, "{kind} {typed}");
        }
    }

    #[test]
    fn a_list_is_of_one_parent_or_of_all_where_that_is_possible() {
        let cases = [
            ("cluster", None, None, Some("")),
            ("job", None, None, Some("namespaces/-")),
            ("job", None, Some("ml"), Some("namespaces/ml")),
            ("release", None, None, Some("namespaces/-/applications/-")),
            ("release", None, Some("ml"), Some("namespaces/ml/applications/-")),
            ("release", Some("web"), None, Some("namespaces/default/applications/web")),
            ("run", Some("train"), Some("ml"), Some("namespaces/ml/jobs/train")),
            ("run", None, None, None),
            ("policyReport", None, None, Some("clusters/-")),
            ("cluster", Some("x"), None, None),
        ];
        for (kind, of, namespace, expected) in cases {
            let spec = find(kind).expect("known").spec();
            assert_eq!(parent_name(spec, of, namespace, "default").ok().as_deref(), expected, "{kind} {of:?} {namespace:?}");
        }
    }

    #[test]
    fn a_short_name_is_made_of_the_identifiers() {
        assert_eq!(short("namespaces/ml/jobs/train/runs/2"), "ml/train/2");
        assert_eq!(short("clusters/edge-01"), "edge-01");
        assert_eq!(short(""), "");
    }
}
