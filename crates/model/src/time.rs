//! Time as an argument. Nothing that decides reads a clock: the loop around it reads both once a turn and passes them.

use std::{
    borrow::Cow,
    fmt,
    ops::{Add, Sub},
    str::FromStr,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, Visitor},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Both clocks, read together: `instant` for intervals, `wall` for what people and other machines see.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Monotonic: never steps, means nothing outside this process.
    pub instant: Instant,
    /// Wall time: may step when the machine's clock is set.
    pub wall: UnixMillis,
}

impl Now {
    /// Both clocks, `by` later.
    pub fn after(self, by: Duration) -> Self {
        Self { instant: self.instant + by, wall: self.wall + by }
    }
}

/// A moment, in milliseconds since 1970-01-01 00:00 UTC. Others see it as RFC 3339 in UTC, such as
/// `2026-11-11T12:00:00.250Z`; [`millis`] is for what only this program reads.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixMillis(pub u64);

/// The last moment RFC 3339 can say: its years have four digits.
const LAST: UnixMillis = UnixMillis(253_402_300_799_999);

impl UnixMillis {
    /// Time from `earlier` to this; zero where `earlier` is later.
    pub fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for UnixMillis {
    /// RFC 3339 in UTC with milliseconds. What lies behind the year 9999 is its last moment.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = (*self).min(LAST).0;
        let at = OffsetDateTime::from_unix_timestamp((ms / 1000) as i64).map_err(|_| fmt::Error)?;
        let (date, time) = (at.date(), at.time());
        let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
        let (hour, minute, second) = time.as_hms();
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1000)
    }
}

/// What a text must be that says a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a time is RFC 3339 since 1970, such as 2026-11-11T20:00:00+08:00, or milliseconds since then")]
pub struct TimeError;

impl FromStr for UnixMillis {
    type Err = TimeError;

    /// RFC 3339 with any offset, cut to milliseconds; or a whole number of milliseconds, as a query string has it.
    fn from_str(text: &str) -> Result<Self, TimeError> {
        if let Ok(ms) = text.parse() {
            return Ok(Self(ms));
        }
        let at = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| TimeError)?;
        u64::try_from(at.unix_timestamp_nanos() / 1_000_000).map(Self).map_err(|_| TimeError)
    }
}

impl Serialize for UnixMillis {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for UnixMillis {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Moment)
    }
}

/// Takes a time in either form.
struct Moment;

impl Visitor<'_> for Moment {
    type Value = UnixMillis;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time by RFC 3339")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<UnixMillis, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: Error>(self, ms: u64) -> Result<UnixMillis, E> {
        Ok(UnixMillis(ms))
    }
}

impl schemars::JsonSchema for UnixMillis {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "date-time" })
    }
}

/// `#[serde(with = "millis")]`: the number itself, in files and messages that only this program reads and writes.
pub mod millis {
    use super::{Deserialize, Deserializer, Serialize, Serializer, UnixMillis};

    #[expect(missing_docs, clippy::missing_errors_doc)]
    pub fn serialize<S: Serializer>(at: &UnixMillis, to: S) -> Result<S::Ok, S::Error> {
        at.0.serialize(to)
    }

    #[expect(missing_docs, clippy::missing_errors_doc)]
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<UnixMillis, D::Error> {
        u64::deserialize(from).map(UnixMillis)
    }
}

impl From<SystemTime> for UnixMillis {
    fn from(at: SystemTime) -> Self {
        // A clock before 1970 is a broken clock: zero, rather than a panic.
        Self(at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64))
    }
}

impl Add<Duration> for UnixMillis {
    type Output = Self;

    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(by.as_millis() as u64))
    }
}

impl Sub<Duration> for UnixMillis {
    type Output = Self;

    fn sub(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(by.as_millis() as u64))
    }
}

impl fmt::Debug for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<u64> {
        text.parse::<UnixMillis>().ok().map(|at| at.0)
    }

    /// By `date -u -d @951782400`, and RFC 3339, 5.8.
    #[test]
    fn a_time_is_said_by_rfc_3339_in_utc() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_007, "2000-02-29T00:00:00.007Z"),
            (1_790_000_000_120, "2026-09-21T14:13:20.120Z"),
            (LAST.0, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(UnixMillis(ms).to_string(), text);
            assert_eq!(parsed(text), Some(ms));
        }
        assert_eq!(UnixMillis(u64::MAX).to_string(), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn a_time_is_read_with_any_offset_and_precision() {
        for (text, ms) in [
            ("1985-04-12T23:20:50.52Z", Some(482_196_050_520)),
            ("1996-12-19T16:39:57-08:00", Some(851_042_397_000)),
            ("1937-01-01T12:00:27.87+00:20", None),
            ("1970-01-01T08:00:00.0009999+08:00", Some(0)),
            ("1790000000000", Some(1_790_000_000_000)),
            ("-5", None),
            ("", None),
            ("tomorrow", None),
            ("2026-11-11", None),
            ("2026-02-30T00:00:00Z", None),
            ("2026-11-11T20:00:00", None),
        ] {
            assert_eq!(parsed(text), ms, "{text}");
        }
    }

    #[test]
    fn json_has_texts_and_takes_numbers_too() {
        let at = UnixMillis(1_790_000_000_120);
        let text = serde_json::to_string(&at).unwrap();
        assert_eq!(text, r#""2026-09-21T14:13:20.120Z""#);
        assert_eq!(serde_json::from_str::<UnixMillis>(&text).unwrap(), at);
        assert_eq!(serde_json::from_str::<UnixMillis>("1790000000120").unwrap(), at);
        for bad in ["null", "-1", "1.5", "true", r#""soon""#, "[]"] {
            serde_json::from_str::<UnixMillis>(bad).unwrap_err();
        }
    }
}
