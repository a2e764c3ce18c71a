//! `context`: named values of a rule, taken from an expression, the cluster or the registry when they are asked for.

use super::{Context, Template, answers};
use crate::{
    expression::NoValue,
    field::{Field, PolicyError},
    inventory::{Inventory, NotAnswered},
    jmespath::{JmesError, Program},
};
use serde_json::{Value, json};

/// Entries of one `context`.
const MAX_ENTRIES: usize = 200;

/// The entries of a rule or of one `foreach`, in order.
pub type Entries = Vec<Entry>;

/// One named value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub name: String,
    source: Source,
}

#[derive(Debug, Clone, PartialEq)]
enum Source {
    Variable {
        value: Option<Template>,
        path: Option<Template>,
        default: Option<Template>,
    },
    ConfigMap {
        name: Template,
        namespace: Template,
    },
    Get {
        url: Template,
        path: Option<Template>,
        default: Option<Template>,
    },
    Image {
        reference: Template,
        path: Option<Template>,
    },
    /// Cannot be answered here, and why.
    Unknown(String),
}

impl Entry {
    /// Reads a `context`. The inner error is the reason why an expression of it can't be read.
    pub fn parse_all(context: &Field<'_>) -> Result<Result<Entries, String>, PolicyError> {
        let listed = context.list()?;
        if listed.len() > MAX_ENTRIES {
            return Err(context.error(format!("holds more than {MAX_ENTRIES} entries")));
        }
        let mut entries = Entries::with_capacity(listed.len());
        for field in &listed {
            let name = field.get("name").required_text()?;
            match Self::source(field) {
                Ok(source) => entries.push(Self { name, source }),
                Err(error) => return Ok(Err(format!("the context entry {name}: {error}"))),
            }
        }
        Ok(Ok(entries))
    }

    fn source(entry: &Field<'_>) -> Result<Source, JmesError> {
        let template = |field: Field<'_>| field.value().map(Template::compile).transpose();
        let text = |field: Field<'_>| Template::compile(field.value().unwrap_or(&json!("")));
        let (variable, map, call, image) =
            (entry.get("variable"), entry.get("configMap"), entry.get("apiCall"), entry.get("imageRegistry"));
        if variable.value().is_some() {
            return Ok(Source::Variable {
                value: template(variable.get("value"))?,
                path: template(variable.get("jmesPath"))?,
                default: template(variable.get("default"))?,
            });
        }
        if map.value().is_some() {
            return Ok(Source::ConfigMap { name: text(map.get("name"))?, namespace: text(map.get("namespace"))? });
        }
        if image.value().is_some() {
            return Ok(Source::Image { reference: text(image.get("reference"))?, path: template(image.get("jmesPath"))? });
        }
        if call.get("urlPath").value().is_some() {
            let is_get = call.get("method").value().is_none_or(|method| method == "GET");
            if !is_get {
                return Ok(Source::Unknown("it asks the cluster by POST".to_owned()));
            }
            return Ok(Source::Get {
                url: text(call.get("urlPath"))?,
                path: template(call.get("jmesPath"))?,
                default: template(call.get("default"))?,
            });
        }
        Ok(Source::Unknown(if call.value().is_some() {
            "it calls a service".to_owned()
        } else {
            "it asks for a global context entry".to_owned()
        }))
    }

    /// Whether the value comes from outside of the rule, so that one told beforehand stands for it.
    pub fn is_outside(&self) -> bool {
        !matches!(self.source, Source::Variable { .. })
    }

    /// The value.
    pub fn load(&self, context: &mut Context<'_>) -> Result<Value, JmesError> {
        match &self.source {
            Source::Variable { value, path, default } => {
                let default = default.as_ref().map(|default| default.resolve(context)).transpose()?;
                let found = match (value, path) {
                    (Some(value), None) => value.resolve(context),
                    (Some(value), Some(path)) => {
                        let value = value.resolve(context)?;
                        let path = path.resolve_to_text(context)?;
                        context.search(&Program::compile(path.trim())?, &value)
                    }
                    (None, Some(path)) => {
                        let path = path.resolve_to_text(context)?;
                        context.query_text(path.trim())
                    }
                    (None, None) => Ok(Value::Null),
                };
                self.or_default(found, default)
            }
            Source::ConfigMap { name, namespace } => {
                let name = name.resolve_to_text(context)?;
                let namespace = namespace.resolve_to_text(context)?;
                let namespace = if namespace.is_empty() { "default" } else { &namespace };
                let inventory = self.inventory(context)?;
                let found = inventory.get("v1", "configmaps", namespace, &name).map_err(|error| match error {
                    NotAnswered::NotThere => JmesError::failed(format!("the ConfigMap {namespace}/{name} is not there")),
                    NotAnswered::Unknown(reason) => JmesError::not_given(reason),
                })?;
                let part = |key: &str| found.get(key).cloned().unwrap_or_default();
                Ok(json!({"data": part("data"), "metadata": part("metadata")}))
            }
            Source::Get { url, path, default } => {
                let url = url.resolve_to_text(context)?;
                let default = default.as_ref().map(|default| default.resolve(context)).transpose()?;
                let answer = self.inventory(context)?.at(&url).map_err(|error| match error {
                    NotAnswered::NotThere => JmesError::failed(format!("{url} is not there")),
                    NotAnswered::Unknown(reason) => JmesError::not_given(reason),
                });
                let found = match (answer, path) {
                    (Ok(answer), Some(path)) => {
                        let path = path.resolve_to_text(context)?;
                        context.search(&Program::compile(path.trim())?, &answer)
                    }
                    (answer, _) => answer,
                };
                self.or_default(found, default)
            }
            Source::Image { reference, path } => {
                let reference = reference.resolve_to_text(context)?;
                let unknown = || JmesError::not_given(format!("it asks the registry about {reference}"));
                let found = self.inventory(context)?.image(&reference).cloned().ok_or_else(unknown)?;
                match path {
                    None => Ok(found),
                    Some(path) => {
                        let path = path.resolve_to_text(context)?;
                        context.search(&Program::compile(path.trim())?, &found)
                    }
                }
            }
            Source::Unknown(reason) => Err(JmesError::not_given(format!("the context entry {}: {reason}", self.name))),
        }
    }

    fn inventory<'a>(&self, context: &Context<'a>) -> Result<&'a Inventory, JmesError> {
        let reason = || format!("the context entry {} asks the cluster, which is not given", self.name);
        context.inventory().ok_or_else(|| JmesError::not_given(reason()))
    }

    /// A default stands for null and for an expression that goes wrong, not for what nobody knows.
    fn or_default(&self, found: Result<Value, JmesError>, default: Option<Value>) -> Result<Value, JmesError> {
        match (found, default) {
            (Err(error @ JmesError::NoValue(NoValue::NotGiven(_) | NoValue::TooCostly)), _) => Err(error),
            (Err(_) | Ok(Value::Null), Some(default)) => Ok(default),
            (Ok(Value::Null), None) => Err(JmesError::failed(format!("the context entry {} is null", self.name))),
            (found, _) => found,
        }
    }

    /// Whether a value told beforehand under a dotted name is this entry's.
    pub fn is_named_by(&self, dotted: &str) -> bool {
        answers::parts(dotted).first() == Some(&self.name)
    }
}
