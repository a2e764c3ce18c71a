//! Running a compiled expression. Every step is counted, so that no expression runs for long, and what it makes is
//! counted too, so that none makes much.

use super::{
    MAX_STEPS, NoValue, Program, Val,
    arithmetic::overflow,
    functions::Run,
    optional::Selected,
    tree::{Access, Comprehension, Node, Over, Root},
};
use jiff::Timestamp;
use serde_json::Value;
use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

/// Nesting of an expression and of the variables that are being computed for it, together: what every stack has room for,
/// also in builds that are not optimised.
const MAX_DEPTH: usize = 140;

pub type Evaluated<'a> = Result<Val<'a>, NoValue>;

/// What the names at the root of expressions stand for.
#[derive(Clone, Copy)]
pub struct Roots<'a> {
    pub object: &'a Value,
    pub old_object: &'a Value,
    pub request: &'a Value,
    /// `None`: the namespace is not known.
    pub namespace_object: Option<&'a Value>,
    pub params: &'a Value,
    /// The policy's variables, each computed when it is first read.
    pub variables: &'a BTreeMap<String, Program>,
    /// What stands for the cluster; `None`: nothing was given.
    pub inventory: Option<&'a crate::Inventory>,
    pub now: Option<Timestamp>,
}

/// Which of the two connectives.
#[derive(Clone, Copy)]
enum Logic {
    And,
    Or,
}

/// The expressions of one rule over one object: they share variables and the bound on steps.
pub struct Evaluation<'a> {
    pub roots: Roots<'a>,
    steps: u64,
    /// Of the expressions that are being computed because of each other.
    depth: usize,
    locals: Vec<Val<'a>>,
    /// Variables computed, and `None` for those that are being computed.
    computed: RefCell<BTreeMap<&'a str, Option<Evaluated<'a>>>>,
}

impl<'a> Evaluation<'a> {
    pub fn new(roots: Roots<'a>) -> Self {
        Self { roots, steps: 0, depth: 0, locals: Vec::new(), computed: RefCell::default() }
    }

    /// The value of an expression.
    pub fn value(&mut self, program: &'a Program) -> Evaluated<'a> {
        if self.depth + program.depth > MAX_DEPTH {
            return Err(NoValue::failed(format!("variables stand on each other deeper than {MAX_DEPTH} levels")));
        }
        self.depth += program.depth;
        let outer = std::mem::take(&mut self.locals);
        let value = self.node(&program.node);
        self.locals = outer;
        self.depth -= program.depth;
        value
    }

    /// The value of an expression that must be true or false.
    pub fn truth(&mut self, program: &'a Program) -> Result<bool, NoValue> {
        match self.value(program)? {
            Val::Bool(set) => Ok(set),
            other => Err(NoValue::failed(format!("the expression gives a {}, not true or false", other.type_name()))),
        }
    }

    /// Counts work done or values made.
    pub fn charge(&mut self, steps: usize) -> Result<(), NoValue> {
        self.steps = self.steps.saturating_add(steps as u64);
        if self.steps > MAX_STEPS { Err(NoValue::TooCostly) } else { Ok(()) }
    }

    pub(super) fn node(&mut self, node: &'a Node) -> Evaluated<'a> {
        self.charge(1)?;
        match node {
            Node::Constant(constant) => Ok(constant.value()),
            Node::Root(root) => self.root(*root),
            Node::Variable(name) => self.variable(name),
            Node::Local(slot) => {
                self.locals.get(*slot).cloned().ok_or_else(|| NoValue::failed("a name is read outside its scope"))
            }
            Node::Field { .. } | Node::Index { .. } => self.selected(node).map(Selected::into_value),
            Node::Has { operand, name } => match self.selected(operand)? {
                Selected::Absent => Ok(Val::Bool(false)),
                Selected::Optional(value) | Selected::Plain(value) => Ok(Val::Bool(value.field(name)?.is_some())),
            },
            Node::And(sides) => self.either(sides, Logic::And),
            Node::Or(sides) => self.either(sides, Logic::Or),
            Node::Not(operand) => match self.node(operand)? {
                Val::Bool(set) => Ok(Val::Bool(!set)),
                other => Err(NoValue::overload("!_", &[other])),
            },
            Node::Negate(operand) => match self.node(operand)? {
                Val::Int(number) => number.checked_neg().map(Val::Int).ok_or_else(overflow),
                Val::Double(number) => Ok(Val::Double(-number)),
                other => Err(NoValue::overload("-_", &[other])),
            },
            Node::Conditional(parts) => {
                let [condition, yes, no] = &**parts;
                match self.node(condition)? {
                    Val::Bool(true) => self.node(yes),
                    Val::Bool(false) => self.node(no),
                    other => Err(NoValue::overload("_?_:_", &[other])),
                }
            }
            Node::Equal(sides) => {
                let [a, b] = self.both(sides)?;
                self.equal(&a, &b).map(Val::Bool)
            }
            Node::NotEqual(sides) => {
                let [a, b] = self.both(sides)?;
                Ok(Val::Bool(!self.equal(&a, &b)?))
            }
            Node::Compare(comparison, sides) => {
                let [a, b] = self.both(sides)?;
                let is_number = |value: &Val<'_>| matches!(value, Val::Int(_) | Val::Uint(_) | Val::Double(_));
                match self.order(&a, &b)? {
                    Some(order) => Ok(Val::Bool(comparison.holds(order))),
                    // Not a number is neither less nor more.
                    None if is_number(&a) && is_number(&b) => Ok(Val::Bool(false)),
                    None => Err(NoValue::overload("_<_", &[a, b])),
                }
            }
            Node::Arithmetic(operator, sides) => {
                let [a, b] = self.both(sides)?;
                self.arithmetic(*operator, a, b)
            }
            Node::In(sides) => {
                let [element, container] = self.both(sides)?;
                if matches!(container, Val::Fields(_) | Val::Map(_)) {
                    self.charge(container.size().unwrap_or_default() / 16)?;
                    return Ok(Val::Bool(container.get(&element)?.is_some()));
                }
                match container.elements() {
                    Some(elements) => Ok(Val::Bool(self.position(&elements, &element)?.is_some())),
                    None => Err(NoValue::overload("@in", &[element, container])),
                }
            }
            Node::List(elements) => {
                let mut list = Vec::with_capacity(elements.len());
                for (element, access) in elements {
                    let element = self.node(element)?;
                    list.extend(unless_absent(element, *access)?);
                }
                Ok(Val::list(list))
            }
            Node::Map(entries) => {
                let mut pairs: Vec<(Val<'a>, Val<'a>)> = Vec::with_capacity(entries.len());
                for (key, value, access) in entries {
                    let (key, value) = (self.node(key)?, self.node(value)?);
                    if !key.is_key() {
                        return Err(NoValue::failed(format!("a {} is no key of a map", key.type_name())));
                    }
                    self.charge(pairs.len())?;
                    if pairs.iter().any(|(found, _)| found.is_same_key(&key)) {
                        return Err(NoValue::failed(format!("the key {} stands twice in a map", key.shown())));
                    }
                    pairs.extend(unless_absent(value, *access)?.map(|value| (key, value)));
                }
                Ok(Val::Map(Rc::new(pairs)))
            }
            Node::Comprehension(comprehension) => self.comprehension(comprehension),
            Node::Bind { slot, value, body } => {
                let value = self.node(value)?;
                self.within(*slot, [value], body)
            }
            Node::OptionalMap { operand, slot, body, flat } => match self.node(operand)? {
                Val::Optional(None) => Ok(Val::Optional(None)),
                Val::Optional(Some(value)) => {
                    let made = self.within(*slot, [(*value).clone()], body)?;
                    Ok(if *flat == Access::Optional { made } else { Val::some(made) })
                }
                other => Err(NoValue::overload("optMap", &[other])),
            },
            Node::OptionalOr { sides, gives } => match self.selected(&sides[0])? {
                Selected::Absent => self.node(&sides[1]),
                Selected::Optional(value) if *gives == Access::Optional => Ok(Val::some(value)),
                // As in cel-go, what is no optional is its own value.
                Selected::Optional(value) | Selected::Plain(value) => Ok(value),
            },
            Node::Matches { operand, regex } => match self.node(operand)? {
                Val::Text(text) => {
                    self.charge(text.len() / 8)?;
                    Ok(Val::Bool(regex.is_match(&text)))
                }
                other => Err(NoValue::overload("matches", &[other])),
            },
            Node::Call { name, run, args } => match &args[..] {
                [a] => {
                    let args = [self.node(a)?];
                    self.call(name, *run, &args)
                }
                [a, b] => {
                    let args = [self.node(a)?, self.node(b)?];
                    self.call(name, *run, &args)
                }
                args => {
                    let args = args.iter().map(|argument| self.node(argument)).collect::<Result<Vec<_>, _>>()?;
                    self.call(name, *run, &args)
                }
            },
        }
    }

    fn call(&mut self, name: &str, run: Run, args: &[Val<'a>]) -> Evaluated<'a> {
        self.charge(args.iter().map(Val::cost).sum::<usize>() / 8)?;
        run(self, args).unwrap_or_else(|| Err(NoValue::overload(name, args)))
    }

    fn root(&self, root: Root) -> Evaluated<'a> {
        Ok(match root {
            Root::Object => Val::of(self.roots.object),
            Root::OldObject => Val::of(self.roots.old_object),
            Root::Request => Val::of(self.roots.request),
            Root::Params => Val::of(self.roots.params),
            Root::NamespaceObject => match self.roots.namespace_object {
                Some(namespace) => Val::of(namespace),
                None => return Err(NoValue::NotGiven("it asks for the namespace, which is not known".to_owned())),
            },
        })
    }

    fn variable(&mut self, name: &'a str) -> Evaluated<'a> {
        if let Some(known) = self.computed.borrow().get(name) {
            return known.clone().unwrap_or_else(|| Err(NoValue::failed(format!("the variable {name} needs itself"))));
        }
        let variables = self.roots.variables;
        let Some(program) = variables.get(name) else {
            return Err(NoValue::failed(format!("there is no variable {name}")));
        };
        self.computed.borrow_mut().insert(name, None);
        let value = self.value(program);
        self.computed.borrow_mut().insert(name, Some(value.clone()));
        value
    }

    fn both(&mut self, sides: &'a [Node; 2]) -> Result<[Val<'a>; 2], NoValue> {
        Ok([self.node(&sides[0])?, self.node(&sides[1])?])
    }

    /// `&&` (decided by false) and `||` (decided by true): a side that decides makes the other's error not count.
    fn either(&mut self, sides: &'a [Node; 2], logic: Logic) -> Evaluated<'a> {
        let (decides, name) = match logic {
            Logic::And => (false, "_&&_"),
            Logic::Or => (true, "_||_"),
        };
        let mut error = None;
        for side in sides {
            match self.node(side) {
                Ok(Val::Bool(set)) if set == decides => return Ok(Val::Bool(decides)),
                Ok(Val::Bool(_)) => {}
                Ok(other) => {
                    error.get_or_insert(NoValue::overload(name, &[other]));
                }
                Err(failed @ NoValue::Failed(_)) => {
                    error.get_or_insert(failed);
                }
                Err(other) => return Err(other),
            }
        }
        error.map_or(Ok(Val::Bool(!decides)), Err)
    }

    fn within<const N: usize>(&mut self, slot: usize, values: [Val<'a>; N], body: &'a Node) -> Evaluated<'a> {
        self.locals.truncate(slot);
        self.locals.extend(values);
        let value = self.node(body);
        self.locals.truncate(slot);
        value
    }

    fn comprehension(&mut self, comprehension: &'a Comprehension) -> Evaluated<'a> {
        let Comprehension { over, range, slot, names, condition, body } = comprehension;
        let range = self.node(range)?;
        let Some(elements) = range.range() else { return Err(NoValue::overload("a comprehension", &[range])) };
        let is_map = matches!(range, Val::Fields(_) | Val::Map(_));
        self.charge(elements.len())?;
        let mut error = None;
        let mut count = 0_usize;
        let (mut list, mut pairs) = (Vec::new(), Vec::new());
        for (index, element) in elements.into_iter().enumerate() {
            let (first, second) = match (*names, is_map) {
                (1, _) => (element, None),
                (_, true) => {
                    let value = range.get(&element)?;
                    (element, value)
                }
                (_, false) => (Val::Int(i64::try_from(index).unwrap_or(i64::MAX)), Some(element)),
            };
            self.locals.truncate(*slot);
            self.locals.push(first);
            self.locals.extend(second);
            if let Some(condition) = condition {
                match self.node(condition)? {
                    Val::Bool(true) => {}
                    Val::Bool(false) => continue,
                    other => return Err(NoValue::overload("a condition", &[other])),
                }
            }
            let first = |evaluation: &Self| evaluation.locals[*slot].clone();
            match (over, self.node(body)) {
                (Over::List, Ok(value)) => list.push(value),
                (Over::Map, Ok(value)) => pairs.push((first(self), value)),
                (Over::All, Ok(Val::Bool(false))) => return Ok(Val::Bool(false)),
                (Over::Exists, Ok(Val::Bool(true))) => return Ok(Val::Bool(true)),
                (Over::Filter, Ok(Val::Bool(true))) => list.push(first(self)),
                (Over::ExistsOne, Ok(Val::Bool(true))) => count += 1,
                (_, Ok(Val::Bool(_))) => {}
                (Over::All | Over::Exists, Ok(other)) => {
                    error.get_or_insert(NoValue::overload("a predicate", &[other]));
                }
                (Over::All | Over::Exists, Err(failed @ NoValue::Failed(_))) => {
                    error.get_or_insert(failed);
                }
                (_, Ok(other)) => return Err(NoValue::overload("a predicate", &[other])),
                (_, Err(other)) => return Err(other),
            }
        }
        self.locals.truncate(*slot);
        if let Some(error) = error {
            return Err(error);
        }
        Ok(match over {
            Over::All => Val::Bool(true),
            Over::Exists => Val::Bool(false),
            Over::ExistsOne => Val::Bool(count == 1),
            Over::Filter | Over::List => Val::list(list),
            Over::Map => Val::Map(Rc::new(pairs)),
        })
    }
}

/// An element of a literal, unless it is marked as optional and absent.
fn unless_absent<'a>(value: Val<'a>, access: Access) -> Result<Option<Val<'a>>, NoValue> {
    match (access, value) {
        (Access::Required, value) => Ok(Some(value)),
        (Access::Optional, Val::Optional(value)) => Ok(value.map(|value| (*value).clone())),
        (Access::Optional, other) => Err(NoValue::overload("an optional element", &[other])),
    }
}
