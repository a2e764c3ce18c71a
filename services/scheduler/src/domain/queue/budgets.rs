//! Budgets: how much GPU time or money a queue and those below it may spend, and over what time.

use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp, ToSpan, Zoned};
use muster_scheduler_engine::{Budget, BudgetLimit, BudgetUnit};
use serde_json::Value;

use super::fields::{known, text};
use crate::domain::Fault;

/// At most this many budgets a queue.
const MAX_BUDGETS: usize = 8;
/// A window that moves on lasts from an hour to a leap year.
const ROLLING_HOURS: std::ops::RangeInclusive<i64> = 1..=366 * 24;
/// GPU-hours and units of money are whole in thousandths and millionths of them up to here.
const MAX_AMOUNT: f64 = 1e9;

/// A budget as written.
#[derive(Clone, Debug, PartialEq)]
pub struct BudgetDefinition {
    /// What may be spent.
    pub budget: Budget,
    /// Over what time.
    pub window: Window,
}

/// The time that a budget is for.
#[derive(Clone, Debug, PartialEq)]
pub enum Window {
    /// Until now, from so long ago.
    Rolling(SignedDuration),
    /// The present day in UTC.
    Day,
    /// The present week in UTC, from Monday (ISO 8601).
    Week,
    /// The present month in UTC.
    Month,
    /// The present year in UTC.
    Year,
}

impl Window {
    /// When it began.
    #[must_use]
    pub fn start(&self, now: Timestamp) -> Timestamp {
        let today = now.to_zoned(TimeZone::UTC);
        let start = match self {
            Self::Rolling(length) => return now.saturating_sub(*length).unwrap_or(Timestamp::MIN),
            Self::Day => Ok(today),
            Self::Week => today.tomorrow().and_then(|tomorrow| tomorrow.nth_weekday(-1, Weekday::Monday)),
            Self::Month => today.first_of_month(),
            Self::Year => today.first_of_year(),
        };
        start.and_then(|day| day.start_of_day()).map_or(Timestamp::MIN, |day| day.timestamp())
    }

    /// When it begins anew; `None` for one that moves on all the time.
    #[must_use]
    pub fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let length = match self {
            Self::Rolling(_) => return None,
            Self::Day => 1.day(),
            Self::Week => 1.week(),
            Self::Month => 1.month(),
            Self::Year => 1.year(),
        };
        let start: Zoned = self.start(now).to_zoned(TimeZone::UTC);
        start.checked_add(length).ok().map(|next| next.timestamp())
    }
}

impl std::fmt::Display for Window {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Rolling(length) if length.as_secs() % 86_400 == 0 => write!(out, "P{}D", length.as_secs() / 86_400),
            Self::Rolling(length) => write!(out, "{length}"),
            Self::Day => write!(out, "day"),
            Self::Week => write!(out, "week"),
            Self::Month => write!(out, "month"),
            Self::Year => write!(out, "year"),
        }
    }
}

/// Reads `spec.budgets`.
pub(super) fn budgets(value: Option<&Value>) -> Result<Vec<BudgetDefinition>, Fault> {
    let list = match value {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(_) => return Err(Fault::new("spec.budgets", "must be a list")),
    };
    if list.len() > MAX_BUDGETS {
        return Err(Fault::new("spec.budgets", format!("{} budgets, at most {MAX_BUDGETS} are allowed", list.len())));
    }
    list.iter().enumerate().map(|(index, budget)| one_budget(&format!("spec.budgets[{index}]"), budget)).collect()
}

fn one_budget(path: &str, value: &Value) -> Result<BudgetDefinition, Fault> {
    let budget = value.as_object().ok_or_else(|| Fault::new(path, "must be an object"))?;
    known(path, budget, &["gpuHours", "money", "window", "enforcement"])?;
    let gpu_ms = amount(&format!("{path}.gpuHours"), budget.get("gpuHours"), 3_600_000.0)?;
    let micros = amount(&format!("{path}.money"), budget.get("money"), 1_000_000.0)?;
    let (unit, amount) = match (gpu_ms, micros) {
        (Some(gpu_ms), None) => (BudgetUnit::GpuMs, gpu_ms),
        (None, Some(micros)) => (BudgetUnit::Micros, micros),
        (None, None) | (Some(_), Some(_)) => return Err(Fault::new(path, "must have either gpuHours or money")),
    };
    let limit = match text(&format!("{path}.enforcement"), budget.get("enforcement"))?.as_deref() {
        None | Some("hard") => BudgetLimit::Hard,
        Some("soft") => BudgetLimit::Soft,
        Some(_) => return Err(Fault::new(format!("{path}.enforcement"), "must be hard or soft")),
    };
    let window = window(&format!("{path}.window"), budget.get("window"))?;
    Ok(BudgetDefinition { budget: Budget { unit, amount, limit }, window })
}

fn amount(path: &str, value: Option<&Value>, per_one: f64) -> Result<Option<i64>, Fault> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let amount = value.as_f64().filter(|amount| (0.0..=MAX_AMOUNT).contains(amount));
            let amount = amount.ok_or_else(|| Fault::new(path, "must be a number from 0 to a thousand million"))?;
            Ok(Some((amount * per_one).round() as i64))
        }
    }
}

fn window(path: &str, value: Option<&Value>) -> Result<Window, Fault> {
    let wrong = || Fault::new(path, "must be day, week, month, year or a span of an hour to 366 days such as P30D or PT12H");
    match text(path, value)?.as_deref() {
        Some("day") => Ok(Window::Day),
        Some("week") => Ok(Window::Week),
        Some("month") => Ok(Window::Month),
        Some("year") => Ok(Window::Year),
        Some(span) if span.starts_with('P') => {
            let span: Span = span.parse().map_err(|_| wrong())?;
            // A month has no length of its own: the calendar's month is meant then.
            let length = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
            Some(length).filter(|length| ROLLING_HOURS.contains(&length.as_hours())).map(Window::Rolling).ok_or_else(wrong)
        }
        Some(_) | None => Err(wrong()),
    }
}
