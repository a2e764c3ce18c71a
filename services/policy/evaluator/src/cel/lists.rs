//! Functions of lists and sets: CEL's extensions and Kubernetes' list library.

use super::{
    Evaluation, Val,
    functions::{Answer, Style, Table, fail, ok},
};
use std::cmp::Ordering;

/// The longest list `lists.range` makes.
const MAX_RANGE: i64 = 100_000;

pub const TABLE: Table = &[
    (Style::Member, "flatten", |_, args| {
        let (list, depth) = match args {
            [list] => (list, 1),
            [list, Val::Int(depth)] => (list, *depth),
            _ => return None,
        };
        ok(Val::list(flattened(list.elements()?, depth)))
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
            if let Err(error) = evaluation.charge(kept.len()) {
                return Some(Err(error));
            }
            if !kept.iter().any(|found| found.equals(&element)) {
                kept.push(element);
            }
        }
        ok(Val::list(kept))
    }),
    (Style::Member, "sort", |_, args| {
        let [list] = args else { return None };
        let mut elements = list.elements()?;
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
    (Style::Member, "isSorted", |_, args| {
        let [list] = args else { return None };
        let elements = list.elements()?;
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
    (Style::Member, "min", |_, args| extreme(args, Ordering::Less)),
    (Style::Member, "max", |_, args| extreme(args, Ordering::Greater)),
    (Style::Global, "sets.contains", |evaluation, args| sets(evaluation, args, |a, b| b.iter().all(|wanted| has(a, wanted)))),
    (Style::Global, "sets.intersects", |evaluation, args| sets(evaluation, args, |a, b| b.iter().any(|wanted| has(a, wanted)))),
    (Style::Global, "sets.equivalent", |evaluation, args| {
        sets(evaluation, args, |a, b| b.iter().all(|wanted| has(a, wanted)) && a.iter().all(|wanted| has(b, wanted)))
    }),
];

fn flattened(elements: Vec<Val<'_>>, depth: i64) -> Vec<Val<'_>> {
    let mut flat = Vec::new();
    for element in elements {
        match element.elements() {
            Some(inner) if depth > 0 => flat.extend(flattened(inner, depth - 1)),
            _ => flat.push(element),
        }
    }
    flat
}

fn extreme<'a>(args: &[Val<'a>], wanted: Ordering) -> Answer<'a> {
    let [list] = args else { return None };
    let elements = list.elements()?;
    let Some(mut best) = elements.first() else { return fail("the list is empty") };
    for element in &elements[1..] {
        if element.order(best)? == wanted {
            best = element;
        }
    }
    ok(best.clone())
}

fn has(set: &[Val<'_>], wanted: &Val<'_>) -> bool {
    set.iter().any(|found| found.equals(wanted))
}

fn sets<'a>(evaluation: &mut Evaluation<'a>, args: &[Val<'a>], holds: impl Fn(&[Val<'a>], &[Val<'a>]) -> bool) -> Answer<'a> {
    let [a, b] = args else { return None };
    let (a, b) = (a.elements()?, b.elements()?);
    match evaluation.charge(a.len().saturating_mul(b.len())) {
        Ok(()) => ok(Val::Bool(holds(&a, &b))),
        Err(error) => Some(Err(error)),
    }
}
