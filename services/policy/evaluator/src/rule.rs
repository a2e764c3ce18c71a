//! One rule of a policy: what it is about, what it is judged by, and what becomes of a violation.

use crate::{
    autogen,
    body::{Body, BodyKind},
    constraints::Constraints,
    evaluate::{Outcome, Request},
    exception::PolicyException,
    facts::{Facts, Truth},
    field::{Field, PolicyError},
    gate::Gate,
    jmespath::JmesError,
    kind_index::Kinds,
    matching::{MatchBlock, namespace_matches, selector, selector_matches},
    mutate::Mutation,
    path::Path,
    policy::FailureAction,
    variables::{Context, Template},
};
use muster_core::selector::{LabelSelector, Labels};
use serde_json::Value;
use std::borrow::Cow;

/// A rule's name, as in Kyverno.
const MAX_RULE_NAME: usize = 63;

/// An action for some namespaces.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ActionOverride {
    pub action: FailureAction,
    namespaces: Vec<String>,
    namespace_selector: Option<LabelSelector>,
}

/// Which objects a rule is about.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum About {
    /// `match` and `exclude` of Kyverno's own rules.
    Filters(Box<Filters>),
    /// `matchConstraints` of the kinds that follow Kubernetes.
    Constraints(Constraints),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Filters {
    pub matching: MatchBlock,
    pub exclude: Option<MatchBlock>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rule {
    pub name: String,
    pub about: About,
    pub kind: BodyKind,
    pub body: Body,
    /// What has to hold before the body is asked.
    pub gate: Gate,
    pub message: Message,
    pub action: Option<FailureAction>,
    pub overrides: Vec<ActionOverride>,
    /// Whether a change passes that breaks the rule no otherwise than the object did before.
    pub allows_existing_violations: bool,
    /// Where the Pod is that the rule is about, for a rule that autogen added.
    pub template: Option<autogen::Template>,
    /// What a `mutate` rule changes, where it is understood.
    pub mutation: Option<Mutation>,
    /// A mutation by JSON patch, which switches autogen off for the policy.
    pub patches_json: bool,
}

impl About {
    /// Kinds outside of which the rule has no answer.
    pub fn kinds(&self) -> Kinds<'_> {
        match self {
            Self::Filters(filters) => filters.matching.kinds(),
            Self::Constraints(constraints) => constraints.kinds(),
        }
    }
}

impl Rule {
    /// A rule of the kinds that are CEL as a whole.
    pub fn in_cel(name: String, about: About, kind: BodyKind, body: Body) -> Self {
        Self {
            name,
            about,
            kind,
            body,
            gate: Gate::default(),
            message: Message::parse(""),
            action: None,
            overrides: Vec::new(),
            allows_existing_violations: false,
            template: None,
            mutation: None,
            patches_json: false,
        }
    }

    /// Reads a rule of a `ClusterPolicy` or `Policy`.
    pub fn parse(rule: &Field<'_>) -> Result<Self, PolicyError> {
        let name = rule.get("name").required_text()?;
        if name.len() > MAX_RULE_NAME {
            return Err(rule.get("name").error(format!("is longer than {MAX_RULE_NAME} characters")));
        }
        let matching = rule.get("match");
        if matching.value().is_none() {
            return Err(matching.error("is missing"));
        }
        let validate = rule.get("validate");
        let (kind, mut body) = Body::parse(rule)?;
        let gate = Gate::parse(rule)?.unwrap_or_else(|reason| {
            // A body that is not understood says so itself.
            if !matches!(body, Body::Unknown(_)) {
                body = Body::Unknown(reason);
            }
            Gate::default()
        });
        let mutate = rule.get("mutate");
        let mutation = mutate.value().map(|_| Mutation::parse(&mutate, 0)).transpose()?.and_then(Result::ok);
        let patches_json = mutate.get("patchesJson6902").value().is_some()
            || mutate.get("foreach").list()?.iter().any(|each| each.get("patchesJson6902").value().is_some());
        let exclude = rule.get("exclude");
        let filters = Filters {
            matching: MatchBlock::parse(&matching)?,
            exclude: exclude.value().map(|_| MatchBlock::parse(&exclude)).transpose()?,
        };
        Ok(Self {
            name,
            about: About::Filters(Box::new(filters)),
            kind,
            body,
            gate,
            message: Message::parse(&validate.get("message").text()?.unwrap_or_default()),
            action: action(&validate.get("failureAction"))?,
            overrides: overrides(&validate.get("failureActionOverrides"))?,
            allows_existing_violations: validate.get("allowExistingViolations").value() != Some(&Value::Bool(false)),
            template: None,
            mutation,
            patches_json,
        })
    }

    /// What it says of an object it is about; `None` where it says nothing at all.
    ///
    /// `exceptions` are those that name the rule.
    pub fn judge(&self, request: &Request<'_>, facts: &Facts<'_>, exceptions: &[&PolicyException]) -> Option<Outcome> {
        if let Body::Unknown(reason) = &self.body {
            return Some(Outcome::NotEvaluated { reason: reason.clone() });
        }
        if exceptions.is_empty()
            && self.gate.is_open()
            && let Some(outcome) = self.body.judge_as_written(self, request)
        {
            return Some(self.placed(outcome));
        }
        let mut context = Context::new(request, &self.name);
        if let Some(outcome) = self.gate.judge(&mut context) {
            return Some(outcome);
        }
        let applying: Vec<&PolicyException> =
            exceptions.iter().copied().filter(|exception| exception.applies(facts, &mut context)).collect();
        let is_partial = |exception: &PolicyException| self.kind == BodyKind::PodSecurity && !exception.exemptions().is_empty();
        if let Some(exception) = applying.iter().find(|exception| !is_partial(exception)) {
            return Some(exception.excuse());
        }
        self.body.judge(self, &mut context, &applying).map(|outcome| self.placed(outcome))
    }

    /// What says no place is about the whole Pod, which is the template.
    fn placed(&self, outcome: Outcome) -> Outcome {
        match (outcome, self.template) {
            (Outcome::Fail { path, message, detail }, Some(template)) if path.steps().is_empty() => {
                Outcome::Fail { path: Path::of_keys(template.path()), message, detail }
            }
            (outcome, _) => outcome,
        }
    }

    /// Whether it is about an object.
    pub fn is_about(&self, facts: &Facts<'_>) -> Truth {
        match &self.about {
            About::Constraints(constraints) => constraints.match_object(facts),
            About::Filters(filters) => {
                let Filters { matching, exclude } = &**filters;
                let included = matching.includes(facts);
                if included == Truth::No {
                    return Truth::No;
                }
                match exclude.as_ref().map_or(Truth::No, |exclude| exclude.excludes(facts)) {
                    Truth::Yes => Truth::No,
                    Truth::No => included,
                    Truth::Unknown => Truth::Unknown,
                }
            }
        }
    }
}

/// A rule's message, with variables.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Message {
    /// As it is written.
    pub text: String,
    template: Option<Template>,
}

impl Message {
    pub fn parse(text: &str) -> Self {
        let template = Template::text(text).ok().filter(|template| template.fixed().is_none());
        Self { text: text.to_owned(), template }
    }

    /// The message, where it has no variables.
    pub fn fixed(&self) -> Option<&str> {
        self.template.is_none().then_some(&*self.text)
    }

    /// The message with its variables put in; an error where one has no value.
    pub fn resolve(&self, context: &mut Context<'_>) -> Result<Cow<'_, str>, JmesError> {
        match &self.template {
            None => Ok(Cow::Borrowed(&self.text)),
            Some(template) => template.resolve_to_text(context).map(Cow::Owned),
        }
    }
}

impl ActionOverride {
    pub fn applies(&self, facts: &Facts<'_>) -> bool {
        let none = Labels::new();
        let labels = facts.namespace_labels.unwrap_or(&none);
        let selected = self.namespace_selector.as_ref().map(|selector| selector_matches(selector, labels));
        if self.namespaces.is_empty() {
            return selected == Some(true);
        }
        namespace_matches(&self.namespaces, facts.namespace()) && selected != Some(false)
    }
}

pub fn action(field: &Field<'_>) -> Result<Option<FailureAction>, PolicyError> {
    let Some(text) = field.text()?.filter(|text| !text.is_empty()) else { return Ok(None) };
    FailureAction::parse(&text).map(Some).ok_or_else(|| field.error(format!("{text:?} is not Audit or Enforce")))
}

pub fn overrides(field: &Field<'_>) -> Result<Vec<ActionOverride>, PolicyError> {
    field
        .list()?
        .iter()
        .map(|entry| {
            Ok(ActionOverride {
                action: action(&entry.get("action"))?.ok_or_else(|| entry.get("action").error("is missing"))?,
                namespaces: entry.get("namespaces").texts()?,
                namespace_selector: selector(&entry.get("namespaceSelector"))?,
            })
        })
        .collect()
}
