//! The functions an expression may call, by name and by how they are called, and those of the language itself.
//!
//! A function gets its receiver as the first argument and answers `None` where it does not take such types.

use super::{Evaluation, NoValue, Val, kubernetes, lists, strings, time};
use std::{borrow::Cow, rc::Rc};

pub type Answer<'a> = Option<Result<Val<'a>, NoValue>>;
pub type Run = for<'a> fn(&mut Evaluation<'a>, &[Val<'a>]) -> Answer<'a>;

/// `f(x)` or `x.f()`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Global,
    Member,
}

pub type Table = &'static [(Style, &'static str, Run)];

/// The function of this name.
pub fn find(name: &str, style: Style) -> Option<(&'static str, Run)> {
    let tables = [TABLE, strings::TABLE, lists::TABLE, time::TABLE, kubernetes::TABLE];
    let mut all = tables.into_iter().flatten();
    all.find(|(known_style, known, _)| *known == name && *known_style == style).map(|(_, name, run)| (*name, *run))
}

/// An answer that is a value.
pub fn ok<'a>(value: Val<'a>) -> Answer<'a> {
    Some(Ok(value))
}

/// An answer that is an error.
pub fn fail<'a>(message: impl Into<String>) -> Answer<'a> {
    Some(Err(NoValue::failed(message)))
}

const TABLE: Table = &[
    (Style::Global, "size", size),
    (Style::Member, "size", size),
    (Style::Global, "type", |_, args| match args {
        [value] => ok(Val::Type(value.type_name())),
        _ => None,
    }),
    (Style::Global, "dyn", |_, args| match args {
        [value] => ok(value.clone()),
        _ => None,
    }),
    (Style::Global, "bool", |_, args| match args {
        [Val::Bool(set)] => ok(Val::Bool(*set)),
        [Val::Text(text)] => match text.as_ref() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => ok(Val::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => ok(Val::Bool(false)),
            other => fail(format!("{other:?} is neither true nor false")),
        },
        _ => None,
    }),
    (Style::Global, "int", int),
    (Style::Global, "uint", |_, args| {
        let found = match args {
            [Val::Uint(number)] => Some(*number),
            [Val::Int(number)] => u64::try_from(*number).ok(),
            [Val::Double(number)] if *number >= 0.0 && *number < 1.8e19 => Some(*number as u64),
            [Val::Text(text)] => text.parse().ok(),
            [Val::Double(_)] => None,
            _ => return None,
        };
        found.map_or_else(|| fail("no unsigned whole number"), |number| ok(Val::Uint(number)))
    }),
    (Style::Global, "double", |_, args| match args {
        [Val::Double(number)] => ok(Val::Double(*number)),
        [Val::Int(number)] => ok(Val::Double(*number as f64)),
        [Val::Uint(number)] => ok(Val::Double(*number as f64)),
        [Val::Text(text)] => match text.parse() {
            Ok(number) => ok(Val::Double(number)),
            Err(_) => fail(format!("{text:?} is no number")),
        },
        _ => None,
    }),
    (Style::Global, "string", |_, args| match args {
        [Val::Bytes(bytes)] => match std::str::from_utf8(bytes) {
            Ok(text) => ok(Val::text(text)),
            Err(_) => fail("the bytes are no text"),
        },
        [Val::Items(_) | Val::Fields(_) | Val::List(_) | Val::Map(_) | Val::Null | Val::Optional(_)] => None,
        [value] => ok(Val::Text(value.shown())),
        _ => None,
    }),
    (Style::Global, "bytes", |_, args| match args {
        [Val::Bytes(bytes)] => ok(Val::Bytes(Rc::clone(bytes))),
        [Val::Text(text)] => ok(Val::Bytes(text.as_bytes().into())),
        _ => None,
    }),
    (Style::Global, "optional.of", |_, args| match args {
        [value] => ok(Val::some(value.clone())),
        _ => None,
    }),
    (Style::Global, "optional.none", |_, args| match args {
        [] => ok(Val::Optional(None)),
        _ => None,
    }),
    (Style::Global, "optional.ofNonZeroValue", |_, args| match args {
        [value] if value.is_zero() => ok(Val::Optional(None)),
        [value] => ok(Val::some(value.clone())),
        _ => None,
    }),
    (Style::Member, "hasValue", |_, args| match args {
        [Val::Optional(value)] => ok(Val::Bool(value.is_some())),
        _ => None,
    }),
    (Style::Member, "value", |_, args| match args {
        [Val::Optional(Some(value))] => ok((**value).clone()),
        [Val::Optional(None)] => fail("the optional is empty"),
        _ => None,
    }),
    (Style::Global, "math.greatest", |_, args| extreme(args, std::cmp::Ordering::Greater)),
    (Style::Global, "math.least", |_, args| extreme(args, std::cmp::Ordering::Less)),
    (Style::Global, "math.abs", |_, args| match args {
        [Val::Int(number)] => number.checked_abs().map_or_else(|| fail("out of range"), |number| ok(Val::Int(number))),
        [Val::Double(number)] => ok(Val::Double(number.abs())),
        [Val::Uint(number)] => ok(Val::Uint(*number)),
        _ => None,
    }),
    (Style::Global, "math.ceil", |_, args| rounded(args, f64::ceil)),
    (Style::Global, "math.floor", |_, args| rounded(args, f64::floor)),
    (Style::Global, "math.round", |_, args| rounded(args, f64::round)),
    (Style::Global, "math.trunc", |_, args| rounded(args, f64::trunc)),
    (Style::Global, "math.isNaN", |_, args| match args {
        [Val::Double(number)] => ok(Val::Bool(number.is_nan())),
        _ => None,
    }),
    (Style::Global, "math.isInf", |_, args| match args {
        [Val::Double(number)] => ok(Val::Bool(number.is_infinite())),
        _ => None,
    }),
    (Style::Global, "math.sign", |_, args| match args {
        [Val::Int(number)] => ok(Val::Int(number.signum())),
        [Val::Double(number)] => ok(Val::Double(if *number == 0.0 { 0.0 } else { number.signum() })),
        _ => None,
    }),
];

fn size<'a>(_: &mut Evaluation<'a>, args: &[Val<'a>]) -> Answer<'a> {
    let [value] = args else { return None };
    value.size().map(|size| Ok(Val::Int(i64::try_from(size).unwrap_or(i64::MAX))))
}

fn int<'a>(_: &mut Evaluation<'a>, args: &[Val<'a>]) -> Answer<'a> {
    let found = match args {
        [Val::Int(number)] => Some(*number),
        [Val::Uint(number)] => i64::try_from(*number).ok(),
        [Val::Double(number)] if number.abs() < 9.2e18 => Some(*number as i64),
        [Val::Double(_)] => None,
        [Val::Text(text)] => text.parse().ok(),
        [Val::Timestamp(instant)] => Some(instant.as_second()),
        [Val::Duration(nanos)] => Some(*nanos),
        _ => return None,
    };
    found.map_or_else(|| fail("no whole number, or one out of range"), |number| ok(Val::Int(number)))
}

fn extreme<'a>(args: &[Val<'a>], wanted: std::cmp::Ordering) -> Answer<'a> {
    let values = match args {
        [single] => single.elements().unwrap_or_else(|| vec![single.clone()]),
        several => several.to_vec(),
    };
    let mut best = values.first()?.clone();
    for value in &values[1..] {
        if value.order(&best)? == wanted {
            best = value.clone();
        }
    }
    matches!(best, Val::Int(_) | Val::Uint(_) | Val::Double(_)).then_some(Ok(best))
}

fn rounded<'a>(args: &[Val<'a>], round: fn(f64) -> f64) -> Answer<'a> {
    match args {
        [Val::Double(number)] => ok(Val::Double(round(*number))),
        _ => None,
    }
}

/// The texts of a list; `None` where one is none.
pub fn texts<'a>(list: &Val<'a>) -> Option<Vec<Cow<'a, str>>> {
    let text = |value: Val<'a>| match value {
        Val::Text(text) => Some(text),
        _ => None,
    };
    list.elements()?.into_iter().map(text).collect()
}
