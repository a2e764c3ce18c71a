//! What comparing and writing out a value costs, counted where it is done.
//!
//! Values share their parts, so that one that was made in a few steps may be endless to whoever walks through it:
//! `cel.bind(a, [1, 1], cel.bind(b, [a, a], …))` doubles with each line.

use super::{Evaluation, NoValue, Val};
use std::{borrow::Cow, cmp::Ordering};

impl<'a> Evaluation<'a> {
    /// Whether two values are equal.
    pub fn equal(&mut self, a: &Val<'a>, b: &Val<'a>) -> Result<bool, NoValue> {
        self.charge(1)?;
        Ok(match (a, b) {
            (Val::Null, Val::Null) => true,
            (Val::Bool(a), Val::Bool(b)) => a == b,
            (Val::Text(a), Val::Text(b)) => {
                a.len() == b.len() && {
                    self.charge(a.len() / 16)?;
                    a == b
                }
            }
            (Val::Bytes(a), Val::Bytes(b)) => {
                a.len() == b.len() && {
                    self.charge(a.len() / 16)?;
                    a == b
                }
            }
            (Val::Type(a), Val::Type(b)) => a == b,
            (Val::Duration(a), Val::Duration(b)) => a == b,
            (Val::Timestamp(a), Val::Timestamp(b)) => a == b,
            (Val::Quantity(a), Val::Quantity(b)) => a == b,
            (Val::Network(a), Val::Network(b)) => a == b,
            (Val::Optional(Some(a)), Val::Optional(Some(b))) => self.equal(a, b)?,
            (Val::Optional(None), Val::Optional(None)) => true,
            (Val::Items(_) | Val::List(_), Val::Items(_) | Val::List(_)) => {
                if a.size() != b.size() {
                    return Ok(false);
                }
                let (Some(a), Some(b)) = (a.elements(), b.elements()) else { return Ok(false) };
                for (a, b) in a.iter().zip(&b) {
                    if !self.equal(a, b)? {
                        return Ok(false);
                    }
                }
                true
            }
            (Val::Fields(_) | Val::Map(_), Val::Fields(_) | Val::Map(_)) => {
                if a.size() != b.size() {
                    return Ok(false);
                }
                for key in a.range().unwrap_or_default() {
                    self.charge(a.size().unwrap_or_default() / 16)?;
                    let (Some(a), Some(b)) = (a.get(&key)?, b.get(&key)?) else { return Ok(false) };
                    if !self.equal(&a, &b)? {
                        return Ok(false);
                    }
                }
                true
            }
            _ => a.number_order(b) == Some(Ordering::Equal),
        })
    }

    /// Where in a list a value is first.
    pub fn position(&mut self, elements: &[Val<'a>], wanted: &Val<'a>) -> Result<Option<usize>, NoValue> {
        for (index, element) in elements.iter().enumerate() {
            if self.equal(element, wanted)? {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    /// The order of two values, as [`Val::order`].
    pub fn order(&mut self, a: &Val<'a>, b: &Val<'a>) -> Result<Option<Ordering>, NoValue> {
        if let (Val::Text(a), Val::Text(b)) = (a, b) {
            self.charge(a.len().min(b.len()) / 16)?;
        }
        Ok(a.order(b))
    }

    /// The text of a value.
    pub fn written(&mut self, value: &Val<'a>) -> Result<Cow<'a, str>, NoValue> {
        self.weigh(value)?;
        Ok(value.shown())
    }

    /// Counts every part of a value that is to be written out.
    pub fn weigh(&mut self, value: &Val<'a>) -> Result<(), NoValue> {
        self.charge(1)?;
        match value {
            Val::Text(text) => self.charge(text.len()),
            Val::Bytes(bytes) => self.charge(bytes.len()),
            Val::Optional(Some(value)) => self.weigh(value),
            Val::Items(items) => items.iter().try_for_each(|item| self.weigh(&Val::of(item))),
            Val::List(items) => items.iter().try_for_each(|item| self.weigh(item)),
            Val::Fields(fields) => fields.iter().try_for_each(|(key, value)| {
                self.charge(key.len())?;
                self.weigh(&Val::of(value))
            }),
            Val::Map(pairs) => pairs.iter().try_for_each(|(key, value)| {
                self.weigh(key)?;
                self.weigh(value)
            }),
            Val::Null
            | Val::Bool(_)
            | Val::Int(_)
            | Val::Uint(_)
            | Val::Double(_)
            | Val::Optional(None)
            | Val::Type(_)
            | Val::Duration(_)
            | Val::Timestamp(_)
            | Val::Quantity(_)
            | Val::Network(_) => Ok(()),
        }
    }
}
