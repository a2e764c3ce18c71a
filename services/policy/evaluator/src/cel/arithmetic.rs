//! `+`, `-`, `*`, `/` and `%`: of numbers of one type, texts, bytes, lists, durations and times. Beyond a type's range is an
//! error, as in cel-go.

use super::{Evaluation, NoValue, Val, evaluate::Evaluated, tree::Arithmetic};

impl<'a> Evaluation<'a> {
    /// What an operator makes of two values; what is made is counted.
    pub(super) fn arithmetic(&mut self, operator: Arithmetic, a: Val<'a>, b: Val<'a>) -> Evaluated<'a> {
        use Arithmetic::{Add, Divide, Modulo, Multiply, Subtract};
        let whole = |value: Option<i64>| value.map(Val::Int).ok_or_else(overflow);
        let natural = |value: Option<u64>| value.map(Val::Uint).ok_or_else(overflow);
        match (operator, &a, &b) {
            (Divide | Modulo, _, Val::Int(0) | Val::Uint(0)) => Err(NoValue::failed("division by zero")),
            (Add, Val::Int(a), Val::Int(b)) => whole(a.checked_add(*b)),
            (Subtract, Val::Int(a), Val::Int(b)) => whole(a.checked_sub(*b)),
            (Multiply, Val::Int(a), Val::Int(b)) => whole(a.checked_mul(*b)),
            (Divide, Val::Int(a), Val::Int(b)) => whole(a.checked_div(*b)),
            (Modulo, Val::Int(a), Val::Int(b)) => whole(a.checked_rem(*b)),
            (Add, Val::Uint(a), Val::Uint(b)) => natural(a.checked_add(*b)),
            (Subtract, Val::Uint(a), Val::Uint(b)) => natural(a.checked_sub(*b)),
            (Multiply, Val::Uint(a), Val::Uint(b)) => natural(a.checked_mul(*b)),
            (Divide, Val::Uint(a), Val::Uint(b)) => natural(a.checked_div(*b)),
            (Modulo, Val::Uint(a), Val::Uint(b)) => natural(a.checked_rem(*b)),
            (Add, Val::Double(a), Val::Double(b)) => Ok(Val::Double(a + b)),
            (Subtract, Val::Double(a), Val::Double(b)) => Ok(Val::Double(a - b)),
            (Multiply, Val::Double(a), Val::Double(b)) => Ok(Val::Double(a * b)),
            (Divide, Val::Double(a), Val::Double(b)) => Ok(Val::Double(a / b)),
            (Add, Val::Text(a), Val::Text(b)) => {
                self.charge(a.len() + b.len())?;
                Ok(Val::text(format!("{a}{b}")))
            }
            (Add, Val::Bytes(a), Val::Bytes(b)) => {
                self.charge(a.len() + b.len())?;
                Ok(Val::Bytes(a.iter().chain(b.iter()).copied().collect()))
            }
            (Add, Val::Duration(a), Val::Duration(b)) => a.checked_add(*b).map(Val::Duration).ok_or_else(overflow),
            (Subtract, Val::Duration(a), Val::Duration(b)) => a.checked_sub(*b).map(Val::Duration).ok_or_else(overflow),
            (Add, Val::Timestamp(at), Val::Duration(by)) | (Add, Val::Duration(by), Val::Timestamp(at)) => {
                at.checked_add(jiff::SignedDuration::from_nanos(*by)).map(Val::Timestamp).map_err(|_| overflow())
            }
            (Subtract, Val::Timestamp(at), Val::Duration(by)) => {
                at.checked_sub(jiff::SignedDuration::from_nanos(*by)).map(Val::Timestamp).map_err(|_| overflow())
            }
            (Subtract, Val::Timestamp(a), Val::Timestamp(b)) => {
                let nanos = a.duration_since(*b).as_nanos();
                i64::try_from(nanos).map(Val::Duration).map_err(|_| overflow())
            }
            (Add, Val::Items(_) | Val::List(_), Val::Items(_) | Val::List(_)) => {
                let mut list = a.elements().unwrap_or_default();
                list.extend(b.elements().unwrap_or_default());
                self.charge(list.len())?;
                Ok(Val::list(list))
            }
            _ => Err(NoValue::overload(
                match operator {
                    Add => "_+_",
                    Subtract => "_-_",
                    Multiply => "_*_",
                    Divide => "_/_",
                    Modulo => "_%_",
                },
                &[a, b],
            )),
        }
    }
}

/// A result that its type can't hold.
pub(super) fn overflow() -> NoValue {
    NoValue::failed("a number is out of range")
}
