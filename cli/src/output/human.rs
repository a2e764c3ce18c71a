//! Words for people: ages, durations, states, amounts, money.

use jiff::Timestamp;
use muster_proto::scheduler::v1::Usage;
use std::{collections::BTreeMap, time::Duration};

/// `NOT_ENROLLED` as `NotEnrolled`; the value that means nothing as nothing.
pub fn state(wire: &str) -> String {
    if wire.ends_with("UNSPECIFIED") {
        return String::new();
    }
    wire.split('_')
        .map(|word| match word.split_at_checked(1) {
            Some((first, rest)) => format!("{first}{}", rest.to_lowercase()),
            None => String::new(),
        })
        .collect()
}

/// A state with its reason.
pub fn saying(wire: &str, reason: &str) -> String {
    if reason.is_empty() { state(wire) } else { format!("{}: {reason}", state(wire)) }
}

/// The two largest units: `45s`, `3m12s`, `5h40m`, `2d3h`; days from 48 hours on.
pub fn duration(length: Duration) -> String {
    let seconds = length.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    let two = |large: u64, large_unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{large}{large_unit}"),
        small => format!("{large}{large_unit}{small}{small_unit}"),
    };
    if minutes == 0 {
        format!("{seconds}s")
    } else if hours == 0 {
        two(minutes, "m", seconds % 60, "s")
    } else if hours < 48 {
        two(hours, "h", minutes % 60, "m")
    } else if days < 14 {
        two(days, "d", hours % 24, "h")
    } else {
        format!("{days}d")
    }
}

/// A timestamp of the wire.
pub fn moment(time: &muster_proto::Timestamp) -> Option<Timestamp> {
    Timestamp::new(time.seconds, time.nanos).ok()
}

fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or(Duration::ZERO)
}

/// How long ago; empty where there is no time.
pub fn age(time: Option<&muster_proto::Timestamp>, now: Timestamp) -> String {
    time.and_then(moment).map_or_else(String::new, |time| duration(between(time, now)))
}

/// From one time to another, or until now where it has not ended.
pub fn span(start: Option<&muster_proto::Timestamp>, end: Option<&muster_proto::Timestamp>, now: Timestamp) -> String {
    let Some(start) = start.and_then(moment) else { return String::new() };
    duration(between(start, end.and_then(moment).unwrap_or(now)))
}

/// Whether a time has passed.
pub fn is_past(time: &muster_proto::Timestamp, now: Timestamp) -> bool {
    moment(time).is_some_and(|time| time <= now)
}

/// `in 3h`, `5m ago`, `never`.
pub fn expiry(time: Option<&muster_proto::Timestamp>, now: Timestamp) -> String {
    match time.and_then(moment) {
        None => "never".to_owned(),
        Some(time) if time > now => format!("in {}", duration(between(now, time))),
        Some(time) => format!("{} ago", duration(between(time, now))),
    }
}

/// `cpu=200 nvidia.com/gpu=64`.
pub fn amounts(amounts: &BTreeMap<String, String>) -> String {
    amounts.iter().map(|(name, amount)| format!("{name}={amount}")).collect::<Vec<_>>().join(" ")
}

/// Millionths of a currency with two decimals, four below one cent: `12.50 EUR`.
pub fn money(micros: i64, currency: &str) -> String {
    if currency.is_empty() {
        return String::new();
    }
    // Integer arithmetic, so that sums shown are sums stored.
    let (sign, micros) = (if micros < 0 { "-" } else { "" }, micros.unsigned_abs());
    let (whole, rest) = (micros / 1_000_000, micros % 1_000_000);
    if whole == 0 && rest > 0 && rest < 10_000 {
        return format!("{sign}0.{:04} {currency}", rest / 100);
    }
    let cents = (rest + 5_000) / 10_000;
    format!("{sign}{}.{:02} {currency}", whole + cents / 100, cents % 100)
}

/// GPU-hours and cost; empty where nothing is known.
pub fn usage(usage: Option<&Usage>) -> (String, String) {
    usage.map_or_else(Default::default, |usage| {
        (format!("{:.2}", usage.gpu_seconds / 3_600.0), money(usage.cost_micros, &usage.currency))
    })
}

/// Energy and emissions; empty where nothing is known.
pub fn energy(usage: Option<&Usage>) -> [String; 2] {
    let shown = |amount: f64, unit: &str| if amount > 0.0 { format!("{amount:.2} {unit}") } else { String::new() };
    usage
        .map_or_else(Default::default, |usage| [shown(usage.energy_kwh, "kWh"), shown(usage.emission_grams / 1_000.0, "kg CO2e")])
}

/// Namespace and name of a resource name with two identifiers.
pub fn last_two(name: &str) -> [String; 2] {
    let mut ids = name.split('/').skip(1).step_by(2).map(str::to_owned);
    [ids.next().unwrap_or_default(), ids.next().unwrap_or_default()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_show_their_two_largest_units() {
        let cases = [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (192, "3m12s"),
            (20_400, "5h40m"),
            (100_000, "27h46m"),
            (183_600, "2d3h"),
            (2_000_000, "23d"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(duration(Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn states_read_as_words() {
        let cases = [("NOT_ENROLLED", "NotEnrolled"), ("LIVE", "Live"), ("STATE_UNSPECIFIED", ""), ("", "")];
        for (wire, expected) in cases {
            assert_eq!(state(wire), expected);
        }
        assert_eq!(saying("FAILED", "gate"), "Failed: gate");
    }

    #[test]
    fn money_is_rounded_to_cents_and_small_sums_keep_their_digits() {
        let cases = [
            (12_500_000, "12.50 EUR"),
            (1_999_999, "2.00 EUR"),
            (1_234_567, "1.23 EUR"),
            (4_200, "0.0042 EUR"),
            (0, "0.00 EUR"),
            (-2_500_000, "-2.50 EUR"),
        ];
        for (micros, expected) in cases {
            assert_eq!(money(micros, "EUR"), expected, "{micros}");
        }
        assert_eq!(money(5, ""), "");
    }

    #[test]
    fn ages_and_expiries_are_relative() {
        let at = |seconds| muster_proto::Timestamp { seconds, nanos: 0 };
        let now = Timestamp::from_second(1_000).expect("legal");
        assert_eq!(age(Some(&at(940)), now), "1m");
        assert_eq!(age(Some(&at(2_000)), now), "0s", "a clock ahead of ours");
        assert_eq!(age(None, now), "");
        assert_eq!(expiry(Some(&at(1_060)), now), "in 1m");
        assert_eq!(expiry(Some(&at(940)), now), "1m ago");
        assert_eq!(expiry(None, now), "never");
        assert_eq!(span(Some(&at(100)), Some(&at(160)), now), "1m");
        assert_eq!(span(Some(&at(100)), None, now), "15m");
    }
}
