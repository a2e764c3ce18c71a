//! Running an expression.
//!
//! A missing field is [`JmesError::NotFound`]. As in Kyverno it ends a path, and is null to everything else: to
//! alternatives, filters, projections, pipes, comparisons and functions.

use super::{JmesError, MAX_STEPS, Program, functions, number::same};
use crate::{expression::NoValue, facts};
use jiff::Timestamp;
use jmespath::ast::{Ast, Comparator};
use serde_json::{Map, Value};
use std::{borrow::Cow, cell::Cell, rc::Rc};

/// What an expression starts from: names whose values need not stand in one document. Values are borrowed for `'v`, which may be
/// longer than the scope itself lasts.
pub trait Scope<'v> {
    /// The value of a name.
    fn field(&self, name: &str) -> Result<Item<'v>, JmesError>;
    /// All of it as one document, for the rare expression that takes it whole.
    fn whole(&self) -> Value;
}

/// A value on the way.
#[derive(Clone)]
pub enum Item<'v> {
    /// Names, not yet a document.
    Scope(Rc<dyn Scope<'v> + 'v>),
    /// A value, of a document or made.
    Value(Cow<'v, Value>),
    /// A list of values, not yet one value: most lists are only walked through.
    List(Vec<Cow<'v, Value>>),
}

impl<'v> Item<'v> {
    /// The names of a scope.
    pub fn names(scope: impl Scope<'v> + 'v) -> Self {
        Self::Scope(Rc::new(scope))
    }

    /// A value of a document.
    pub fn of(value: &'v Value) -> Self {
        Self::Value(Cow::Borrowed(value))
    }

    fn made(value: Value) -> Self {
        Self::Value(Cow::Owned(value))
    }

    /// The value itself; whoever takes a list together has counted that work.
    pub fn into_value(self) -> Cow<'v, Value> {
        match self {
            Self::Scope(scope) => Cow::Owned(scope.whole()),
            Self::Value(value) => value,
            Self::List(items) => Cow::Owned(items.into_iter().map(Cow::into_owned).collect()),
        }
    }

    fn is_null(&self) -> bool {
        matches!(self, Self::Value(value) if value.is_null())
    }
}

type Outcome<'v> = Result<Item<'v>, JmesError>;

const NULL: Value = Value::Null;

/// One run, with its bound on work.
pub struct Evaluation<'p> {
    program: &'p Program,
    steps: &'p Cell<u64>,
    /// What time it is, for the functions that ask.
    pub now: Option<Timestamp>,
}

impl<'p> Evaluation<'p> {
    /// A run that shares its bound with others: `steps` are those taken so far.
    pub fn new(program: &'p Program, steps: &'p Cell<u64>, now: Option<Timestamp>) -> Self {
        Self { program, steps, now }
    }

    /// The value of the expression.
    pub fn run<'v>(&self, root: Item<'v>) -> Result<Cow<'v, Value>, JmesError> {
        self.value(self.node(&self.program.ast, root)?)
    }

    /// The elements of the list that the expression is. They are not taken together: those of a document are not copied. What is no
    /// list is its own only element.
    pub fn elements<'v>(&self, root: Item<'v>) -> Result<Vec<Cow<'v, Value>>, JmesError> {
        Ok(match self.node(&self.program.ast, root)? {
            Item::List(items) => items,
            Item::Value(Cow::Borrowed(Value::Array(items))) => items.iter().map(Cow::Borrowed).collect(),
            Item::Value(Cow::Owned(Value::Array(items))) => items.into_iter().map(Cow::Owned).collect(),
            single => vec![self.value(single)?],
        })
    }

    /// The value of an item, with the work of taking a list or the names together.
    pub fn value<'v>(&self, item: Item<'v>) -> Result<Cow<'v, Value>, JmesError> {
        if let Item::List(items) = &item {
            self.charge(items.iter().map(|item| weight(item)).sum())?;
        }
        let is_scope = matches!(item, Item::Scope(_));
        let value = item.into_value();
        if is_scope {
            self.charge(weight(&value))?;
        }
        Ok(value)
    }

    /// Counts work, and ends the run past its bound.
    pub fn charge(&self, steps: usize) -> Result<(), JmesError> {
        let taken = self.steps.get().saturating_add(steps as u64);
        self.steps.set(taken);
        if taken > MAX_STEPS { Err(NoValue::TooCostly.into()) } else { Ok(()) }
    }

    /// The value of a node where a missing field counts as null.
    pub fn node_or_null<'v>(&self, node: &Ast, data: Item<'v>) -> Outcome<'v> {
        match self.node(node, data) {
            Err(JmesError::NotFound(_)) => Ok(Item::of(&NULL)),
            other => other,
        }
    }

    fn node<'v>(&self, node: &Ast, data: Item<'v>) -> Outcome<'v> {
        self.charge(1)?;
        match node {
            Ast::Field { name, .. } => self.field(data, name),
            Ast::Identity { .. } => Ok(data),
            Ast::Literal { offset, .. } => {
                let value = self.program.literals.get(offset).cloned().unwrap_or_default();
                self.charge(weight(&value))?;
                Ok(Item::made(value))
            }
            Ast::Subexpr { lhs, rhs, offset } => {
                let is_pipe = self.program.is_pipe(*offset);
                let left = if is_pipe { self.node_or_null(lhs, data) } else { self.node(lhs, data) }?;
                match (is_pipe, left.is_null()) {
                    (false, true) => Ok(left),
                    (false, false) => self.node(rhs, left),
                    (true, _) => self.node_or_null(rhs, left),
                }
            }
            Ast::Index { idx, .. } => Ok(match data {
                Item::List(mut items) => {
                    position(*idx, items.len()).map_or(Item::of(&NULL), |at| Item::Value(items.swap_remove(at)))
                }
                other => element(self.value(other)?, *idx),
            }),
            Ast::Or { lhs, rhs, .. } => {
                let left = self.node_or_null(lhs, data.clone())?;
                if is_true(&left) { Ok(left) } else { self.node_or_null(rhs, data) }
            }
            Ast::And { lhs, rhs, .. } => {
                let left = self.node_or_null(lhs, data.clone())?;
                if is_true(&left) { self.node(rhs, data) } else { Ok(left) }
            }
            Ast::Not { node, .. } => Ok(Item::made(Value::Bool(!is_true(&self.node_or_null(node, data)?)))),
            Ast::Condition { predicate, then, .. } => {
                let holds = is_true(&self.node_or_null(predicate, data.clone())?);
                if holds { self.node(then, data) } else { Ok(Item::of(&NULL)) }
            }
            Ast::Comparison { comparator, lhs, rhs, .. } => {
                let left = self.value(self.node_or_null(lhs, data.clone())?)?;
                let right = self.value(self.node_or_null(rhs, data)?)?;
                if matches!(*left, Value::Array(_) | Value::Object(_)) {
                    self.charge(weight(&left))?;
                }
                Ok(Item::made(compare(comparator, &left, &right)))
            }
            Ast::ObjectValues { node, .. } => Ok(match self.value(self.node_or_null(node, data)?)? {
                Cow::Borrowed(Value::Object(fields)) => Item::List(fields.values().map(Cow::Borrowed).collect()),
                Cow::Owned(Value::Object(fields)) => Item::List(fields.into_iter().map(|(_, value)| Cow::Owned(value)).collect()),
                _ => Item::of(&NULL),
            }),
            Ast::Projection { lhs, rhs, .. } => self.projection(lhs, rhs, data),
            Ast::Flatten { node, .. } => {
                let Ok(list) = self.recoverable(self.node(node, data))? else { return Ok(Item::of(&NULL)) };
                self.flattened(list)
            }
            Ast::MultiList { elements, .. } => {
                let mut made = Vec::with_capacity(elements.len());
                for element in elements {
                    made.push(self.value(self.node_or_null(element, data.clone())?)?);
                }
                Ok(Item::List(made))
            }
            Ast::MultiHash { elements, .. } => {
                let mut made = Map::new();
                for pair in elements {
                    let value = self.value(self.node_or_null(&pair.value, data.clone())?)?;
                    self.charge(weight(&value))?;
                    made.insert(pair.key.clone(), value.into_owned());
                }
                Ok(Item::made(Value::Object(made)))
            }
            Ast::Function { name, args, .. } => functions::call(self, name, args, data).map(Item::Value),
            Ast::Expref { .. } => Err(JmesError::failed("a reference to an expression is no value")),
            Ast::Slice { start, stop, step, .. } => slice(self.value(data)?, *start, *stop, *step),
        }
    }

    /// What a flattened or filtered list makes of whatever goes wrong on its left: nothing is there. Only the bound on
    /// work and what was not given get through.
    fn recoverable<'v>(&self, outcome: Outcome<'v>) -> Result<Outcome<'v>, JmesError> {
        match outcome {
            Err(error @ JmesError::NoValue(NoValue::TooCostly | NoValue::NotGiven(_))) => Err(error),
            other => Ok(other),
        }
    }

    fn field<'v>(&self, data: Item<'v>, name: &str) -> Outcome<'v> {
        let missing = || JmesError::NotFound(name.to_owned());
        match data {
            Item::Scope(scope) => scope.field(name),
            Item::Value(Cow::Borrowed(Value::Object(fields))) => facts::field(fields, name).map(Item::of).ok_or_else(missing),
            Item::Value(Cow::Owned(Value::Object(mut fields))) => fields.remove(name).map(Item::made).ok_or_else(missing),
            Item::Value(_) | Item::List(_) => Ok(Item::of(&NULL)),
        }
    }

    fn projection<'v>(&self, lhs: &Ast, rhs: &Ast, data: Item<'v>) -> Outcome<'v> {
        let left = match (self.recoverable(self.node(lhs, data))?, rhs) {
            (Ok(left), _) => left,
            (Err(JmesError::NotFound(_)), _) | (Err(_), Ast::Condition { .. }) => return Ok(Item::of(&NULL)),
            (Err(error), _) => return Err(error),
        };
        let Some(items) = list_of(left) else { return Ok(Item::of(&NULL)) };
        let mut collected = Vec::new();
        for item in items {
            let value = self.value(self.node_or_null(rhs, Item::Value(item))?)?;
            if !value.is_null() {
                collected.push(value);
            }
        }
        Ok(Item::List(collected))
    }

    fn flattened<'v>(&self, list: Item<'v>) -> Outcome<'v> {
        let Some(items) = list_of(list) else { return Ok(Item::of(&NULL)) };
        let mut flat = Vec::with_capacity(items.len());
        for item in items {
            match item {
                Cow::Borrowed(Value::Array(inner)) => flat.extend(inner.iter().map(Cow::Borrowed)),
                Cow::Owned(Value::Array(inner)) => flat.extend(inner.into_iter().map(Cow::Owned)),
                other => flat.push(other),
            }
        }
        self.charge(flat.len())?;
        Ok(Item::List(flat))
    }
}

/// The elements of a list; `None` for what is none.
fn list_of(item: Item<'_>) -> Option<Vec<Cow<'_, Value>>> {
    match item {
        Item::List(items) => Some(items),
        Item::Value(Cow::Borrowed(Value::Array(items))) => Some(items.iter().map(Cow::Borrowed).collect()),
        Item::Value(Cow::Owned(Value::Array(items))) => Some(items.into_iter().map(Cow::Owned).collect()),
        Item::Scope(_) | Item::Value(_) => None,
    }
}

/// What a value costs to copy: its nodes, and its text in sixteens.
pub fn weight(value: &Value) -> usize {
    match value {
        Value::String(text) => 1 + text.len() / 16,
        Value::Array(items) => 1 + items.iter().map(weight).sum::<usize>(),
        Value::Object(fields) => 1 + fields.iter().map(|(key, value)| 1 + key.len() / 16 + weight(value)).sum::<usize>(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 1,
    }
}

/// False are null, `false`, and the empty text, list and mapping; zero is not.
fn is_true(item: &Item<'_>) -> bool {
    match item {
        Item::Scope(_) => true,
        Item::List(items) => !items.is_empty(),
        Item::Value(value) => match &**value {
            Value::Null => false,
            Value::Bool(set) => *set,
            Value::String(text) => !text.is_empty(),
            Value::Array(items) => !items.is_empty(),
            Value::Object(fields) => !fields.is_empty(),
            Value::Number(_) => true,
        },
    }
}

fn compare(comparator: &Comparator, left: &Value, right: &Value) -> Value {
    let numbers = || Some((left.as_f64()?, right.as_f64()?));
    let ordered = |holds: fn(&f64, &f64) -> bool| numbers().map_or(Value::Null, |(a, b)| Value::Bool(holds(&a, &b)));
    match comparator {
        Comparator::Equal => Value::Bool(same(left, right)),
        Comparator::NotEqual => Value::Bool(!same(left, right)),
        Comparator::LessThan => ordered(f64::lt),
        Comparator::LessThanEqual => ordered(f64::le),
        Comparator::GreaterThan => ordered(f64::gt),
        Comparator::GreaterThanEqual => ordered(f64::ge),
    }
}

/// Where an index is in a list, from the back where it is negative.
fn position(index: i32, length: usize) -> Option<usize> {
    let index = i64::from(index);
    usize::try_from(if index < 0 { index + length as i64 } else { index }).ok().filter(|at| *at < length)
}

fn element(list: Cow<'_, Value>, index: i32) -> Item<'_> {
    match list {
        Cow::Borrowed(Value::Array(items)) => position(index, items.len()).map_or(Item::of(&NULL), |at| Item::of(&items[at])),
        Cow::Owned(Value::Array(mut items)) => {
            position(index, items.len()).map_or(Item::of(&NULL), |at| Item::made(items.swap_remove(at)))
        }
        _ => Item::of(&NULL),
    }
}

fn slice(list: Cow<'_, Value>, start: Option<i32>, stop: Option<i32>, step: i32) -> Outcome<'_> {
    if step == 0 {
        return Err(JmesError::failed("the step of a slice is 0"));
    }
    let Value::Array(items) = &*list else { return Ok(Item::of(&NULL)) };
    let length = items.len() as i64;
    // As in Python: a negative end counts from the back, and no end reaches beyond the list.
    let clamp = |end: Option<i32>, otherwise: i64| {
        let Some(end) = end.map(i64::from) else { return otherwise };
        let end = if end < 0 { end + length } else { end };
        if step > 0 { end.clamp(0, length) } else { end.clamp(-1, length - 1) }
    };
    let forward = step > 0;
    let (mut at, stop) =
        if forward { (clamp(start, 0), clamp(stop, length)) } else { (clamp(start, length - 1), clamp(stop, -1)) };
    let mut taken = Vec::new();
    while if forward { at < stop } else { at > stop } {
        taken.extend(usize::try_from(at).ok().and_then(|at| items.get(at)).cloned());
        at += i64::from(step);
    }
    Ok(Item::made(Value::Array(taken)))
}
