//! Instants and durations.

use super::{
    NoValue, Val,
    functions::{Answer, Style, Table, fail, ok},
};
use jiff::{Timestamp, tz::TimeZone};
use muster_core::duration;

pub const TABLE: Table = &[
    (Style::Global, "duration", |_, args| match args {
        [Val::Duration(nanos)] => ok(Val::Duration(*nanos)),
        [Val::Text(text)] => match duration::parse_nanos(text) {
            Ok(nanos) => ok(Val::Duration(nanos)),
            Err(_) => fail(format!("{text:?} is no duration")),
        },
        _ => None,
    }),
    (Style::Global, "timestamp", |_, args| match args {
        [Val::Timestamp(instant)] => ok(Val::Timestamp(*instant)),
        [Val::Int(seconds)] => Timestamp::from_second(*seconds)
            .map_or_else(|_| fail("the instant is out of range"), |instant| ok(Val::Timestamp(instant))),
        [Val::Text(text)] => match text.parse() {
            Ok(instant) => ok(Val::Timestamp(instant)),
            Err(_) => fail(format!("{text:?} is no instant")),
        },
        _ => None,
    }),
    (Style::Global, "time.now", |evaluation, args| match args {
        [] => {
            Some(evaluation.roots.now.map(Val::Timestamp).ok_or_else(|| NoValue::NotGiven("it asks what time it is".to_owned())))
        }
        _ => None,
    }),
    (Style::Member, "getFullYear", |_, args| part(args, |at| at.year().into())),
    (Style::Member, "getMonth", |_, args| part(args, |at| i64::from(at.month()) - 1)),
    (Style::Member, "getDayOfMonth", |_, args| part(args, |at| i64::from(at.day()) - 1)),
    (Style::Member, "getDate", |_, args| part(args, |at| at.day().into())),
    (Style::Member, "getDayOfYear", |_, args| part(args, |at| i64::from(at.day_of_year()) - 1)),
    (Style::Member, "getDayOfWeek", |_, args| part(args, |at| at.weekday().to_sunday_zero_offset().into())),
    (Style::Member, "getHours", |_, args| match args {
        [Val::Duration(nanos)] => ok(Val::Int(nanos / 3_600_000_000_000)),
        _ => part(args, |at| at.hour().into()),
    }),
    (Style::Member, "getMinutes", |_, args| match args {
        [Val::Duration(nanos)] => ok(Val::Int(nanos / 60_000_000_000)),
        _ => part(args, |at| at.minute().into()),
    }),
    (Style::Member, "getSeconds", |_, args| match args {
        [Val::Duration(nanos)] => ok(Val::Int(nanos / 1_000_000_000)),
        _ => part(args, |at| at.second().into()),
    }),
    (Style::Member, "getMilliseconds", |_, args| match args {
        [Val::Duration(nanos)] => ok(Val::Int(nanos / 1_000_000)),
        _ => part(args, |at| at.millisecond().into()),
    }),
];

/// A part of an instant in UTC, or in the zone that is named.
fn part<'a>(args: &[Val<'a>], of: impl Fn(&jiff::Zoned) -> i64) -> Answer<'a> {
    let (instant, zone) = match args {
        [Val::Timestamp(instant)] => (instant, TimeZone::UTC),
        [Val::Timestamp(instant), Val::Text(zone)] => match TimeZone::get(zone) {
            Ok(zone) => (instant, zone),
            Err(_) => return fail(format!("{zone:?} is no time zone that is known")),
        },
        _ => return None,
    };
    ok(Val::Int(of(&instant.to_zoned(zone))))
}
