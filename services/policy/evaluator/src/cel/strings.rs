//! Functions of texts: CEL's own, its strings, encoders and regex extensions, and Kubernetes' regex library.

use super::{
    Evaluation, Val,
    compile::regex,
    functions::{Answer, Style, Table, fail, ok, texts},
};
use base64::{Engine, prelude::BASE64_STANDARD};

pub const TABLE: Table = &[
    (Style::Member, "contains", |_, args| test(args, |text, part| text.contains(part))),
    (Style::Member, "startsWith", |_, args| test(args, |text, part| text.starts_with(part))),
    (Style::Member, "endsWith", |_, args| test(args, |text, part| text.ends_with(part))),
    (Style::Member, "matches", matches),
    (Style::Global, "matches", matches),
    (Style::Member, "lowerAscii", |_, args| change(args, |text| text.to_ascii_lowercase())),
    (Style::Member, "upperAscii", |_, args| change(args, |text| text.to_ascii_uppercase())),
    (Style::Member, "trim", |_, args| change(args, |text| text.trim().to_owned())),
    (Style::Member, "reverse", |_, args| match args {
        [list @ (Val::Items(_) | Val::List(_))] => {
            let mut elements = list.elements()?;
            elements.reverse();
            ok(Val::list(elements))
        }
        _ => change(args, |text| text.chars().rev().collect()),
    }),
    (Style::Global, "strings.quote", |_, args| change(args, |text| format!("{text:?}"))),
    (Style::Member, "charAt", |_, args| match args {
        [Val::Text(text), Val::Int(at)] => {
            let at = usize::try_from(*at).ok();
            match at.and_then(|at| text.chars().nth(at)) {
                Some(found) => ok(Val::text(found)),
                None if at == Some(text.chars().count()) => ok(Val::text("")),
                None => fail("the index is out of range"),
            }
        }
        _ => None,
    }),
    (Style::Member, "indexOf", |evaluation, args| match args {
        [Val::Text(text), Val::Text(part)] => ok(position(text, text.find(part.as_ref()))),
        [Val::Text(text), Val::Text(part), Val::Int(from)] => {
            let Some(start) = byte_at(text, *from) else { return fail("the index is out of range") };
            ok(position(text, text[start..].find(part.as_ref()).map(|found| start + found)))
        }
        [list @ (Val::Items(_) | Val::List(_)), element] => {
            let found = evaluation.position(&list.elements()?, element);
            Some(found.map(|found| Val::Int(found.map_or(-1, |at| at as i64))))
        }
        _ => None,
    }),
    (Style::Member, "lastIndexOf", |evaluation, args| match args {
        [Val::Text(text), Val::Text(part)] => ok(position(text, text.rfind(part.as_ref()))),
        [list @ (Val::Items(_) | Val::List(_)), element] => {
            let mut elements = list.elements()?;
            elements.reverse();
            let found = evaluation.position(&elements, element);
            Some(found.map(|found| Val::Int(found.map_or(-1, |at| (elements.len() - 1 - at) as i64))))
        }
        _ => None,
    }),
    (Style::Member, "substring", |_, args| {
        let (text, from, to) = match args {
            [Val::Text(text), Val::Int(from)] => (text, *from, None),
            [Val::Text(text), Val::Int(from), Val::Int(to)] => (text, *from, Some(*to)),
            _ => return None,
        };
        let end = to.map_or(Some(text.len()), |to| byte_at(text, to));
        match (byte_at(text, from), end) {
            (Some(start), Some(end)) if start <= end => ok(Val::text(&text[start..end])),
            _ => fail("the range is outside the text"),
        }
    }),
    (Style::Member, "replace", |evaluation, args| {
        let (text, from, to, times) = match args {
            [Val::Text(text), Val::Text(from), Val::Text(to)] => (text, from, to, usize::MAX),
            [Val::Text(text), Val::Text(from), Val::Text(to), Val::Int(times)] => {
                (text, from, to, usize::try_from(*times).unwrap_or(usize::MAX))
            }
            _ => return None,
        };
        let places = if from.is_empty() { text.len() + 1 } else { text.matches(from.as_ref()).count() };
        if let Err(error) = evaluation.charge(text.len() + places.min(times).saturating_mul(to.len())) {
            return Some(Err(error));
        }
        ok(Val::text(text.replacen(from.as_ref(), to, times)))
    }),
    (Style::Member, "split", |evaluation, args| {
        let (text, by, limit) = match args {
            [Val::Text(text), Val::Text(by)] => (text, by, -1),
            [Val::Text(text), Val::Text(by), Val::Int(limit)] => (text, by, *limit),
            _ => return None,
        };
        if let Err(error) = evaluation.charge(text.len()) {
            return Some(Err(error));
        }
        let parts: Vec<Val<'_>> = match (by.as_ref(), usize::try_from(limit)) {
            (_, Ok(0)) => Vec::new(),
            ("", _) => text.chars().map(Val::text).collect(),
            (by, Ok(limit)) => text.splitn(limit, by).map(Val::text).collect(),
            (by, Err(_)) => text.split(by).map(Val::text).collect(),
        };
        ok(Val::list(parts))
    }),
    (Style::Member, "join", |evaluation, args| {
        let (list, between) = match args {
            [list] => (list, ""),
            [list, Val::Text(between)] => (list, between.as_ref()),
            _ => return None,
        };
        // Counted before it is made: one long text may be in the list many times.
        let parts = texts(list)?;
        match evaluation.charge(parts.iter().map(|part| part.len() + between.len()).sum()) {
            Ok(()) => ok(Val::text(parts.join(between))),
            Err(error) => Some(Err(error)),
        }
    }),
    (Style::Member, "format", format),
    (Style::Member, "find", |evaluation, args| match args {
        [Val::Text(text), Val::Text(pattern)] => {
            with_regex(evaluation, pattern, |regex| Val::text(regex.find(text).map(|found| found.as_str()).unwrap_or_default()))
        }
        _ => None,
    }),
    (Style::Member, "findAll", |evaluation, args| {
        let (text, pattern, limit) = match args {
            [Val::Text(text), Val::Text(pattern)] => (text, pattern, usize::MAX),
            [Val::Text(text), Val::Text(pattern), Val::Int(limit)] => {
                (text, pattern, usize::try_from(*limit).unwrap_or(usize::MAX))
            }
            _ => return None,
        };
        with_regex(evaluation, pattern, |regex| {
            Val::list(regex.find_iter(text).take(limit).map(|found| Val::text(found.as_str())).collect())
        })
    }),
    (Style::Global, "regex.replace", |evaluation, args| match args {
        [Val::Text(text), Val::Text(pattern), Val::Text(by)] => {
            if let Err(error) = evaluation.charge(text.len().saturating_mul(by.len() + 1)) {
                return Some(Err(error));
            }
            // CEL writes groups as \1, the crate as ${1}.
            let by = by.replace('$', "$$");
            let by = regex(r"\\(\d)").map(|groups| groups.replace_all(&by, "$${$1}").into_owned());
            with_regex(evaluation, pattern, |regex| {
                Val::text(regex.replace_all(text, by.as_deref().unwrap_or_default()).into_owned())
            })
        }
        _ => None,
    }),
    (Style::Global, "regex.extract", |evaluation, args| match args {
        [Val::Text(text), Val::Text(pattern)] => with_regex(evaluation, pattern, |regex| {
            let found = regex.captures(text).and_then(|groups| groups.get(1).or_else(|| groups.get(0)));
            found.map_or(Val::Optional(None), |found| Val::some(Val::text(found.as_str())))
        }),
        _ => None,
    }),
    (Style::Global, "regex.extractAll", |evaluation, args| match args {
        [Val::Text(text), Val::Text(pattern)] => with_regex(evaluation, pattern, |regex| {
            let found = regex.captures_iter(text).filter_map(|groups| groups.get(1).or_else(|| groups.get(0)));
            Val::list(found.map(|found| Val::text(found.as_str())).collect())
        }),
        _ => None,
    }),
    (Style::Global, "base64.encode", |_, args| match args {
        [Val::Bytes(bytes)] => ok(Val::text(BASE64_STANDARD.encode(bytes))),
        _ => None,
    }),
    (Style::Global, "base64.decode", |_, args| match args {
        [Val::Text(text)] => match BASE64_STANDARD.decode(text.as_bytes()) {
            Ok(bytes) => ok(Val::Bytes(bytes.into())),
            Err(error) => fail(error.to_string()),
        },
        _ => None,
    }),
];

fn test<'a>(args: &[Val<'a>], holds: impl Fn(&str, &str) -> bool) -> Answer<'a> {
    match args {
        [Val::Text(text), Val::Text(part)] => ok(Val::Bool(holds(text, part))),
        _ => None,
    }
}

fn change<'a>(args: &[Val<'a>], change: impl Fn(&str) -> String) -> Answer<'a> {
    match args {
        [Val::Text(text)] => ok(Val::text(change(text))),
        _ => None,
    }
}

fn matches<'a>(evaluation: &mut Evaluation<'a>, args: &[Val<'a>]) -> Answer<'a> {
    match args {
        [Val::Text(text), Val::Text(pattern)] => with_regex(evaluation, pattern, |regex| Val::Bool(regex.is_match(text))),
        _ => None,
    }
}

/// Compiling costs more than a step for every character of the pattern.
fn with_regex<'a>(evaluation: &mut Evaluation<'a>, pattern: &str, use_it: impl FnOnce(&regex::Regex) -> Val<'a>) -> Answer<'a> {
    if let Err(error) = evaluation.charge(1_000 + pattern.len() * 20) {
        return Some(Err(error));
    }
    match regex(pattern) {
        Ok(regex) => ok(use_it(&regex)),
        Err(error) => fail(error),
    }
}

/// A byte offset as a count of characters; -1 for none.
fn position<'a>(text: &str, at: Option<usize>) -> Val<'a> {
    Val::Int(at.map_or(-1, |at| text[..at].chars().count() as i64))
}

/// The byte at which a character starts; the end counts too.
fn byte_at(text: &str, index: i64) -> Option<usize> {
    let index = usize::try_from(index).ok()?;
    let mut starts = text.char_indices().map(|(at, _)| at).chain([text.len()]);
    starts.nth(index)
}

/// `'%s has %d'.format([a, b])`
fn format<'a>(evaluation: &mut Evaluation<'a>, args: &[Val<'a>]) -> Answer<'a> {
    let [Val::Text(template), list] = args else { return None };
    let mut values = list.elements()?.into_iter();
    let mut made = String::new();
    let mut rest = template.as_ref();
    while let Some((before, after)) = rest.split_once('%') {
        made.push_str(before);
        let digits = after
            .strip_prefix('.')
            .map_or("", |after| &after[..after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len()]);
        let after = if after.starts_with('.') { &after[1 + digits.len()..] } else { after };
        let Some(verb) = after.chars().next() else { return fail("the format ends with %") };
        rest = &after[verb.len_utf8()..];
        if verb == '%' {
            made.push('%');
            continue;
        }
        let Some(value) = values.next() else { return fail("the format has more places than there are values") };
        let precision = digits.parse::<usize>().unwrap_or(6).min(100);
        match (verb, &value) {
            ('s', value) => match evaluation.written(value) {
                Ok(text) => made.push_str(&text),
                Err(error) => return Some(Err(error)),
            },
            ('d', Val::Int(_) | Val::Uint(_) | Val::Double(_)) => made.push_str(&value.shown()),
            ('f', Val::Double(number)) => made.push_str(&format!("{number:.precision$}")),
            ('f', Val::Int(number)) => made.push_str(&format!("{:.precision$}", *number as f64)),
            ('e', Val::Double(number)) => made.push_str(&format!("{number:.precision$e}")),
            ('x', Val::Int(number)) => made.push_str(&format!("{number:x}")),
            ('X', Val::Int(number)) => made.push_str(&format!("{number:X}")),
            ('o', Val::Int(number)) => made.push_str(&format!("{number:o}")),
            ('b', Val::Int(number)) => made.push_str(&format!("{number:b}")),
            ('b', Val::Bool(set)) => made.push_str(if *set { "1" } else { "0" }),
            (verb, value) => return fail(format!("%{verb} does not show a {}", value.type_name())),
        }
    }
    made.push_str(rest);
    match evaluation.charge(made.len()) {
        Ok(()) => ok(Val::text(made)),
        Err(error) => Some(Err(error)),
    }
}
