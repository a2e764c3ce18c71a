//! A policy's document: Kyverno's `ClusterPolicy`, `Policy` and `ValidatingPolicy`, which are judged here, its
//! `PolicyException`, which excuses from those, and its other kinds, which are held and distributed and never judged.

use super::DocumentError;
use muster_core::{
    bundle,
    labels::{EXCEPTION_ENDS, EXCEPTION_OWNER},
};
use muster_policy_evaluator::{Policy, PolicyException, Target, translate_excusing};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{borrow::Cow, sync::OnceLock};

/// Kinds that are not judged here, and whether the cluster may refuse an object by them.
const OTHER_KINDS: [(&str, bool); 10] = [
    ("ImageValidatingPolicy", true),
    ("NamespacedImageValidatingPolicy", true),
    ("MutatingPolicy", false),
    ("NamespacedMutatingPolicy", false),
    ("GeneratingPolicy", false),
    ("NamespacedGeneratingPolicy", false),
    ("DeletingPolicy", false),
    ("NamespacedDeletingPolicy", false),
    ("CleanupPolicy", false),
    ("ClusterCleanupPolicy", false),
];

/// What the cluster's API server writes into an object; no part of a policy's content.
const SERVER_FIELDS: [&str; 6] = ["creationTimestamp", "generation", "managedFields", "resourceVersion", "selfLink", "uid"];

/// A rule, for lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleInfo {
    /// Its name.
    pub name: String,
    /// What it is made of, as in `validate.pattern`.
    pub body: String,
    /// Why it is not judged here; empty if it is.
    pub not_evaluated_reason: String,
}

#[derive(Debug, Clone, PartialEq)]
enum Content {
    Judged(Box<Policy>),
    Excuses(Box<PolicyException>),
    Held { kind: String, can_refuse: bool },
}

/// A policy, read and checked.
#[derive(Debug, Clone)]
pub struct PolicyDocument {
    name: String,
    namespace: String,
    value: Value,
    digest: String,
    content: Content,
    translated: OnceLock<Result<Vec<Value>, String>>,
}

/// Everything else follows from the document.
impl PartialEq for PolicyDocument {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl PolicyDocument {
    /// Reads a document of one of Kyverno's kinds. An exception has to name who answers for it, and when it ends.
    pub fn parse(value: &Value) -> Result<Self, DocumentError> {
        let document = Self::stored(value)?;
        if document.value["kind"] == "PolicyException" {
            let exception =
                PolicyException::parse(&document.value).map_err(|error| DocumentError::new(error.field, error.message))?;
            let annotation = |key: &str| format!("metadata.annotations[{key:?}]");
            if exception.owner().is_none() {
                return Err(DocumentError::new(annotation(EXCEPTION_OWNER), "must name who answers for the exception"));
            }
            if exception.ends().is_none() {
                return Err(DocumentError::new(
                    annotation(EXCEPTION_ENDS),
                    "must say when the exception ends, as in 2027-01-31T00:00:00Z",
                ));
            }
        }
        Ok(document)
    }

    /// Reads a document that was accepted once, perhaps under other terms.
    pub fn stored(value: &Value) -> Result<Self, DocumentError> {
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (kind, group) = (text("/kind"), text("/apiVersion").split('/').next().unwrap_or_default().to_owned());
        if !matches!(group.as_str(), "kyverno.io" | "policies.kyverno.io") {
            return Err(DocumentError::new("apiVersion", "a policy is of kyverno.io or policies.kyverno.io"));
        }
        let value = without_server_fields(value);
        let content = if Policy::reads(&text("/apiVersion"), &kind) || matches!(kind.as_str(), "ClusterPolicy" | "Policy") {
            let policy = Policy::parse(&value).map_err(|error| DocumentError::new(error.field, error.message))?;
            Content::Judged(Box::new(policy))
        } else if kind == "PolicyException" {
            match PolicyException::parse(&value) {
                Ok(exception) => Content::Excuses(Box::new(exception)),
                Err(_) => Content::Held { kind, can_refuse: false },
            }
        } else {
            let known = OTHER_KINDS.iter().find(|(name, _)| *name == kind);
            let (_, can_refuse) =
                known.ok_or_else(|| DocumentError::new("kind", format!("{kind:?} is no policy of Kyverno's")))?;
            Content::Held { kind, can_refuse: *can_refuse }
        };
        let name = text("/metadata/name");
        muster_core::name::check_id(&name).map_err(|error| DocumentError::new("metadata.name", error.to_string()))?;
        let digest = bundle::digest(std::slice::from_ref(&value)).to_string();
        Ok(Self { name, namespace: text("/metadata/namespace"), value, digest, content, translated: OnceLock::new() })
    }

    /// `metadata.name`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `metadata.namespace`, empty where it names none.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The document, without what an API server adds.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// Digest of the content: equal for equal policies, however written.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The policy as the evaluator holds it; `None` for kinds it does not judge.
    pub fn judged(&self) -> Option<&Policy> {
        match &self.content {
            Content::Judged(policy) => Some(policy),
            Content::Excuses(_) | Content::Held { .. } => None,
        }
    }

    /// What it excuses from; `None` for policies.
    pub fn exception(&self) -> Option<&PolicyException> {
        match &self.content {
            Content::Excuses(exception) => Some(exception),
            Content::Judged(_) | Content::Held { .. } => None,
        }
    }

    /// The kind, where it is not judged and may refuse objects in the cluster.
    pub fn refuses_unjudged(&self) -> Option<&str> {
        match &self.content {
            Content::Held { kind, can_refuse: true } => Some(kind),
            Content::Held { .. } | Content::Judged(_) | Content::Excuses(_) => None,
        }
    }

    /// Whether violations of a rule are refused somewhere, where no binding says otherwise.
    pub fn enforces(&self) -> bool {
        match &self.content {
            Content::Judged(policy) => policy.may_refuse(),
            Content::Excuses(_) => false,
            // Kyverno's newer kinds deny unless told to audit or warn only.
            Content::Held { .. } => match self.value.pointer("/spec/validationActions").and_then(Value::as_array) {
                Some(actions) => actions.iter().any(|action| action == "Deny"),
                None => true,
            },
        }
    }

    /// It as `ValidatingAdmissionPolicy`s, each with its binding, without what these exceptions excuse from it. Without any it
    /// is done once, for all clusters.
    ///
    /// # Errors
    /// What has no translation, by rule and field.
    pub fn translated(&self, exceptions: &[&Value]) -> Result<Cow<'_, [Value]>, String> {
        if !exceptions.is_empty() {
            return self.translate(exceptions).map(Cow::Owned);
        }
        let translated = self.translated.get_or_init(|| self.translate(&[]));
        translated.as_deref().map(Cow::Borrowed).map_err(Clone::clone)
    }

    fn translate(&self, exceptions: &[&Value]) -> Result<Vec<Value>, String> {
        match &self.content {
            Content::Judged(policy) => {
                translate_excusing(policy, Target::ValidatingAdmissionPolicy, exceptions).map_err(|reasons| {
                    let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
                    reasons.join("; ")
                })
            }
            Content::Excuses(_) => Err("an exception has no translation".to_owned()),
            Content::Held { kind, .. } => Err(format!("{kind} has no translation")),
        }
    }

    /// Whether it is an exception that names the policy; wildcards may name any.
    pub fn excuses_from(&self, policy: &str) -> bool {
        let named = |list: &str, name: &str| {
            let list = self.value.pointer(list).and_then(Value::as_array).into_iter().flatten();
            list.filter_map(|entry| entry[name].as_str())
                .any(|named| named == policy || named.ends_with(&format!("/{policy}")) || named.contains(['*', '?']))
        };
        self.exception().is_some() && (named("/spec/exceptions", "policyName") || named("/spec/policyRefs", "name"))
    }

    /// Its rules.
    pub fn rules(&self) -> Vec<RuleInfo> {
        match &self.content {
            Content::Judged(policy) => policy
                .rules()
                .map(|(name, body, reason)| RuleInfo {
                    name: name.to_owned(),
                    body: body.to_string(),
                    not_evaluated_reason: reason.unwrap_or_default().to_owned(),
                })
                .collect(),
            Content::Excuses(_) => Vec::new(),
            Content::Held { kind, .. } => vec![RuleInfo {
                name: self.name.clone(),
                body: kind.clone(),
                not_evaluated_reason: format!("{kind} is not evaluated yet"),
            }],
        }
    }
}

fn without_server_fields(value: &Value) -> Value {
    let mut value = value.clone();
    if let Value::Object(fields) = &mut value {
        fields.remove("status");
    }
    if let Some(Value::Object(metadata)) = value.get_mut("metadata") {
        for field in SERVER_FIELDS {
            metadata.remove(field);
        }
        if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
            annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn policy() -> Value {
        json!({
            "apiVersion": "kyverno.io/v1", "kind": "ClusterPolicy", "metadata": {"name": "p"},
            "spec": {"rules": [{"name": "r", "match": {"any": [{"resources": {"kinds": ["Service"]}}]}, "validate": {"pattern": {"a": "b"}}}]},
        })
    }

    #[test]
    fn what_an_api_server_adds_is_no_content() {
        let mut served = policy();
        served["metadata"]["resourceVersion"] = json!("7");
        served["metadata"]["uid"] = json!("x");
        served["status"] = json!({"ready": true});
        let (plain, served) = (PolicyDocument::parse(&policy()), PolicyDocument::parse(&served));
        assert_eq!(plain.map(|policy| policy.digest), served.map(|policy| policy.digest));
    }

    #[test]
    fn an_exception_names_its_owner_and_its_end() {
        let mut document = json!({
            "apiVersion": "kyverno.io/v2", "kind": "PolicyException", "metadata": {"name": "e", "annotations": {}},
            "spec": {"match": {"any": [{"resources": {"kinds": ["Pod"]}}]}, "exceptions": [{"policyName": "p", "ruleNames": ["r"]}]},
        });
        let field = |document: &Value| PolicyDocument::parse(document).expect_err("refused").field;
        assert_eq!(field(&document), r#"metadata.annotations["muster.dev/exception-owner"]"#);
        document["metadata"]["annotations"][EXCEPTION_OWNER] = json!("ada");
        assert_eq!(field(&document), r#"metadata.annotations["muster.dev/exception-ends"]"#);
        assert!(PolicyDocument::stored(&document).expect("accepted before").exception().is_some());
        document["metadata"]["annotations"][EXCEPTION_ENDS] = json!("2027-01-31T00:00:00Z");
        let document = PolicyDocument::parse(&document).expect("an exception");
        assert_eq!((document.rules().len(), document.enforces(), document.refuses_unjudged()), (0, false, None));
    }

    #[test]
    fn kinds_that_are_not_judged_are_held_and_strangers_refused() {
        let kind = "ImageValidatingPolicy";
        let held = json!({"apiVersion": "policies.kyverno.io/v1", "kind": kind, "metadata": {"name": "v"}, "spec": {}});
        let held = PolicyDocument::parse(&held).expect("held");
        assert_eq!((held.refuses_unjudged(), held.enforces()), (Some(kind), true));
        assert_eq!(held.rules()[0].not_evaluated_reason, "ImageValidatingPolicy is not evaluated yet");
        for (document, field) in [
            (json!({"apiVersion": "v1", "kind": "ConfigMap"}), "apiVersion"),
            (json!({"apiVersion": "kyverno.io/v1", "kind": "Stranger"}), "kind"),
            (
                json!({"apiVersion": "policies.kyverno.io/v1", "kind": "DeletingPolicy", "metadata": {"name": "Upper"}}),
                "metadata.name",
            ),
            (
                json!({"apiVersion": "policies.kyverno.io/v1", "kind": "ValidatingPolicy", "metadata": {"name": "v"}, "spec": {}}),
                "spec.matchConstraints",
            ),
        ] {
            assert_eq!(PolicyDocument::parse(&document).expect_err("refused").field, field);
        }
    }

    #[test]
    fn a_validating_policy_is_judged_and_denies_unless_it_says_otherwise() {
        let document = |actions: Value| {
            json!({
                "apiVersion": "policies.kyverno.io/v1", "kind": "ValidatingPolicy", "metadata": {"name": "v"},
                "spec": {
                    "validationActions": actions,
                    "matchConstraints": {"resourceRules": [
                        {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["services"]},
                    ]},
                    "validations": [{"expression": "has(object.metadata.labels)"}],
                },
            })
        };
        for (actions, enforces) in [(json!(["Deny"]), true), (json!([]), true), (json!(["Audit", "Warn"]), false)] {
            let policy = PolicyDocument::parse(&document(actions)).expect("a policy");
            assert_eq!((policy.judged().is_some(), policy.refuses_unjudged(), policy.enforces()), (true, None, enforces));
            let rules: Vec<(String, String)> =
                policy.rules().into_iter().map(|rule| (rule.name, rule.not_evaluated_reason)).collect();
            assert_eq!(rules, [("v".to_owned(), String::new())]);
        }
    }
}
