//! Functions of lists and sets: CEL's extensions and Kubernetes' list library.

use super::{
    Evaluation, NoValue, Val,
    functions::{Answer, Style, Table, fail, ok},
};
use std::cmp::Ordering;

/// The longest list `lists.range` makes.
const MAX_RANGE: i64 = 100_000;

pub const TABLE: Table = &[
    (Style::Member, "flatten", |evaluation, args| {
        let (list, depth) = match args {
            [list] => (list, 1),
            [list, Val::Int(depth)] => (list, *depth),
            _ => return None,
        };
        let mut flat = Vec::new();
        Some(flatten(evaluation, list.elements()?, depth, &mut flat).map(|()| Val::list(flat)))
    }),
    (Style::Member, "slice", |_, args| match args {
        [list, Val::Int(from), Val::Int(to)] => {
            let elements = list.elements()?;
            let range = usize::try_from(*from).ok().zip(usize::try_from(*to).ok());
            match range.filter(|(from, to)| from <= to).and_then(|(from, to)| elements.get(from..to)) {
                Some(part) => ok(Val::list(part.to_vec())),
                None => fail("the range is outside the list"),
            }
        }
        _ => None,
    }),
    (Style::Member, "distinct", |evaluation, args| {
        let [list] = args else { return None };
        let mut kept: Vec<Val<'_>> = Vec::new();
        for element in list.elements()? {
            match evaluation.position(&kept, &element) {
                Ok(Some(_)) => {}
                Ok(None) => kept.push(element),
                Err(error) => return Some(Err(error)),
            }
        }
        ok(Val::list(kept))
    }),
    (Style::Member, "sort", |evaluation, args| {
        let [list] = args else { return None };
        let mut elements = list.elements()?;
        if let Err(error) = charge_texts(evaluation, &elements) {
            return Some(Err(error));
        }
        if elements.windows(2).any(|pair| pair[0].order(&pair[1]).is_none()) {
            return None;
        }
        elements.sort_by(|a, b| a.order(b).unwrap_or(Ordering::Equal));
        ok(Val::list(elements))
    }),
    (Style::Member, "first", |_, args| {
        let [list] = args else { return None };
        ok(list.elements()?.into_iter().next().map_or(Val::Optional(None), Val::some))
    }),
    (Style::Member, "last", |_, args| {
        let [list] = args else { return None };
        ok(list.elements()?.pop().map_or(Val::Optional(None), Val::some))
    }),
    (Style::Global, "lists.range", |evaluation, args| match args {
        [Val::Int(end)] if *end <= MAX_RANGE => {
            let numbers: Vec<Val<'_>> = (0..*end).map(Val::Int).collect();
            match evaluation.charge(numbers.len()) {
                Ok(()) => ok(Val::list(numbers)),
                Err(error) => Some(Err(error)),
            }
        }
        [Val::Int(_)] => fail(format!("a range is longer than {MAX_RANGE}")),
        _ => None,
    }),
    (Style::Member, "isSorted", |evaluation, args| {
        let [list] = args else { return None };
        let elements = list.elements()?;
        if let Err(error) = charge_texts(evaluation, &elements) {
            return Some(Err(error));
        }
        let pairs = elements.windows(2).map(|pair| pair[0].order(&pair[1])).collect::<Option<Vec<_>>>()?;
        ok(Val::Bool(pairs.into_iter().all(Ordering::is_le)))
    }),
    (Style::Member, "sum", |_, args| {
        let [list] = args else { return None };
        let mut sum: Option<Val<'_>> = None;
        for element in list.elements()? {
            let next = match (sum, element) {
                (None, element) => Some(element),
                (Some(Val::Int(a)), Val::Int(b)) => a.checked_add(b).map(Val::Int),
                (Some(Val::Uint(a)), Val::Uint(b)) => a.checked_add(b).map(Val::Uint),
                (Some(Val::Double(a)), Val::Double(b)) => Some(Val::Double(a + b)),
                (Some(Val::Duration(a)), Val::Duration(b)) => a.checked_add(b).map(Val::Duration),
                _ => return None,
            };
            let Some(next) = next else { return fail("a number is out of range") };
            sum = Some(next);
        }
        ok(sum.unwrap_or(Val::Int(0)))
    }),
    (Style::Member, "min", |evaluation, args| extreme(evaluation, args, Ordering::Less)),
    (Style::Member, "max", |evaluation, args| extreme(evaluation, args, Ordering::Greater)),
    (Style::Global, "sets.contains", |evaluation, args| sets(evaluation, args, has_all)),
    (Style::Global, "sets.intersects", |evaluation, args| sets(evaluation, args, has_any)),
    (Style::Global, "sets.equivalent", |evaluation, args| {
        sets(evaluation, args, |evaluation, a, b| Ok(has_all(evaluation, a, b)? && has_all(evaluation, b, a)?))
    }),
];

/// What is in lists of lists is counted: one list may stand in another any number of times.
fn flatten<'a>(
    evaluation: &mut Evaluation<'a>,
    elements: Vec<Val<'a>>,
    depth: i64,
    flat: &mut Vec<Val<'a>>,
) -> Result<(), NoValue> {
    evaluation.charge(elements.len())?;
    for element in elements {
        match element.elements() {
            Some(inner) if depth > 0 => flatten(evaluation, inner, depth - 1, flat)?,
            _ => flat.push(element),
        }
    }
    Ok(())
}

/// Counts the texts of a list that is to be ordered.
fn charge_texts<'a>(evaluation: &mut Evaluation<'a>, elements: &[Val<'a>]) -> Result<(), NoValue> {
    elements.iter().try_for_each(|element| match element {
        Val::Text(text) => evaluation.charge(text.len() / 16),
        _ => Ok(()),
    })
}

fn extreme<'a>(evaluation: &mut Evaluation<'a>, args: &[Val<'a>], wanted: Ordering) -> Answer<'a> {
    let [list] = args else { return None };
    let elements = list.elements()?;
    if let Err(error) = charge_texts(evaluation, &elements) {
        return Some(Err(error));
    }
    let Some(mut best) = elements.first() else { return fail("the list is empty") };
    for element in &elements[1..] {
        if element.order(best)? == wanted {
            best = element;
        }
    }
    ok(best.clone())
}

/// Whether every one of `wanted` is in `set`.
fn has_all<'a>(evaluation: &mut Evaluation<'a>, set: &[Val<'a>], wanted: &[Val<'a>]) -> Result<bool, NoValue> {
    for wanted in wanted {
        if evaluation.position(set, wanted)?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

fn has_any<'a>(evaluation: &mut Evaluation<'a>, set: &[Val<'a>], wanted: &[Val<'a>]) -> Result<bool, NoValue> {
    for wanted in wanted {
        if evaluation.position(set, wanted)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn sets<'a>(
    evaluation: &mut Evaluation<'a>,
    args: &[Val<'a>],
    holds: impl Fn(&mut Evaluation<'a>, &[Val<'a>], &[Val<'a>]) -> Result<bool, NoValue>,
) -> Answer<'a> {
    let [a, b] = args else { return None };
    let (a, b) = (a.elements()?, b.elements()?);
    Some(holds(evaluation, &a, &b).map(Val::Bool))
}
