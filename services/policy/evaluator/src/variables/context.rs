//! What the variables of a rule are, while it judges one object.
//!
//! The object is not copied: `request` is a set of names. Entries of `context` are loaded when an expression names them,
//! so that one nobody asks for cannot go wrong.

use super::{Entries, Entry, answers, images::images};
use crate::{
    Operation, Request,
    expression::NoValue,
    inventory::{Inventory, plural},
    jmespath::{Evaluation, Item, JmesError, MAX_STEPS, Program, Scope, weight},
};
use serde_json::{Map, Value, json};
use std::{
    borrow::Cow,
    cell::{Cell, OnceCell},
    rc::Rc,
};

/// Entries that load each other.
const MAX_LOAD_DEPTH: usize = 30;

/// The variables of one rule and one object.
pub struct Context<'a> {
    request: Request<'a>,
    rule: &'a str,
    steps: Cell<u64>,
    images: OnceCell<Option<Value>>,
    /// `request` as a document, where values told beforehand change it.
    changed_request: Option<Value>,
    /// The rule's own names.
    own: Level<'a>,
    /// Those of elements gone into, outermost first.
    inner: Vec<Level<'a>>,
    load_depth: usize,
}

/// The rule's own names, or those of one element of a `foreach`.
#[derive(Default)]
struct Level<'a> {
    values: Map<String, Value>,
    element: Option<Element<'a>>,
    pending: Vec<(&'a Entry, Loaded)>,
}

/// An element of a `foreach`, also known by its depth: `element0`, `elementIndex0` for the outermost.
struct Element<'a> {
    value: Rc<Cow<'a, Value>>,
    index: Value,
    depth: usize,
}

impl Element<'_> {
    fn field(&self, name: &str) -> Option<&Value> {
        let rest = name.strip_prefix("element")?;
        let (rest, value) = rest.strip_prefix("Index").map_or((rest, &**self.value), |rest| (rest, &self.index));
        (rest.is_empty() || rest.parse() == Ok(self.depth)).then_some(value)
    }
}

impl Level<'_> {
    fn is_empty(&self) -> bool {
        self.values.is_empty() && self.element.is_none() && self.pending.is_empty()
    }

    fn field(&self, name: &str) -> Option<&Value> {
        self.values.get(name).or_else(|| self.element.as_ref()?.field(name))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Loaded {
    Not,
    Yes,
}

impl<'a> Context<'a> {
    /// The variables of a rule, whose name is that with autogen's prefix.
    pub fn new(request: &Request<'a>, rule: &'a str) -> Self {
        let mut context = Self {
            request: *request,
            rule,
            steps: Cell::new(0),
            images: OnceCell::new(),
            changed_request: None,
            own: Level::default(),
            inner: Vec::new(),
            load_depth: 0,
        };
        if let Some(answers) = request.answers {
            context.tell(answers.for_rule(rule));
        }
        context
    }

    fn tell<'v>(&mut self, told: impl Iterator<Item = (&'v str, &'v Value)>) {
        for (name, value) in told {
            let parts = answers::parts(name);
            match parts.as_slice() {
                [first, rest @ ..] if first == "request" && !rest.is_empty() => {
                    if self.changed_request.is_none() {
                        self.changed_request = Some(RequestScope(self.request).whole());
                    }
                    if let Some(Value::Object(request)) = &mut self.changed_request {
                        answers::insert(request, rest, value.clone());
                    }
                }
                parts => {
                    answers::insert(&mut self.innermost().values, parts, value.clone());
                }
            }
        }
    }

    /// Adds the entries of a `context`; those told beforehand stay as told.
    pub fn add_entries(&mut self, entries: &'a Entries) {
        if entries.is_empty() {
            return;
        }
        let told: Vec<&str> = self.request.answers.map_or_else(Vec::new, |answers| {
            answers
                .for_rule(self.rule)
                .map(|(name, _)| name)
                .chain(answers.for_element(self.rule, 0).map(|(name, _)| name))
                .collect()
        });
        for entry in entries {
            let is_told = entry.is_outside() && told.iter().any(|name| entry.is_named_by(name));
            if !is_told {
                self.innermost().pending.push((entry, Loaded::Not));
            }
        }
    }

    /// Goes into an element of a `foreach`; `depth` is 0 for the outermost.
    pub fn enter(&mut self, element: Rc<Cow<'a, Value>>, index: usize, depth: usize) {
        let element = Element { value: element, index: index.into(), depth };
        self.inner.push(Level { element: Some(element), ..Level::default() });
        if let Some(answers) = self.request.answers {
            self.tell(answers.for_element(self.rule, index));
        }
    }

    /// Leaves the element entered last.
    pub fn leave(&mut self) {
        self.inner.pop();
    }

    /// What is judged.
    pub fn request(&self) -> &Request<'a> {
        &self.request
    }

    /// What stands for the cluster.
    pub fn inventory(&self) -> Option<&'a Inventory> {
        self.request.inventory
    }

    /// Counts work, and ends the rule past its bound.
    pub fn charge(&self, steps: usize) -> Result<(), JmesError> {
        let taken = self.steps.get().saturating_add(steps as u64);
        self.steps.set(taken);
        if taken > MAX_STEPS { Err(NoValue::TooCostly.into()) } else { Ok(()) }
    }

    /// The value of an expression.
    pub fn query(&mut self, program: &Program) -> Result<Value, JmesError> {
        self.load(program)?;
        let evaluation = Evaluation::new(program, &self.steps, self.request.now);
        let value = evaluation.run(Item::names(&*self))?;
        self.charge(weight(&value))?;
        Ok(value.into_owned())
    }

    /// The elements of the list that an expression is; what is no list is its own only element. As long as the rule has no names
    /// of its own, those of the object are not copied.
    pub fn elements(&mut self, program: &Program) -> Result<Vec<Cow<'a, Value>>, JmesError> {
        let has_own_names = !self.inner.is_empty() || self.changed_request.is_some() || !self.own.is_empty();
        if !has_own_names {
            let evaluation = Evaluation::new(program, &self.steps, self.request.now);
            return evaluation.elements(Item::names(GivenNames(self.request)));
        }
        Ok(match self.query(program)? {
            Value::Array(items) => items.into_iter().map(Cow::Owned).collect(),
            single => vec![Cow::Owned(single)],
        })
    }

    /// The value of an expression that is known only now.
    pub fn query_text(&mut self, text: &str) -> Result<Value, JmesError> {
        self.charge(text.len())?;
        self.query(&Program::compile(text)?)
    }

    /// The value of an expression about a document of its own.
    pub fn search(&mut self, program: &Program, document: &Value) -> Result<Value, JmesError> {
        Evaluation::new(program, &self.steps, self.request.now).run(Item::of(document)).map(Cow::into_owned)
    }

    fn innermost(&mut self) -> &mut Level<'a> {
        self.inner.last_mut().unwrap_or(&mut self.own)
    }

    /// A level by its depth, the rule's own being 0.
    fn level(&mut self, depth: usize) -> &mut Level<'a> {
        match depth.checked_sub(1).and_then(|inner| self.inner.get_mut(inner)) {
            Some(level) => level,
            None => &mut self.own,
        }
    }

    fn load(&mut self, program: &Program) -> Result<(), JmesError> {
        for level in 0..=self.inner.len() {
            for index in 0..self.level(level).pending.len() {
                let (entry, loaded) = self.level(level).pending[index];
                if loaded == Loaded::Yes || !program.names().contains(&entry.name) {
                    continue;
                }
                if self.load_depth >= MAX_LOAD_DEPTH {
                    return Err(JmesError::failed(format!("more than {MAX_LOAD_DEPTH} context entries stand on each other")));
                }
                // Loaded from now on: an entry that names itself finds what stood there before.
                self.level(level).pending[index].1 = Loaded::Yes;
                self.load_depth += 1;
                let value = entry.load(self);
                self.load_depth -= 1;
                match value {
                    Ok(value) => {
                        self.level(level).values.insert(entry.name.clone(), value);
                    }
                    Err(error) => {
                        self.level(level).pending[index].1 = Loaded::Not;
                        return Err(error);
                    }
                }
            }
        }
        Ok(())
    }
}

impl<'v, 'a: 'v> Scope<'v> for &'v Context<'a> {
    fn field(&self, name: &str) -> Result<Item<'v>, JmesError> {
        let context: &'v Context<'a> = self;
        let inner = context.inner.iter().rev().find_map(|level| level.field(name));
        if let Some(value) = inner.or_else(|| context.own.values.get(name)) {
            return Ok(Item::of(value));
        }
        match (name, &context.changed_request) {
            ("request", Some(changed)) => Ok(Item::of(changed)),
            ("images", _) => {
                let images = context.images.get_or_init(|| images(context.request.object)).as_ref();
                images.map(Item::of).ok_or_else(|| JmesError::NotFound(name.to_owned()))
            }
            _ => GivenNames(context.request).field(name),
        }
    }

    fn whole(&self) -> Value {
        let mut fields = Map::new();
        for name in ["request", "images"] {
            if let Ok(item) = self.field(name) {
                fields.insert(name.to_owned(), item.into_value().into_owned());
            }
        }
        for level in std::iter::once(&self.own).chain(&self.inner) {
            fields.extend(level.values.clone());
            let element =
                level.element.iter().flat_map(|element| [("element", &**element.value), ("elementIndex", &element.index)]);
            fields.extend(element.map(|(name, value)| (name.to_owned(), value.clone())));
        }
        Value::Object(fields)
    }
}

/// The names that every rule has.
struct GivenNames<'a>(Request<'a>);

impl<'a> Scope<'a> for GivenNames<'a> {
    fn field(&self, name: &str) -> Result<Item<'a>, JmesError> {
        let missing = || JmesError::NotFound(name.to_owned());
        match name {
            "request" => Ok(Item::names(RequestScope(self.0))),
            "images" => images(self.0.object).map(made).ok_or_else(missing),
            "serviceAccountName" | "serviceAccountNamespace" => {
                let user = self.0.user.ok_or_else(who)?;
                let account = user.username.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
                let (namespace, account) = account.unwrap_or_default();
                Ok(made(if name == "serviceAccountName" { account } else { namespace }))
            }
            _ => Err(missing()),
        }
    }

    fn whole(&self) -> Value {
        let known = ["request", "images"].into_iter();
        let known = known.filter_map(|name| Some((name.to_owned(), self.field(name).ok()?.into_value().into_owned())));
        Value::Object(known.collect())
    }
}

fn who() -> JmesError {
    JmesError::not_given("it asks who makes the request")
}

fn made<'v>(value: impl Into<Value>) -> Item<'v> {
    Item::Value(Cow::Owned(value.into()))
}

/// `request` as the API server fills it.
struct RequestScope<'a>(Request<'a>);

const NAMES: [&str; 12] = [
    "object",
    "oldObject",
    "operation",
    "namespace",
    "name",
    "kind",
    "resource",
    "subResource",
    "dryRun",
    "userInfo",
    "roles",
    "clusterRoles",
];

impl<'a> Scope<'a> for RequestScope<'a> {
    fn field(&self, name: &str) -> Result<Item<'a>, JmesError> {
        let request = &self.0;
        let is_delete = request.operation == Operation::Delete;
        let api_version = request.text("/apiVersion");
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let kind = request.text("/kind");
        let missing = || JmesError::NotFound(name.to_owned());
        match name {
            // Kyverno reads the old object where a deletion is asked for the new one.
            "object" => Ok(Item::of(request.object)),
            "oldObject" if is_delete => Ok(Item::of(request.old_object.unwrap_or(request.object))),
            "oldObject" => request.old_object.map(Item::of).ok_or_else(missing),
            "operation" => Ok(made(request.operation.to_string())),
            "namespace" if kind == "Namespace" => Ok(made(request.text("/metadata/name"))),
            "namespace" => Ok(made(request.text("/metadata/namespace"))),
            "name" => Ok(made(request.text("/metadata/name"))),
            "kind" => Ok(made(json!({"group": group, "version": version, "kind": kind}))),
            "resource" => Ok(made(json!({"group": group, "version": version, "resource": plural(kind)}))),
            "subResource" => Ok(made(request.subresource)),
            "dryRun" => Ok(made(false)),
            "userInfo" => {
                let user = request.user.ok_or_else(who)?;
                Ok(made(json!({"username": user.username, "groups": user.groups})))
            }
            "roles" => Ok(made(request.user.ok_or_else(who)?.roles.clone())),
            "clusterRoles" => Ok(made(request.user.ok_or_else(who)?.cluster_roles.clone())),
            _ => Err(missing()),
        }
    }

    fn whole(&self) -> Value {
        let known = NAMES.iter().filter_map(|name| Some(((*name).to_owned(), self.field(name).ok()?.into_value().into_owned())));
        Value::Object(known.collect())
    }
}
