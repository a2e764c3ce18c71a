//! A compiled expression as a tree: names are resolved, macros expanded, constant regular expressions compiled.

use super::{Val, functions};
use regex::Regex;
use std::cmp::Ordering;

/// What a name at the root of an expression means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Root {
    Object,
    OldObject,
    Request,
    NamespaceObject,
    Params,
}

impl Root {
    pub const NAMED: [(&'static str, Self); 5] = [
        ("object", Self::Object),
        ("oldObject", Self::OldObject),
        ("request", Self::Request),
        ("namespaceObject", Self::NamespaceObject),
        ("params", Self::Params),
    ];
}

/// Whether a missing field is an error or an empty optional.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Required,
    Optional,
}

impl Access {
    /// Whether a `?` stands before it.
    pub fn from_mark(is_marked: bool) -> Self {
        if is_marked { Self::Optional } else { Self::Required }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

impl Comparison {
    pub fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Less => order.is_lt(),
            Self::LessEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterEqual => order.is_ge(),
        }
    }
}

/// Which comprehension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    All,
    Exists,
    ExistsOne,
    Filter,
    /// A list of what the body gives.
    List,
    /// A map of the same keys to what the body gives.
    Map,
}

#[derive(Debug)]
pub enum Constant {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(String),
    Bytes(Vec<u8>),
    Type(&'static str),
}

#[derive(Debug)]
pub struct Comprehension {
    pub over: Over,
    pub range: Node,
    /// The slot of the first name: the element, or the index or key where there are two names.
    pub slot: usize,
    /// How many names it has, 1 or 2.
    pub names: usize,
    pub condition: Option<Node>,
    pub body: Node,
}

#[derive(Debug)]
pub enum Node {
    Constant(Constant),
    Root(Root),
    /// A variable of the policy.
    Variable(String),
    /// A name of a comprehension or binding, by its slot.
    Local(usize),
    Field {
        operand: Box<Node>,
        name: String,
        access: Access,
    },
    Has {
        operand: Box<Node>,
        name: String,
    },
    Index {
        operand: Box<Node>,
        index: Box<Node>,
        access: Access,
    },
    And(Box<[Node; 2]>),
    Or(Box<[Node; 2]>),
    Not(Box<Node>),
    Negate(Box<Node>),
    Conditional(Box<[Node; 3]>),
    Equal(Box<[Node; 2]>),
    NotEqual(Box<[Node; 2]>),
    Compare(Comparison, Box<[Node; 2]>),
    Arithmetic(Arithmetic, Box<[Node; 2]>),
    In(Box<[Node; 2]>),
    List(Vec<(Node, Access)>),
    Map(Vec<(Node, Node, Access)>),
    Comprehension(Box<Comprehension>),
    /// `cel.bind(name, value, body)`
    Bind {
        slot: usize,
        value: Box<Node>,
        body: Box<Node>,
    },
    /// `optional.optMap(name, body)`, or `optFlatMap` where the body gives an optional itself.
    OptionalMap {
        operand: Box<Node>,
        slot: usize,
        body: Box<Node>,
        flat: Access,
    },
    /// `a.or(b)` and `a.orValue(b)`: the other side counts only where the optional is empty.
    OptionalOr {
        sides: Box<[Node; 2]>,
        gives: Access,
    },
    /// `text.matches('constant')`
    Matches {
        operand: Box<Node>,
        regex: Regex,
    },
    Call {
        name: &'static str,
        run: functions::Run,
        args: Vec<Node>,
    },
}

impl Constant {
    pub fn value(&self) -> Val<'_> {
        match self {
            Self::Null => Val::Null,
            Self::Bool(set) => Val::Bool(*set),
            Self::Int(number) => Val::Int(*number),
            Self::Uint(number) => Val::Uint(*number),
            Self::Double(number) => Val::Double(*number),
            Self::Text(text) => Val::Text(std::borrow::Cow::Borrowed(text)),
            Self::Bytes(bytes) => Val::Bytes(bytes.as_slice().into()),
            Self::Type(name) => Val::Type(name),
        }
    }
}
