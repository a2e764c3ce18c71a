//! Rules in CEL: `validate.cel` of a `ClusterPolicy`, and a whole `ValidatingPolicy`.

use super::{Body, BodyKind};
use crate::{
    cel::{Evaluation, Program, Roots},
    evaluate::{Outcome, Request},
    expression::NoValue,
    field::{Field, PolicyError},
    parameters::{NotFound, ParamKind, ParamRef},
    path::Path,
};
use serde_json::{Map, Value, json};
use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

/// Expressions of one rule: conditions, variables and validations together.
const MAX_EXPRESSIONS: usize = 200;
/// The longest message a `messageExpression` may make; Kubernetes falls back to the plain message beyond.
const MAX_MESSAGE_BYTES: usize = 5 * 1024;

#[derive(Debug, PartialEq)]
struct Validation {
    expression: Program,
    text: String,
    message: String,
    message_expression: Option<Program>,
}

/// What becomes of an expression that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FailurePolicy {
    Fail,
    Ignore,
}

#[derive(Debug, PartialEq)]
pub(crate) struct CelBody {
    /// What a condition that does not hold means: a classic rule skips, a policy is not about the object.
    kind: BodyKind,
    conditions: Vec<Program>,
    variables: BTreeMap<String, Program>,
    validations: Vec<Validation>,
    parameters: Option<ParamKind>,
    /// Which parameters, where the rule says it itself.
    referenced: Option<ParamRef>,
    failure_policy: FailurePolicy,
    reads_request: bool,
    reads_namespace: bool,
}

impl CelBody {
    /// Reads `validate.cel` of a rule.
    pub fn of_rule(conditions: &Field<'_>, cel: &Field<'_>) -> Result<Body, PolicyError> {
        Self::parse(BodyKind::Cel, conditions, cel, &cel.get("expressions"), cel)
    }

    /// Reads the `spec` of a `ValidatingPolicy`.
    pub fn of_policy(spec: &Field<'_>) -> Result<Body, PolicyError> {
        Self::parse(BodyKind::ValidatingPolicy, &spec.get("matchConditions"), spec, &spec.get("validations"), spec)
    }

    /// Reads the `spec` of a `ValidatingAdmissionPolicy`.
    pub fn of_admission_policy(spec: &Field<'_>) -> Result<Body, PolicyError> {
        let kind = BodyKind::ValidatingAdmissionPolicy;
        Self::parse(kind, &spec.get("matchConditions"), spec, &spec.get("validations"), spec)
    }

    /// Reads conditions and variables of a policy whose changes are these.
    pub fn of_changes<'p>(
        spec: &Field<'_>,
        changes: impl Iterator<Item = &'p Program>,
    ) -> Result<Result<Arc<Self>, String>, PolicyError> {
        let nothing = Value::Null;
        let nothing = spec.with_value(&nothing);
        let body = match Self::parse(BodyKind::MutatingPolicy, &spec.get("matchConditions"), spec, &nothing, &nothing)? {
            Body::Cel(body) => body,
            Body::Unknown(reason) => return Ok(Err(reason)),
            _ => return Ok(Err("is no policy in CEL".to_owned())),
        };
        let mut names = changes.flat_map(Program::variables);
        Ok(match names.find(|name| !body.variables.contains_key(*name)) {
            Some(missing) => Err(format!("the variable {missing:?} is not declared")),
            None => Ok(body),
        })
    }

    /// The value of an expression beside the policy's own, as JSON.
    pub fn value(&self, request: &Request<'_>, program: &Program) -> Result<Value, NoValue> {
        let known = Known::of(request);
        let mut evaluation = Evaluation::new(self.roots(request, &known, &Value::Null));
        let value = evaluation.value(program)?;
        evaluation.weigh(&value)?;
        Ok(value.to_json())
    }

    /// Reads conditions alone; they hold where the answer is *pass*. The inner error is the reason why an expression can't
    /// be read.
    pub fn of_conditions(conditions: &Field<'_>) -> Result<Result<Arc<Self>, String>, PolicyError> {
        let nothing = Value::Null;
        let nothing = conditions.with_value(&nothing);
        match Self::parse(BodyKind::ValidatingPolicy, conditions, &nothing, &nothing, &nothing)? {
            Body::Cel(body) => Ok(Ok(body)),
            Body::Unknown(reason) => Ok(Err(reason)),
            _ => Ok(Err("is no condition".to_owned())),
        }
    }

    fn parse(
        kind: BodyKind,
        conditions: &Field<'_>,
        variables: &Field<'_>,
        validations: &Field<'_>,
        spec: &Field<'_>,
    ) -> Result<Body, PolicyError> {
        let mut reader = Reader { unknown: None, text: String::new(), count: 0 };
        let mut body = Self {
            kind,
            conditions: Vec::new(),
            variables: BTreeMap::new(),
            validations: Vec::new(),
            parameters: ParamKind::parse(&spec.get("paramKind"))?,
            referenced: ParamRef::parse(&spec.get("paramRef"))?,
            failure_policy: FailurePolicy::Fail,
            reads_request: false,
            reads_namespace: false,
        };
        body.failure_policy = match spec.get("failurePolicy").text()?.as_deref() {
            Some("Ignore") => FailurePolicy::Ignore,
            _ => FailurePolicy::Fail,
        };
        for condition in conditions.list()? {
            body.conditions.extend(reader.program(&condition.get("expression"))?);
        }
        for variable in variables.get("variables").list()? {
            let program = reader.program(&variable.get("expression"))?;
            body.variables.extend(program.map(|program| Ok((variable.get("name").required_text()?, program))).transpose()?);
        }
        for validation in validations.list()? {
            let text = validation.get("expression").required_text()?;
            let message = validation.get("message").text()?.unwrap_or_default();
            let message_expression = match validation.get("messageExpression").value() {
                Some(_) => reader.program(&validation.get("messageExpression"))?,
                None => None,
            };
            let expression = reader.program(&validation.get("expression"))?;
            body.validations.extend(expression.map(|expression| Validation { expression, text, message, message_expression }));
        }
        if reader.count > MAX_EXPRESSIONS {
            return Err(validations.error(format!("a rule holds more than {MAX_EXPRESSIONS} expressions")));
        }
        body.reads_request = reader.text.contains("request");
        body.reads_namespace = reader.text.contains("namespaceObject");
        if let Some(reason) = reader.unknown.or_else(|| body.missing_variable()) {
            return Ok(Body::Unknown(reason));
        }
        Ok(Body::Cel(Arc::new(body)))
    }

    fn missing_variable(&self) -> Option<String> {
        let validations = self
            .validations
            .iter()
            .flat_map(|validation| std::iter::once(&validation.expression).chain(&validation.message_expression));
        let mut programs = self.conditions.iter().chain(self.variables.values()).chain(validations);
        let missing = programs.find_map(|program| program.variables().find(|name| !self.variables.contains_key(*name)))?;
        Some(format!("the variable {missing:?} is not declared"))
    }

    /// What it says of an object; `None` where a match condition keeps it out.
    pub fn judge(&self, request: &Request<'_>) -> Option<Outcome> {
        self.judge_with(request, self.referenced.as_ref())
    }

    /// The same with the parameters of a binding, each of which the object has to satisfy.
    pub fn judge_with(&self, request: &Request<'_>, referenced: Option<&ParamRef>) -> Option<Outcome> {
        let Some(kind) = &self.parameters else { return self.judge_one(request, &Value::Null) };
        let not_evaluated = |reason: String| Some(Outcome::NotEvaluated { reason });
        let Some(referenced) = referenced else {
            return not_evaluated("it has parameters, and no binding says which".to_owned());
        };
        let parameters = match referenced.find(kind, request) {
            Ok(parameters) => parameters,
            Err(reason) => return not_evaluated(reason),
        };
        if parameters.is_empty() {
            return match referenced.not_found {
                NotFound::Allow => None,
                NotFound::Deny => {
                    let missing = NoValue::failed(format!("no {} is there", kind.name()));
                    Some(self.gone_wrong("its parameters", missing))
                }
            };
        }
        let mut answered = None;
        for params in parameters {
            match self.judge_one(request, params) {
                None => {}
                Some(Outcome::Pass) => answered = Some(Outcome::Pass),
                other => return other,
            }
        }
        answered
    }

    fn judge_one(&self, request: &Request<'_>, params: &Value) -> Option<Outcome> {
        let known = Known {
            admission: if self.reads_request { admission_request(request) } else { Value::Null },
            namespace: if self.reads_namespace { namespace_object(request) } else { None },
        };
        let roots = self.roots(request, &known, params);
        let mut evaluation = Evaluation::new(roots);
        match self.conditions_hold(&mut evaluation) {
            Ok(true) => {}
            Ok(false) if self.kind == BodyKind::Cel => {
                return Some(Outcome::Skip { reason: "a precondition is not met".to_owned() });
            }
            Ok(false) => return None,
            Err(error) => return Some(self.gone_wrong("a match condition", error)),
        }
        for validation in &self.validations {
            match evaluation.truth(&validation.expression) {
                Ok(true) => {}
                Ok(false) => {
                    let message = validation.message(&mut evaluation);
                    let detail = format!("{} does not hold", validation.text.trim());
                    return Some(Outcome::Fail { path: Path::root(), message, detail });
                }
                Err(error) => return Some(self.gone_wrong(&validation.text, error)),
            }
        }
        Some(Outcome::Pass)
    }

    fn roots<'e>(&'e self, request: &Request<'e>, known: &'e Known, params: &'e Value) -> Roots<'e> {
        let is_delete = request.operation == crate::Operation::Delete;
        Roots {
            object: if is_delete { &Value::Null } else { request.object },
            old_object: match request.old_object {
                None if is_delete => request.object,
                other => other.unwrap_or(&Value::Null),
            },
            request: &known.admission,
            namespace_object: known.namespace.as_ref(),
            params,
            variables: &self.variables,
            inventory: request.inventory,
            now: request.now,
        }
    }

    /// Kubernetes' order: one condition that does not hold decides, whatever goes wrong in others.
    fn conditions_hold<'a>(&'a self, evaluation: &mut Evaluation<'a>) -> Result<bool, NoValue> {
        let mut wrong = None;
        for condition in &self.conditions {
            match evaluation.truth(condition) {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(error) => wrong = wrong.or(Some(error)),
            }
        }
        wrong.map_or(Ok(true), Err)
    }

    fn gone_wrong(&self, what: &str, error: NoValue) -> Outcome {
        let message = format!("{}: {error}", what.trim());
        match (error, self.failure_policy, self.kind) {
            (NoValue::NotGiven(reason), _, _) => Outcome::NotEvaluated { reason },
            (NoValue::TooCostly, _, _) => Outcome::Error { message },
            (NoValue::Failed(_), FailurePolicy::Ignore, _) => Outcome::Skip { reason: message },
            // A classic rule hands its expressions to Kubernetes' code, which denies.
            (NoValue::Failed(_), FailurePolicy::Fail, BodyKind::Cel) => {
                Outcome::Fail { path: Path::root(), detail: message.clone(), message }
            }
            (NoValue::Failed(_), FailurePolicy::Fail, _) => Outcome::Error { message },
        }
    }
}

/// What expressions see of a request beside the objects.
struct Known {
    admission: Value,
    namespace: Option<Value>,
}

impl Known {
    fn of(request: &Request<'_>) -> Self {
        Self { admission: admission_request(request), namespace: namespace_object(request) }
    }
}

impl Validation {
    fn message<'a>(&'a self, evaluation: &mut Evaluation<'a>) -> String {
        let made = self
            .message_expression
            .as_ref()
            .and_then(|program| evaluation.value(program).and_then(|value| evaluation.written(&value)).ok());
        let made = made.map(Cow::into_owned);
        let usable = made.filter(|text| !text.trim().is_empty() && !text.contains('\n') && text.len() <= MAX_MESSAGE_BYTES);
        usable.unwrap_or_else(|| match self.message.trim() {
            "" => format!("failed expression: {}", self.text.trim()),
            message => message.to_owned(),
        })
    }
}

/// Compiles the expressions of a rule and remembers the first that cannot be.
struct Reader {
    unknown: Option<String>,
    text: String,
    count: usize,
}

impl Reader {
    fn program(&mut self, field: &Field<'_>) -> Result<Option<Program>, PolicyError> {
        let text = field.required_text()?;
        self.count += 1;
        self.text.push_str(&text);
        match Program::compile(&text) {
            Ok(program) => Ok(Some(program)),
            Err(reason) => {
                self.unknown.get_or_insert(reason);
                Ok(None)
            }
        }
    }
}

/// `request` as the API server fills it.
fn admission_request(request: &Request<'_>) -> Value {
    let api_version = request.text("/apiVersion");
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let kind = request.text("/kind");
    let resource = crate::inventory::plural(kind);
    let user = request.user.map_or(json!({}), |user| json!({"username": user.username, "groups": user.groups}));
    json!({
        "kind": {"group": group, "version": version, "kind": kind},
        "resource": {"group": group, "version": version, "resource": resource},
        "subResource": request.subresource,
        "name": request.text("/metadata/name"),
        "namespace": request.text("/metadata/namespace"),
        "operation": request.operation.to_string(),
        "userInfo": user,
        "object": request.object,
        "oldObject": request.old_object,
        "dryRun": false,
    })
}

/// The namespace's object as far as it is known.
fn namespace_object(request: &Request<'_>) -> Option<Value> {
    let name = request.text("/metadata/namespace");
    let given = request.inventory.and_then(|inventory| inventory.get("v1", "namespaces", "", name).ok());
    given.cloned().or_else(|| {
        let labels: Map<String, Value> =
            request.namespace_labels?.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str()))).collect();
        Some(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}))
    })
}

#[cfg(test)]
#[path = "cel_tests.rs"]
mod tests;
