//! A number of a scenario: a value, or a range.

use std::{fmt, time::Duration};

use serde::{Deserialize, Deserializer, de};

use crate::random::Random;

/// The largest number of any kind: as milliseconds, more than a week; as seconds, thirty years.
const MAX_AMOUNT: f64 = 1e9;

/// A value, or a range that each draw takes one from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Amount {
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Amount {
    /// Always this value.
    pub(crate) const fn fixed(value: f64) -> Self {
        Self { low: value, high: value }
    }

    /// Nothing, whatever is drawn.
    pub(crate) fn is_zero(self) -> bool {
        self.high == 0.0
    }

    /// So many times as much.
    pub(crate) fn times(self, factor: f64) -> Self {
        // Rounded, so that a share of 0.07 is 7 per cent and not a little more.
        let scale = |value: f64| (value * factor * 1e6).round() / 1e6;
        Self { low: scale(self.low), high: scale(self.high) }
    }

    /// Draws a value.
    pub(crate) fn draw(self, random: &mut Random) -> f64 {
        random.between(self.low, self.high)
    }

    /// Draws a whole number, both ends included.
    pub(crate) fn draw_count(self, random: &mut Random) -> u32 {
        random.between(self.low, self.high + if self.high > self.low { 1.0 } else { 0.0 }).min(self.high)
            as u32
    }

    /// Draws a time, the value being seconds.
    pub(crate) fn draw_seconds(self, random: &mut Random) -> Duration {
        Duration::from_secs_f64(self.draw(random))
    }

    /// Draws a time, the value being milliseconds.
    pub(crate) fn draw_millis(self, random: &mut Random) -> Duration {
        Duration::from_secs_f64(self.draw(random) / 1000.0)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.low == self.high {
            write!(f, "{}", self.low)
        } else {
            write!(f, "{} to {}", self.low, self.high)
        }
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Amount;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, or a range [low, high]")
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Amount, E> {
                self.visit_f64(value as f64)
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Amount, E> {
                self.visit_f64(value as f64)
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Amount, E> {
                check(value, value)
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Amount, A::Error> {
                let low = seq.next_element()?.ok_or_else(|| de::Error::invalid_length(0, &self))?;
                let high = seq.next_element()?.ok_or_else(|| de::Error::invalid_length(1, &self))?;
                match seq.next_element::<f64>()? {
                    None => check(low, high),
                    Some(_) => Err(de::Error::invalid_length(3, &self)),
                }
            }
        }
        fn check<E: de::Error>(low: f64, high: f64) -> Result<Amount, E> {
            if !(low.is_finite() && high.is_finite() && low >= 0.0) {
                return Err(E::custom("a number must not be negative"));
            }
            if high > MAX_AMOUNT {
                return Err(E::custom(format!(
                    "{high} is more than {MAX_AMOUNT}, the most that a number may be"
                )));
            }
            if low > high {
                return Err(E::custom(format!("the range [{low}, {high}] begins after its end")));
            }
            Ok(Amount { low, high })
        }
        deserializer.deserialize_any(Visitor)
    }
}
