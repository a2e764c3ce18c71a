//! From the text of an expression to a tree that runs: names resolved, macros expanded, constant regular expressions
//! compiled. A name or function that is not known is an error here, before anything is judged.

use crate::stack::with_room;

use super::tree::{Access, Arithmetic, Comparison, Comprehension, Constant, Node, Over, Root};
use super::{MAX_EXPRESSION_BYTES, MAX_REGEX_BYTES, functions};
use ::cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators};
use regex::{Regex, RegexBuilder};
use std::collections::BTreeSet;

/// Nesting of an expression's tree.
const MAX_DEPTH: usize = 120;
/// Brackets and operators in a row, summed over the brackets around them: what the reader's recursion grows with.
const MAX_CHAIN: usize = 200;
/// A chain that every stack has room for.
const SHALLOW_CHAIN: usize = 8;

/// A compiled expression.
#[derive(Debug)]
pub struct Program {
    pub(super) node: Node,
    variables: BTreeSet<String>,
    text: String,
    /// Levels of its tree.
    pub(super) depth: usize,
}

impl PartialEq for Program {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Program {
    /// Compiles an expression. The error says what is wrong with it.
    pub fn compile(text: &str) -> Result<Self, String> {
        if text.len() > MAX_EXPRESSION_BYTES {
            return Err(format!("an expression is longer than {MAX_EXPRESSION_BYTES} bytes"));
        }
        match chain(text) {
            shallow if shallow <= SHALLOW_CHAIN => Self::read(text),
            deep if deep <= MAX_CHAIN => {
                with_room(|| Self::read(text)).unwrap_or_else(|| Err("not CEL that can be read".to_owned()))
            }
            _ => Err(format!("an expression is nested deeper or chained longer than {MAX_CHAIN}")),
        }
    }

    fn read(text: &str) -> Result<Self, String> {
        let parser = ::cel::Env::default().parser().enable_ident_escape_syntax(true);
        let parsed = parser.parse(text).map_err(|errors| {
            let first = errors.errors.first().map(|error| error.msg.clone());
            format!("not CEL: {}", first.unwrap_or_default())
        })?;
        let mut compiler = Compiler { locals: Vec::new(), variables: BTreeSet::new(), depth: 0, deepest: 0 };
        let node = compiler.node(&parsed)?;
        Ok(Self { node, variables: compiler.variables, text: text.to_owned(), depth: compiler.deepest })
    }

    /// The names of the policy's variables it reads.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.variables.iter().map(String::as_str)
    }
}

/// The longest chain of operators, selections and brackets that are open at one place. The reader recurses along it,
/// and must not be asked to where it would run out of stack. Texts count as nothing; `,`, `&&` and `||` begin anew.
fn chain(text: &str) -> usize {
    let mut open: Vec<usize> = vec![0];
    let (mut total, mut longest) = (0_usize, 0_usize);
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            quote @ ('"' | '\'') => {
                while let Some(inside) = characters.next() {
                    if inside == '\\' {
                        characters.next();
                    } else if inside == quote {
                        break;
                    }
                }
            }
            '(' | '[' | '{' => {
                open.push(1);
                total += 1;
            }
            ')' | ']' | '}' if open.len() > 1 => total -= open.pop().unwrap_or(0),
            ',' | '&' | '|' => {
                let here = open.last_mut().expect("the text itself is always open");
                total -= std::mem::replace(here, 0);
            }
            '+' | '-' | '*' | '/' | '%' | '<' | '>' | '=' | '!' | '?' | '.' => {
                *open.last_mut().expect("the text itself is always open") += 1;
                total += 1;
            }
            _ => {}
        }
        longest = longest.max(total);
    }
    longest
}

/// Compiles a constant or computed regular expression within the bounds.
pub fn regex(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(pattern)
        .size_limit(MAX_REGEX_BYTES)
        .dfa_size_limit(MAX_REGEX_BYTES)
        .build()
        .map_err(|error| format!("no regular expression, or too large a one: {error}"))
}

struct Compiler {
    /// Names of comprehensions around the place, innermost last; the position is the slot.
    locals: Vec<String>,
    variables: BTreeSet<String>,
    depth: usize,
    deepest: usize,
}

type Compiled = Result<Node, String>;

impl Compiler {
    fn node(&mut self, expression: &IdedExpr) -> Compiled {
        self.depth += 1;
        self.deepest = self.deepest.max(self.depth);
        if self.depth > MAX_DEPTH {
            return Err(format!("an expression is nested deeper than {MAX_DEPTH} levels"));
        }
        let node = self.node_of(&expression.expr);
        self.depth -= 1;
        node
    }

    fn boxed(&mut self, expression: &IdedExpr) -> Result<Box<Node>, String> {
        self.node(expression).map(Box::new)
    }

    fn node_of(&mut self, expression: &Expr) -> Compiled {
        Ok(match expression {
            Expr::Literal(literal) => Node::Constant(constant(literal)),
            Expr::Ident(name) => self.name(name)?,
            Expr::Select(select) if self.is_variables(&select.operand.expr) => {
                self.variables.insert(select.field.clone());
                Node::Variable(select.field.clone())
            }
            Expr::Select(select) if select.test => {
                Node::Has { operand: self.boxed(&select.operand)?, name: select.field.clone() }
            }
            Expr::Select(select) => {
                let operand = self.boxed(&select.operand)?;
                Node::Field { operand, name: select.field.clone(), access: Access::Required }
            }
            Expr::List(list) => {
                let mut elements = Vec::with_capacity(list.elements.len());
                for (index, element) in list.elements.iter().enumerate() {
                    elements.push((self.node(element)?, Access::from_mark(list.optional_indices.contains(&index))));
                }
                Node::List(elements)
            }
            Expr::Map(map) => self.map(map.entries.iter().map(|entry| &entry.expr))?,
            // A typed object of Kyverno's and Kubernetes' mutations is a map here.
            Expr::Struct(literal) => self.map(literal.entries.iter().map(|entry| &entry.expr))?,
            Expr::Call(call) => self.call(call)?,
            Expr::Unspecified => return Err("the expression is empty".to_owned()),
            Expr::Comprehension(_) => return Err("a comprehension of a macro that is not known".to_owned()),
        })
    }

    fn is_variables(&self, operand: &Expr) -> bool {
        matches!(operand, Expr::Ident(name) if name == "variables") && !self.locals.iter().any(|local| local == "variables")
    }

    fn name(&self, name: &str) -> Compiled {
        if let Some(slot) = self.locals.iter().rposition(|local| local == name) {
            return Ok(Node::Local(slot));
        }
        if let Some((_, root)) = Root::NAMED.into_iter().find(|(known, _)| *known == name) {
            return Ok(Node::Root(root));
        }
        let types = ["bool", "int", "uint", "double", "string", "bytes", "list", "map", "null_type", "type"];
        let known = types.into_iter().find(|known| *known == name);
        known.map(|name| Node::Constant(Constant::Type(name))).ok_or_else(|| format!("the name {name:?} is not known"))
    }

    fn map<'e>(&mut self, entries: impl Iterator<Item = &'e EntryExpr>) -> Compiled {
        let mut pairs = Vec::new();
        for entry in entries {
            pairs.push(match entry {
                EntryExpr::MapEntry(entry) => {
                    (self.node(&entry.key)?, self.node(&entry.value)?, Access::from_mark(entry.optional))
                }
                EntryExpr::StructField(field) => {
                    let key = Node::Constant(Constant::Text(field.field.clone()));
                    (key, self.node(&field.value)?, Access::from_mark(field.optional))
                }
            });
        }
        Ok(Node::Map(pairs))
    }

    fn pair(&mut self, args: &[IdedExpr]) -> Result<Box<[Node; 2]>, String> {
        let [a, b] = args else { return Err("an operator has two sides".to_owned()) };
        Ok(Box::new([self.node(a)?, self.node(b)?]))
    }

    fn call(&mut self, call: &CallExpr) -> Compiled {
        let args = call.args.as_slice();
        if let Some(target) = &call.target {
            if let Expr::Ident(namespace) = &target.expr
                && !self.locals.contains(namespace)
                && Root::NAMED.iter().all(|(known, _)| known != namespace)
            {
                let qualified = format!("{namespace}.{}", call.func_name);
                return self.qualified(&qualified, args);
            }
            return self.member(&call.func_name, target, args);
        }
        Ok(match (call.func_name.as_str(), args) {
            (operators::CONDITIONAL, [condition, yes, no]) => {
                Node::Conditional(Box::new([self.node(condition)?, self.node(yes)?, self.node(no)?]))
            }
            (operators::LOGICAL_AND, args) => self.chain(args, Node::And)?,
            (operators::LOGICAL_OR, args) => self.chain(args, Node::Or)?,
            (operators::LOGICAL_NOT, [operand]) => Node::Not(self.boxed(operand)?),
            (operators::NEGATE, [operand]) => Node::Negate(self.boxed(operand)?),
            (operators::ADD, args) => Node::Arithmetic(Arithmetic::Add, self.pair(args)?),
            (operators::SUBSTRACT, args) => Node::Arithmetic(Arithmetic::Subtract, self.pair(args)?),
            (operators::MULTIPLY, args) => Node::Arithmetic(Arithmetic::Multiply, self.pair(args)?),
            (operators::DIVIDE, args) => Node::Arithmetic(Arithmetic::Divide, self.pair(args)?),
            (operators::MODULO, args) => Node::Arithmetic(Arithmetic::Modulo, self.pair(args)?),
            (operators::EQUALS, args) => Node::Equal(self.pair(args)?),
            (operators::NOT_EQUALS, args) => Node::NotEqual(self.pair(args)?),
            (operators::GREATER, args) => Node::Compare(Comparison::Greater, self.pair(args)?),
            (operators::GREATER_EQUALS, args) => Node::Compare(Comparison::GreaterEqual, self.pair(args)?),
            (operators::LESS, args) => Node::Compare(Comparison::Less, self.pair(args)?),
            (operators::LESS_EQUALS, args) => Node::Compare(Comparison::LessEqual, self.pair(args)?),
            (operators::IN, args) => Node::In(self.pair(args)?),
            (operators::INDEX, [operand, index]) => {
                Node::Index { operand: self.boxed(operand)?, index: self.boxed(index)?, access: Access::Required }
            }
            (operators::OPT_INDEX, [operand, index]) => {
                Node::Index { operand: self.boxed(operand)?, index: self.boxed(index)?, access: Access::Optional }
            }
            (operators::OPT_SELECT, [operand, field]) => {
                let Expr::Literal(LiteralValue::String(name)) = &field.expr else {
                    return Err("an optional field has a name".to_owned());
                };
                Node::Field { operand: self.boxed(operand)?, name: name.inner().to_owned(), access: Access::Optional }
            }
            (operators::HAS, [argument]) => match self.node(argument)? {
                Node::Field { operand, name, access: _ } => Node::Has { operand, name },
                Node::Variable(_) => Node::Constant(Constant::Bool(true)),
                _ => return Err("has() asks for a field, as in has(object.spec)".to_owned()),
            },
            (name, args) => self.function(name, functions::Style::Global, None, args)?,
        })
    }

    fn chain(&mut self, args: &[IdedExpr], make: fn(Box<[Node; 2]>) -> Node) -> Compiled {
        let (first, rest) = args.split_first().ok_or("an operator has two sides")?;
        let mut node = self.node(first)?;
        for side in rest {
            node = make(Box::new([node, self.node(side)?]));
        }
        Ok(node)
    }

    fn qualified(&mut self, name: &str, args: &[IdedExpr]) -> Compiled {
        match (name, args) {
            ("cel.bind", [variable, value, body]) => {
                let value = self.boxed(value)?;
                let slot = self.enter(&[variable])?;
                let body = self.boxed(body)?;
                self.locals.truncate(slot);
                Ok(Node::Bind { slot, value, body })
            }
            _ => self.function(name, functions::Style::Global, None, args),
        }
    }

    /// Opens a scope with these names and gives the slot of the first.
    fn enter(&mut self, names: &[&IdedExpr]) -> Result<usize, String> {
        let slot = self.locals.len();
        for name in names {
            let Expr::Ident(name) = &name.expr else { return Err("a macro's first argument is a name".to_owned()) };
            self.locals.push(name.clone());
        }
        Ok(slot)
    }

    fn member(&mut self, name: &str, target: &IdedExpr, args: &[IdedExpr]) -> Compiled {
        let over = match name {
            "all" => Some(Over::All),
            "exists" => Some(Over::Exists),
            "exists_one" | "existsOne" => Some(Over::ExistsOne),
            "filter" => Some(Over::Filter),
            "map" | "transformList" => Some(Over::List),
            "transformMap" => Some(Over::Map),
            _ => None,
        };
        let is_pair_form = name.starts_with("transform");
        match (over, args) {
            (Some(over), [name, body]) if !is_pair_form => self.comprehension(over, target, &[name], None, body),
            (Some(Over::List), [name, condition, body]) if !is_pair_form => {
                self.comprehension(Over::List, target, &[name], Some(condition), body)
            }
            (Some(over @ (Over::All | Over::Exists | Over::ExistsOne | Over::List | Over::Map)), [key, value, body]) => {
                self.comprehension(over, target, &[key, value], None, body)
            }
            (Some(over @ (Over::List | Over::Map)), [key, value, condition, body]) => {
                self.comprehension(over, target, &[key, value], Some(condition), body)
            }
            _ => match (name, args) {
                ("optMap" | "optFlatMap", [variable, body]) => {
                    let operand = self.boxed(target)?;
                    let slot = self.enter(&[variable])?;
                    let body = self.boxed(body)?;
                    self.locals.truncate(slot);
                    Ok(Node::OptionalMap { operand, slot, body, flat: Access::from_mark(name == "optFlatMap") })
                }
                ("or" | "orValue", [other]) => {
                    let gives = Access::from_mark(name == "or");
                    Ok(Node::OptionalOr { sides: Box::new([self.node(target)?, self.node(other)?]), gives })
                }
                ("matches", [IdedExpr { expr: Expr::Literal(LiteralValue::String(pattern)), .. }]) => {
                    Ok(Node::Matches { operand: self.boxed(target)?, regex: regex(pattern.inner())? })
                }
                _ => self.function(name, functions::Style::Member, Some(target), args),
            },
        }
    }

    fn comprehension(
        &mut self,
        over: Over,
        range: &IdedExpr,
        names: &[&IdedExpr],
        condition: Option<&IdedExpr>,
        body: &IdedExpr,
    ) -> Compiled {
        let range = self.node(range)?;
        let slot = self.enter(names)?;
        let condition = condition.map(|condition| self.node(condition)).transpose()?;
        let body = self.node(body)?;
        self.locals.truncate(slot);
        Ok(Node::Comprehension(Box::new(Comprehension { over, range, slot, names: names.len(), condition, body })))
    }

    fn function(&mut self, name: &str, style: functions::Style, target: Option<&IdedExpr>, args: &[IdedExpr]) -> Compiled {
        let (name, run) = functions::find(name, style).ok_or_else(|| format!("the function {name}() is not known"))?;
        let args = target.into_iter().chain(args).map(|argument| self.node(argument)).collect::<Result<_, _>>()?;
        Ok(Node::Call { name, run, args })
    }
}

fn constant(literal: &LiteralValue) -> Constant {
    match literal {
        LiteralValue::Boolean(set) => Constant::Bool(*set.inner()),
        LiteralValue::Bytes(bytes) => Constant::Bytes(bytes.inner().to_vec()),
        LiteralValue::Double(number) => Constant::Double(*number.inner()),
        LiteralValue::Int(number) => Constant::Int(*number.inner()),
        LiteralValue::Null => Constant::Null,
        LiteralValue::String(text) => Constant::Text(text.inner().to_owned()),
        LiteralValue::UInt(number) => Constant::Uint(*number.inner()),
    }
}
