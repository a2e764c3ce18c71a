//! A suite's documents: policies, resources, expected results, and the values that stand for a cluster.

use super::SuiteError;
use crate::{Answers, Extent, Inventory, Operation, Policy, PolicyException, UserInfo, inventory::text};
use jiff::Timestamp;
use muster_core::{manifest::parse_value, selector::Labels};
use serde_json::{Number, Value};

/// Rows of one suite, at most; the largest known has 300.
const MAX_ROWS: usize = 100_000;

pub enum Loaded {
    Policy(Box<Policy>),
    /// Another kind of Kyverno's, as `ValidatingPolicy`.
    OtherKind(String),
    Refused(String),
}

pub struct PolicyDocument {
    pub name: String,
    pub loaded: Loaded,
}

/// One entry of `results`.
pub struct Entry {
    pub policy: String,
    pub rule: String,
    pub expected: String,
    pub operation: Option<Operation>,
    /// What a rule that changes objects is to make of them.
    pub patched: Vec<Value>,
    resources: Vec<String>,
}

pub struct Suite {
    pub policies: Vec<PolicyDocument>,
    pub entries: Vec<Entry>,
    pub now: Timestamp,
    pub user: Option<UserInfo>,
    /// What the suite's context file says of the cluster and the registry; `None` where it has none.
    pub inventory: Option<Inventory>,
    pub exceptions: Vec<PolicyException>,
    resources: Vec<Value>,
    values: Value,
}

impl Suite {
    pub fn load(test_file: &str, now: Timestamp, read: &dyn Fn(&str) -> Result<String, SuiteError>) -> Result<Self, SuiteError> {
        let test = parse_value(test_file).map_err(|error| malformed("kyverno-test.yaml", error))?;
        let (mut policies, mut bindings) = (Vec::new(), Vec::new());
        for file in texts(&test, "policies") {
            for document in documents(&file, &read(&file)?)? {
                if text(&document, "/kind") == "ValidatingAdmissionPolicyBinding" {
                    bindings.push(document);
                } else {
                    policies.push(PolicyDocument::load(&document));
                }
            }
        }
        policies.iter_mut().for_each(|policy| policy.bind(&bindings));
        let mut resources = Vec::new();
        for file in texts(&test, "resources") {
            resources.extend(documents(&file, &read(&file)?)?.into_iter().map(as_the_cli_reads));
        }
        let values = match test.get("variables").and_then(Value::as_str) {
            Some(file) => parse_value(&read(file)?).map_err(|error| malformed(file, error))?,
            None => test.get("values").cloned().unwrap_or(Value::Null),
        };
        let user = match test.get("userinfo").and_then(Value::as_str) {
            Some(file) => Some(user(&parse_value(&read(file)?).map_err(|error| malformed(file, error))?)),
            None => None,
        };
        let context = match test.get("context").and_then(Value::as_str) {
            Some(file) => Some(parse_value(&read(file)?).map_err(|error| malformed(file, error))?),
            None => None,
        };
        let inventory = inventory(context.as_ref(), &values, &resources);
        let mut exceptions = Vec::new();
        for file in texts(&test, "exceptions") {
            for document in documents(&file, &read(&file)?)? {
                exceptions.push(PolicyException::parse(&document).map_err(|error| malformed(&file, error))?);
            }
        }
        let mut entries: Vec<Entry> = Vec::new();
        for value in list(&test, "results") {
            let mut entry = Entry::read(value);
            let named = value.get("patchedResources").or_else(|| value.get("patchedResource")).and_then(Value::as_str);
            if let Some(file) = named.filter(|file| !file.is_empty()) {
                entry.patched = documents(file, &read(file)?)?.into_iter().map(as_the_cli_reads).collect();
            }
            entries.push(entry);
        }
        if entries.iter().map(|entry| entry.resources.len()).sum::<usize>() > MAX_ROWS {
            return Err(malformed("kyverno-test.yaml", format!("more than {MAX_ROWS} rows")));
        }
        Ok(Self { policies, entries, now, user, inventory, exceptions, resources, values })
    }

    /// The resources an entry names, each with the objects of that name; all resources where it names none.
    pub fn named_resources(&self, entry: &Entry) -> Vec<(String, Vec<&Value>)> {
        if entry.resources.is_empty() {
            return self.resources.iter().map(|object| (name_of(object).to_owned(), vec![object])).collect();
        }
        let objects_named = |wanted: &str| {
            let (namespace, name) = wanted.split_once('/').map_or((None, wanted), |(namespace, name)| (Some(namespace), name));
            self.resources
                .iter()
                .filter(|object| name_of(object) == name)
                .filter(|object| namespace.is_none_or(|namespace| text(object, "/metadata/namespace") == namespace))
                .collect()
        };
        entry.resources.iter().map(|name| (name.clone(), objects_named(name))).collect()
    }

    /// Labels of a namespace, from the values and the Namespaces among the resources.
    pub fn namespace_labels(&self, namespace: &str) -> Labels {
        let listed = list(&self.values, "namespaceSelector").chain(list(&self.values, "namespaceSelectors"));
        let given = listed.filter(|entry| text(entry, "/name") == namespace).find_map(|entry| entry.get("labels"));
        let of_resource = || {
            let is_it = |object: &&Value| text(object, "/kind") == "Namespace" && name_of(object) == namespace;
            self.resources.iter().find(is_it)?.pointer("/metadata/labels")
        };
        let Some(Value::Object(entries)) = given.or_else(of_resource) else { return Labels::new() };
        entries.iter().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
    }

    /// What is done to a resource, where the values say so.
    pub fn operation(&self, policy: &str, resource: &str) -> Operation {
        let named = self.told(policy, resource).filter(|(name, _)| *name == "request.operation");
        named.filter_map(|(_, value)| Operation::parse(value.as_str()?)).next().unwrap_or_default()
    }

    /// Values told for a resource by the resource's name and then for all.
    fn told<'a>(&'a self, policy: &'a str, resource: &'a str) -> impl Iterator<Item = (&'a str, &'a Value)> {
        let of_resource = self.of_policy(policy, "resources").filter(move |entry| text(entry, "/name") == resource);
        let values = of_resource.filter_map(|entry| entry.get("values")).chain(self.values.get("globalValues"));
        values.filter_map(Value::as_object).flatten().map(|(name, value)| (name.as_str(), value))
    }

    fn of_policy<'a>(&'a self, policy: &'a str, key: &'static str) -> impl Iterator<Item = &'a Value> {
        let of_policy = list(&self.values, "policies").filter(move |entry| text(entry, "/name") == policy);
        of_policy.flat_map(move |entry| list(entry, key))
    }

    /// The suite's values for a policy's variables.
    pub fn answers(&self, policy: &str, resource: &str) -> Answers {
        // What is told for one resource goes before what is told for all.
        let mut everywhere: Vec<(String, Value)> =
            self.told(policy, resource).map(|(name, value)| (name.to_owned(), value.clone())).collect();
        everywhere.reverse();
        everywhere.retain(|(name, _)| name != "request.operation");
        let mut answers = Answers { everywhere, ..Answers::default() };
        for rule in self.of_policy(policy, "rules") {
            let name = text(rule, "/name");
            let values = |key: &str| rule.get(key).and_then(Value::as_object).into_iter().flatten();
            let told = answers.of_rules.entry(name.to_owned()).or_default();
            told.extend(values("values").map(|(name, value)| (name.clone(), value.clone())));
            let told = answers.of_elements.entry(name.to_owned()).or_default();
            told.extend(values("foreachValues").filter_map(|(name, value)| Some((name.clone(), value.as_array()?.clone()))));
        }
        answers
    }
}

impl PolicyDocument {
    fn load(document: &Value) -> Self {
        let kind = text(document, "/kind");
        let changes = matches!(kind, "MutatingPolicy" | "NamespacedMutatingPolicy");
        let loaded = if changes || Policy::reads(text(document, "/apiVersion"), kind) {
            Policy::parse(document)
                .map_or_else(|error| Loaded::Refused(error.to_string()), |policy| Loaded::Policy(Box::new(policy)))
        } else {
            Loaded::OtherKind(kind.to_owned())
        };
        Self { name: name_of(document).to_owned(), loaded }
    }
}

impl PolicyDocument {
    /// Adds those of the bindings that name it.
    fn bind(&mut self, bindings: &[Value]) {
        for binding in bindings.iter().filter(|binding| text(binding, "/spec/policyName") == self.name) {
            if let Loaded::Policy(policy) = &self.loaded {
                self.loaded = match policy.as_ref().clone().bound_by(binding) {
                    Ok(policy) => Loaded::Policy(Box::new(policy)),
                    Err(error) => Loaded::Refused(error.to_string()),
                };
            }
        }
    }
}

impl Entry {
    fn read(entry: &Value) -> Self {
        let at = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let policy = at("policy");
        let mut resources: Vec<String> = texts(entry, "resources").collect();
        resources.extend(Some(at("resource")).filter(|name| !name.is_empty()));
        Self {
            policy: policy.rsplit('/').next().unwrap_or_default().to_owned(),
            rule: at("rule"),
            expected: Some(at("result")).filter(|result| !result.is_empty()).unwrap_or_else(|| at("status")),
            operation: Operation::parse(&at("operation")),
            patched: Vec::new(),
            resources,
        }
    }
}

fn malformed(file: &str, error: impl std::fmt::Display) -> SuiteError {
    SuiteError::Malformed(format!("{file}: {error}"))
}

fn documents(file: &str, text: &str) -> Result<Vec<Value>, SuiteError> {
    let manifests = muster_core::manifest::parse_documents(text).map_err(|error| malformed(file, error))?;
    Ok(manifests.into_iter().map(|manifest| manifest.value).collect())
}

fn user(file: &Value) -> UserInfo {
    let all = |value: &Value, key: &str| texts(value, key).collect();
    let info = file.get("userInfo").cloned().unwrap_or(Value::Null);
    UserInfo {
        username: text(&info, "/username").to_owned(),
        groups: all(&info, "groups"),
        roles: all(file, "roles"),
        cluster_roles: all(file, "clusterRoles"),
    }
}

/// What the context file says of the cluster and the registry. Rules may ask for the namespace of an object: those of the
/// values file come first, then those among the resources.
fn inventory(context: Option<&Value>, values: &Value, resources: &[Value]) -> Option<Inventory> {
    let spec = context.and_then(|context| context.get("spec")).unwrap_or(&Value::Null);
    let mut objects: Vec<Value> = list(values, "namespaces").cloned().collect();
    if context.is_none() && objects.is_empty() {
        return None;
    }
    objects.extend(resources.iter().filter(|object| text(object, "/kind") == "Namespace").cloned());
    objects.extend(list(spec, "resources").cloned());
    let images = list(spec, "images").map(|image| (text(image, "/image").to_owned(), image.clone())).collect();
    Some(Inventory::new(objects, Extent::Whole).with_images(images))
}

/// Kyverno's CLI puts objects without a namespace into `default` and reads every number as a fraction.
fn as_the_cli_reads(mut object: Value) -> Value {
    if text(&object, "/kind") != "Namespace"
        && let Some(Value::Object(metadata)) = object.get_mut("metadata")
        && metadata.get("namespace").and_then(Value::as_str).is_none_or(str::is_empty)
    {
        metadata.insert("namespace".to_owned(), "default".into());
    }
    fractions(&mut object);
    object
}

fn fractions(value: &mut Value) {
    match value {
        Value::Number(number) => {
            if let Some(fraction) = number.as_f64().and_then(Number::from_f64) {
                *number = fraction;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(fractions),
        Value::Object(fields) => fields.values_mut().for_each(fractions),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

fn name_of(object: &Value) -> &str {
    text(object, "/metadata/name")
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn texts<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = String> + use<'a> {
    value.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).map(str::to_owned)
}
