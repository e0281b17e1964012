//! How often somebody may do something: a token bucket a sender.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

/// Senders remembered at most. When there are more, those who could send freely anyway are forgotten first; if none
/// could, all are: for one moment limits are loose, and memory stays bounded.
pub const MAX_SENDERS: usize = 100_000;

/// How often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Times in a row, after a pause.
    pub burst: u32,
    /// One more after each of these.
    pub every: Duration,
}

/// Buckets by sender.
///
/// A bucket is kept as the moment when it will be full again: one number, and no update where nobody asks.
#[derive(Debug)]
pub struct Limiter<K> {
    rate: Rate,
    full_at: HashMap<K, Instant>,
}

impl<K: Hash + Eq> Limiter<K> {
    /// Everybody may at first send a whole burst.
    pub fn new(rate: Rate) -> Self {
        Self { rate, full_at: HashMap::new() }
    }

    /// Takes one from the sender's bucket, or says how long until there is one.
    pub fn take(&mut self, sender: K, now: Instant) -> Result<(), Duration> {
        if self.full_at.len() >= MAX_SENDERS && !self.full_at.contains_key(&sender) {
            self.full_at.retain(|_, full_at| *full_at > now);
            if self.full_at.len() >= MAX_SENDERS {
                self.full_at.clear();
            }
        }
        let full_at = self.full_at.entry(sender).or_insert(now);
        let debt = full_at.saturating_duration_since(now);
        let room = self.rate.every * self.rate.burst.saturating_sub(1);
        if debt > room {
            return Err(debt - room);
        }
        *full_at = now + debt + self.rate.every;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(clippy::disallowed_methods)] // any instant will do: the tests move it by themselves
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_burst_then_one_at_a_time() {
        let start = start();
        let second = Duration::from_secs(1);
        let mut limiter = Limiter::new(Rate { burst: 3, every: second });
        for _ in 0..3 {
            assert_eq!(limiter.take("a", start), Ok(()));
        }
        assert_eq!(limiter.take("a", start), Err(second));
        assert_eq!(limiter.take("b", start), Ok(()), "others are not held up");
        assert_eq!(limiter.take("a", start + second / 2), Err(second / 2));
        assert_eq!(limiter.take("a", start + second), Ok(()));
        assert_eq!(limiter.take("a", start + second), Err(second));
        assert_eq!(limiter.take("a", start + 60 * second), Ok(()));
    }

    #[test]
    fn memory_is_bounded() {
        let start = start();
        let mut limiter = Limiter::new(Rate { burst: 1, every: Duration::from_secs(1) });
        for sender in 0..3 * MAX_SENDERS {
            let _ = limiter.take(sender, start);
        }
        assert!(limiter.full_at.len() <= MAX_SENDERS);
    }
}
