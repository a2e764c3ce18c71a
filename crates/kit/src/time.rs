//! Between the wire's, the database's and our own timestamps.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use std::time::Duration;

/// Outwards: a timestamp on the wire.
pub fn to_proto(at: Timestamp) -> muster_proto::Timestamp {
    muster_proto::Timestamp { seconds: at.as_second(), nanos: at.subsec_nanosecond() }
}

/// Inwards: `None` where the wire's timestamp is outside years 1 to 9999.
pub fn from_proto(at: &muster_proto::Timestamp) -> Option<Timestamp> {
    Timestamp::new(at.seconds, at.nanos).ok()
}

/// Into a query.
pub fn to_db(at: Timestamp) -> jiff_sqlx::Timestamp {
    at.to_sqlx()
}

/// Outwards: a duration on the wire.
pub fn duration_to_proto(duration: Duration) -> muster_proto::Duration {
    muster_proto::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).expect("below one second"),
    }
}

/// Inwards: `None` where it is negative.
pub fn duration_from_proto(duration: &muster_proto::Duration) -> Option<Duration> {
    Some(Duration::new(u64::try_from(duration.seconds).ok()?, u32::try_from(duration.nanos).ok()?))
}
