//! Kyverno's functions about time. Instants are texts in RFC 3339; layouts are Go's.

use super::{
    Evaluation, JmesError,
    arithmetic::go_duration,
    functions::{Answer, fail},
};
use jiff::{SignedDuration, Timestamp, Zoned, fmt::strtime, tz::TimeZone};
use muster_core::duration;
use serde_json::Value;

pub const NAMES: &[&str] = &[
    "time_add",
    "time_after",
    "time_before",
    "time_between",
    "time_diff",
    "time_now",
    "time_now_utc",
    "time_parse",
    "time_since",
    "time_to_cron",
    "time_truncate",
    "time_utc",
];

pub fn call(run: &Evaluation<'_>, name: &str, args: &[&Value]) -> Answer {
    let texts: Vec<&str> = args.iter().map(|arg| arg.as_str()).collect::<Option<_>>()?;
    let answer = match (name, texts.as_slice()) {
        ("time_now" | "time_now_utc", []) => now(run).map(|now| written(now).into()),
        ("time_since", [layout, from, to]) => since(run, layout, from, to),
        ("time_diff", [from, to]) => both(from, to).map(|(from, to)| go_duration(nanos_between(from, to)).into()),
        ("time_before", [a, b]) => both(a, b).map(|(a, b)| (a < b).into()),
        ("time_after", [a, b]) => both(a, b).map(|(a, b)| (a > b).into()),
        ("time_between", [at, from, to]) => {
            both(from, to).and_then(|(from, to)| instant(at).map(|at| (from < at && at < to).into()))
        }
        ("time_add", [at, by]) => at_and_span(at, by).and_then(|(at, by)| {
            let moved = at.checked_add(SignedDuration::from_nanos(by));
            moved.map(|moved| moved.strftime(RFC_3339).to_string().into()).map_err(|error| error.to_string())
        }),
        ("time_truncate", [at, by]) => at_and_span(at, by).map(|(at, by)| truncated(&at, by).into()),
        ("time_utc", [at]) => instant(at).map(|at| written(at).into()),
        ("time_parse", [layout, at]) => zoned(layout, at).map(|at| at.strftime(RFC_3339).to_string().into()),
        ("time_to_cron", [at]) => zoned("", at).map(|at| {
            let weekday = at.weekday().to_sunday_zero_offset();
            format!("{} {} {} {} {weekday}", at.minute(), at.hour(), at.day(), at.month()).into()
        }),
        _ => return None,
    };
    match answer {
        Ok(value) => Some(Ok(value)),
        Err(message) if message == NOT_TOLD => Some(Err(JmesError::not_given(message))),
        Err(message) => fail(format!("{name}: {message}")),
    }
}

const NOT_TOLD: &str = "it asks what time it is";
const RFC_3339: &str = "%Y-%m-%dT%H:%M:%S%:z";

fn now(run: &Evaluation<'_>) -> Result<Timestamp, String> {
    run.now.ok_or_else(|| NOT_TOLD.to_owned())
}

fn since(run: &Evaluation<'_>, layout: &str, from: &str, to: &str) -> Result<Value, String> {
    let from = zoned(layout, from)?.timestamp();
    let to = if to.is_empty() { now(run)? } else { zoned(layout, to)?.timestamp() };
    Ok(go_duration(nanos_between(from, to)).into())
}

/// Seconds only, as RFC 3339 is written where nothing smaller is asked for.
fn written(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn instant(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| format!("{text:?} is no instant in RFC 3339"))
}

fn both(a: &str, b: &str) -> Result<(Timestamp, Timestamp), String> {
    Ok((instant(a)?, instant(b)?))
}

fn at_and_span(at: &str, by: &str) -> Result<(Zoned, i64), String> {
    let nanos = duration::parse_nanos(by).map_err(|error| error.to_string())?;
    Ok((zoned("", at)?, nanos))
}

/// Nanoseconds from one to the other, held within 292 years as Go's are.
fn nanos_between(from: Timestamp, to: Timestamp) -> i64 {
    let nanos = to.as_nanosecond() - from.as_nanosecond();
    i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX })
}

fn truncated(at: &Zoned, by: i64) -> String {
    if by <= 0 {
        return at.strftime(RFC_3339).to_string();
    }
    // Go counts from the year 1.
    const YEAR_ONE_SECONDS: i128 = 62_135_596_800;
    let nanos = at.timestamp().as_nanosecond();
    let rest = (nanos + YEAR_ONE_SECONDS * 1_000_000_000).rem_euclid(i128::from(by));
    let cut = Timestamp::from_nanosecond(nanos - rest).map(|cut| cut.to_zoned(at.time_zone().clone()));
    cut.map_or_else(|_| at.strftime(RFC_3339).to_string(), |cut| cut.strftime(RFC_3339).to_string())
}

/// Reads a text by one of Go's layouts; an empty layout is RFC 3339.
fn zoned(layout: &str, text: &str) -> Result<Zoned, String> {
    let unreadable = || format!("{text:?} is no time in this layout");
    if layout.is_empty() {
        let parsed = strtime::parse("%Y-%m-%dT%H:%M:%S%.f%:z", text.replace('Z', "+00:00")).map_err(|_| unreadable())?;
        return parsed.to_zoned().map_err(|_| unreadable());
    }
    let parsed = strtime::parse(format_of(layout), text).map_err(|_| unreadable())?;
    if let Ok(zoned) = parsed.to_zoned() {
        return Ok(zoned);
    }
    parsed
        .to_datetime()
        .and_then(|at| at.to_zoned(TimeZone::UTC))
        .or_else(|_| parsed.to_date().and_then(|day| day.at(0, 0, 0, 0).to_zoned(TimeZone::UTC)).map_err(|_| unreadable()))
}

/// The directives for Go's reference time, longest first.
const DIRECTIVES: [(&str, &str); 22] = [
    ("2006", "%Y"),
    ("January", "%B"),
    ("Monday", "%A"),
    ("Z07:00", "%:z"),
    ("-07:00", "%:z"),
    ("-0700", "%z"),
    ("Jan", "%b"),
    ("Mon", "%a"),
    ("MST", "%Z"),
    ("PM", "%p"),
    ("01", "%m"),
    ("02", "%d"),
    ("_2", "%e"),
    ("15", "%H"),
    ("03", "%I"),
    ("04", "%M"),
    ("05", "%S"),
    ("06", "%y"),
    ("1", "%m"),
    ("2", "%d"),
    ("3", "%I"),
    ("4", "%M"),
];

fn format_of(layout: &str) -> String {
    let mut format = String::new();
    let mut rest = layout;
    while let Some(first) = rest.chars().next() {
        let known = DIRECTIVES.iter().find(|(reference, _)| rest.starts_with(reference));
        let length = known.map_or(first.len_utf8(), |(reference, _)| reference.len());
        match (known, first) {
            (Some((_, directive)), _) => format.push_str(directive),
            (None, '%') => format.push_str("%%"),
            (None, other) => format.push(other),
        }
        rest = &rest[length..];
    }
    format
}
