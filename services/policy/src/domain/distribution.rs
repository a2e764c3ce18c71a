//! What a cluster is given: each policy once, in the form that it can enforce, and the exceptions from them.
//!
//! Where Kyverno knows the document's kind it is the document, worded as the bindings say; else, where the API server has
//! admission policies of its own, a translation beside the document; else the document alone, by which the agent reports.

use super::{PolicyDocument, admission::admission, served::Served, wording::worded};
use muster_core::bundle;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// A binding as one cluster sees it.
#[derive(Debug, Clone)]
pub struct Held {
    /// The policy.
    pub document: Arc<PolicyDocument>,
    /// Overrides the policy's own action.
    pub enforce: Option<bool>,
    /// Where it holds; empty: everywhere.
    pub namespaces: Vec<String>,
}

impl Held {
    /// Whether violations are refused.
    pub fn enforces(&self) -> bool {
        self.enforce.unwrap_or_else(|| self.document.enforces())
    }
}

/// Where a policy holds in the cluster, for its agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyBinding {
    /// The policy's name.
    pub policy: String,
    /// Namespaces; empty: all.
    pub namespaces: Vec<String>,
    /// Whether violations are refused.
    pub enforce: bool,
}

/// The form of a policy, or of an exception, in a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Form {
    /// Its own document, for Kyverno.
    Kyverno {
        /// As in `kyverno.io/v1`.
        api_version: String,
    },
    /// Kubernetes' own admission policies.
    AdmissionPolicy,
    /// Nothing there enforces it.
    EvaluatedOnly {
        /// Why.
        reason: String,
    },
}

/// A policy with its form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyForm {
    /// The policy's name.
    pub policy: String,
    /// Its form.
    pub form: Form,
    /// Whether a binding wants it enforced there.
    pub enforced: bool,
}

/// All a cluster holds of policies.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ClusterContent {
    /// What is evaluated only, and then what is applied; in either, policies in name order before exceptions.
    pub manifests: Vec<Value>,
    /// So many manifests are evaluated only.
    pub only_evaluated: usize,
    /// Where the policies hold.
    pub bindings: Vec<PolicyBinding>,
    /// The form of each policy and exception.
    pub forms: Vec<PolicyForm>,
}

impl ClusterContent {
    /// From what holds in the cluster, what is excused from it, and what the cluster serves. Exceptions without policies
    /// excuse from nothing.
    pub fn of(held: Vec<Held>, exceptions: Vec<Arc<PolicyDocument>>, served: &Served) -> Self {
        let mut by_name: BTreeMap<String, Vec<Held>> = BTreeMap::new();
        for entry in held {
            by_name.entry(entry.document.name().to_owned()).or_default().push(entry);
        }
        let exceptions: BTreeMap<String, Arc<PolicyDocument>> = match by_name.is_empty() {
            true => BTreeMap::new(),
            false => exceptions.into_iter().map(|document| (document.name().to_owned(), document)).collect(),
        };
        let exceptions: Vec<Arc<PolicyDocument>> = exceptions.into_values().collect();
        let mut writer = Writer::new(served, &exceptions);
        for (name, held) in by_name {
            let form = writer.policy(&held);
            let enforced = held.iter().any(Held::enforces);
            writer.content.forms.push(PolicyForm { policy: name.clone(), form, enforced });
            for entry in held {
                let enforce = entry.enforces();
                writer.content.bindings.push(PolicyBinding { policy: name.clone(), namespaces: entry.namespaces, enforce });
            }
        }
        for exception in &exceptions {
            let form = writer.document(exception.value().clone());
            writer.content.forms.push(PolicyForm { policy: exception.name().to_owned(), form, enforced: false });
        }
        writer.finish()
    }

    /// Names of the policies, in order, each once.
    pub fn policies(&self) -> Vec<String> {
        let mut names: Vec<String> = self.bindings.iter().map(|binding| binding.policy.clone()).collect();
        names.dedup();
        names
    }

    /// Whether anything is applied.
    pub fn installs(&self) -> bool {
        self.only_evaluated < self.manifests.len()
    }

    /// Digest over all of it that is sent: equal for what needs no sending.
    pub fn digest(&self) -> String {
        let bindings: Vec<Value> =
            self.bindings.iter().map(|binding| json!([binding.policy, binding.namespaces, binding.enforce])).collect();
        bundle::digest(&[json!(self.manifests), json!(bindings), json!(self.only_evaluated)]).to_string()
    }
}

/// Finds each document its form.
struct Writer<'a> {
    served: &'a Served,
    exceptions: &'a [Arc<PolicyDocument>],
    /// Names of admission policies.
    taken: BTreeSet<String>,
    applied: Vec<Value>,
    /// Its manifests are those that are evaluated only, until the end.
    content: ClusterContent,
}

impl<'a> Writer<'a> {
    fn new(served: &'a Served, exceptions: &'a [Arc<PolicyDocument>]) -> Self {
        Self { served, exceptions, taken: BTreeSet::new(), applied: Vec::new(), content: ClusterContent::default() }
    }

    fn policy(&mut self, held: &[Held]) -> Form {
        let document = worded(held);
        if self.served.api_version_of(&document).is_some() || !self.served.has_admission_policies() {
            return self.document(document);
        }
        let form = match admission(held, self.exceptions).and_then(|documents| self.take_names(documents)) {
            Ok(documents) => {
                self.applied.extend(documents);
                Form::AdmissionPolicy
            }
            Err(reason) => Form::EvaluatedOnly { reason },
        };
        self.content.manifests.push(document);
        form
    }

    /// A document as it is, for Kyverno or for the agent alone.
    fn document(&mut self, mut document: Value) -> Form {
        match self.served.api_version_of(&document) {
            Some(api_version) => {
                document["apiVersion"] = json!(api_version);
                self.applied.push(document);
                Form::Kyverno { api_version }
            }
            None => {
                let kind = document["kind"].as_str().unwrap_or_default();
                let reason = match self.served.has_admission_policies() {
                    true => format!("the cluster serves no {kind}"),
                    false => format!("the cluster serves no {kind} and no admission policies of its own"),
                };
                self.content.manifests.push(document);
                Form::EvaluatedOnly { reason }
            }
        }
    }

    /// Two policies may have translations of one name, as `a` with its `a-controllers` and another `a-controllers`.
    fn take_names(&mut self, documents: Vec<Value>) -> Result<Vec<Value>, String> {
        let name = |document: &Value| document["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let names: BTreeSet<String> = documents.iter().map(name).collect();
        if let Some(name) = names.iter().find(|name| self.taken.contains(*name)) {
            return Err(format!("its translation {name} has the name of another policy's"));
        }
        self.taken.extend(names);
        Ok(documents)
    }

    fn finish(self) -> ClusterContent {
        let mut content = self.content;
        content.only_evaluated = content.manifests.len();
        content.manifests.extend(self.applied);
        content
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADMISSION: [&str; 2] = [
        "validatingadmissionpolicies.admissionregistration.k8s.io",
        "validatingadmissionpolicybindings.admissionregistration.k8s.io",
    ];

    fn served(kinds: &[&str]) -> Served {
        kinds.iter().map(|kind| ((*kind).to_owned(), vec!["v1".to_owned()])).collect()
    }

    fn document(name: &str, validate: Value) -> Arc<PolicyDocument> {
        let document = json!({
            "apiVersion": "kyverno.io/v1", "kind": "ClusterPolicy", "metadata": {"name": name},
            "spec": {
                "validationFailureAction": "Enforce",
                "rules": [{"name": "r", "match": {"any": [{"resources": {"kinds": ["Service"]}}]}, "validate": validate}],
            },
        });
        Arc::new(PolicyDocument::parse(&document).expect("a policy"))
    }

    fn plain(name: &str) -> Arc<PolicyDocument> {
        document(name, json!({"message": "no", "pattern": {"spec": {"type": "!NodePort"}}}))
    }

    fn held(document: &Arc<PolicyDocument>, enforce: Option<bool>, namespaces: &[&str]) -> Held {
        let namespaces = namespaces.iter().map(|name| (*name).to_owned()).collect();
        Held { document: Arc::clone(document), enforce, namespaces }
    }

    fn named(content: &ClusterContent) -> Vec<String> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        content.manifests.iter().map(|m| format!("{} {}", text(&m["kind"]), text(&m["metadata"]["name"]))).collect()
    }

    #[test]
    fn equal_content_has_equal_digests_and_any_difference_another() {
        let kyverno = served(&["clusterpolicies.kyverno.io"]);
        let policy = plain("p");
        let one = ClusterContent::of(vec![held(&policy, None, &[])], vec![], &kyverno);
        assert_eq!(one.digest(), ClusterContent::of(vec![held(&policy, None, &[])], vec![], &kyverno).digest());
        assert_ne!(one.digest(), ClusterContent::of(vec![held(&policy, None, &[])], vec![], &Served::default()).digest());
        assert_ne!(one.digest(), ClusterContent::of(vec![held(&policy, None, &["ml"])], vec![], &kyverno).digest());
        assert_eq!(one.policies(), ["p"]);
    }

    #[test]
    fn each_policy_has_the_form_that_the_cluster_can_enforce() {
        let deny = document("d", json!({"deny": {"conditions": {"any": [{"key": "a", "operator": "Equals", "value": "a"}]}}}));
        let both = || vec![held(&plain("p"), None, &[]), held(&deny, None, &[])];
        let kyverno = ClusterContent::of(both(), vec![], &served(&["clusterpolicies.kyverno.io", ADMISSION[0], ADMISSION[1]]));
        assert_eq!((kyverno.only_evaluated, named(&kyverno)), (0, vec!["ClusterPolicy d".into(), "ClusterPolicy p".into()]));
        assert_eq!(kyverno.forms[0].form, Form::Kyverno { api_version: "kyverno.io/v1".to_owned() });

        let native = ClusterContent::of(both(), vec![], &served(&ADMISSION));
        let expected =
            ["ClusterPolicy d", "ClusterPolicy p", "ValidatingAdmissionPolicy p", "ValidatingAdmissionPolicyBinding p"];
        assert_eq!((native.only_evaluated, named(&native)), (2, expected.map(str::to_owned).to_vec()));
        let reason = "rule r: validate.deny: has no counterpart in CEL here".to_owned();
        let forms: Vec<&Form> = native.forms.iter().map(|form| &form.form).collect();
        assert_eq!(forms, [&Form::EvaluatedOnly { reason }, &Form::AdmissionPolicy]);

        let neither = ClusterContent::of(both(), vec![], &Served::default());
        assert_eq!((neither.installs(), neither.manifests.len()), (false, 2));
        let reason = "the cluster serves no ClusterPolicy and no admission policies of its own".to_owned();
        assert_eq!(neither.forms[1].form, Form::EvaluatedOnly { reason });
    }

    #[test]
    fn translations_refuse_and_report_where_the_bindings_say() {
        let policy = plain("p");
        let spoken = |held: Vec<Held>| {
            let content = ClusterContent::of(held, vec![], &served(&ADMISSION));
            let pairs = content.manifests[content.only_evaluated..].chunks(2);
            let pairs = pairs.map(|pair| {
                let condition = pair[0]["spec"]["matchConditions"][0]["expression"].as_str().unwrap_or_default().to_owned();
                assert_eq!(pair[0]["metadata"]["name"], pair[1]["spec"]["policyName"]);
                (pair[1]["metadata"]["name"].clone(), pair[1]["spec"]["validationActions"].clone(), condition)
            });
            pairs.collect::<Vec<_>>()
        };
        let (deny, warn) = (json!(["Deny"]), json!(["Audit", "Warn"]));
        assert_eq!(spoken(vec![held(&policy, None, &[])]), [(json!("p"), deny.clone(), String::new())]);
        assert_eq!(spoken(vec![held(&policy, Some(false), &[])]), [(json!("p"), warn.clone(), String::new())]);
        let limited = "request.namespace.matches('^(ml|web)$')".to_owned();
        let two = vec![held(&policy, Some(true), &["web"]), held(&policy, Some(true), &["ml"])];
        assert_eq!(spoken(two), [(json!("p"), deny.clone(), limited)]);
        let mixed = vec![held(&policy, Some(true), &["ml"]), held(&policy, Some(false), &[])];
        let limited = "request.namespace.matches('^(ml)$')".to_owned();
        assert_eq!(spoken(mixed), [(json!("p"), deny.clone(), limited), (json!("p-audit"), warn, String::new())]);
        let covered = vec![held(&policy, Some(true), &[]), held(&policy, Some(false), &["ml"])];
        assert_eq!(spoken(covered), [(json!("p"), deny, String::new())]);
    }

    fn exception(conditions: Value) -> Arc<PolicyDocument> {
        let exception = json!({
            "apiVersion": "kyverno.io/v2", "kind": "PolicyException",
            "metadata": {"name": "e", "annotations": {
                "muster.dev/exception-owner": "ada", "muster.dev/exception-ends": "2027-01-31T00:00:00Z"}},
            "spec": {
                "match": {"any": [{"resources": {"kinds": ["Service"], "names": ["old-*"]}}]},
                "exceptions": [{"policyName": "p", "ruleNames": ["r"]}],
                "conditions": conditions,
            },
        });
        Arc::new(PolicyDocument::parse(&exception).expect("an exception"))
    }

    #[test]
    fn an_exception_goes_out_as_a_condition_of_the_translation() {
        let content = ClusterContent::of(vec![held(&plain("p"), None, &[])], vec![exception(json!({}))], &served(&ADMISSION));
        assert_eq!(content.forms[0].form, Form::AdmissionPolicy);
        let policy = content.manifests.iter().find(|manifest| manifest["kind"] == "ValidatingAdmissionPolicy");
        let condition = &policy.expect("translated")["spec"]["matchConditions"][0];
        assert_eq!(condition["name"], "excused-0");
        assert!(
            condition["expression"].as_str().is_some_and(|text| text.starts_with("!(") && text.contains("old-")),
            "{condition}"
        );
    }

    #[test]
    fn what_an_exception_excuses_by_jmespath_and_a_taken_name_are_not_translated() {
        let exception = exception(json!({"any": [{"key": "a", "operator": "Equals", "value": "a"}]}));
        let all = ["p", "q", "q-audit"].map(plain);
        let mut bound: Vec<Held> = all.iter().map(|policy| held(policy, None, &[])).collect();
        bound.push(held(&all[1], Some(true), &["ml"]));
        bound.push(held(&all[1], Some(false), &["web"]));
        bound.retain(|held| held.document.name() != "q" || held.enforce.is_some());
        let content = ClusterContent::of(bound, vec![exception], &served(&ADMISSION));
        let reason = |index: usize| match &content.forms[index].form {
            Form::EvaluatedOnly { reason } => reason.as_str(),
            Form::AdmissionPolicy | Form::Kyverno { .. } => "",
        };
        let names: Vec<&str> = content.forms.iter().map(|form| form.policy.as_str()).collect();
        assert_eq!(names, ["p", "q", "q-audit", "e"]);
        let jmespath = "rule r: exception e: spec.conditions: JMESPath has no counterpart";
        assert_eq!((reason(0), reason(1)), (jmespath, ""));
        assert_eq!(reason(2), "its translation q-audit has the name of another policy's");
        assert_eq!(reason(3), "the cluster serves no PolicyException");
    }
}
