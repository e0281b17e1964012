//! What a link is like, and how that is written: `rate=500k queue=300ms delay=150ms loss=0.03`.

use std::time::Duration;

use crate::time_at;

/// What one direction of a link is like. Shares are from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Profile {
    /// The bottleneck, in bits of UDP payload a second; `None`: none.
    pub rate_bps: Option<u64>,
    /// How much waits for the bottleneck at most; what comes when it is full is dropped.
    pub queue: Queue,
    /// How long the wire is.
    pub delay: Duration,
    /// Up to so much longer, evenly spread. Keeps the order.
    pub jitter: Duration,
    /// The share of datagrams that is lost on the wire, each by itself; outside of bursts.
    pub loss: f64,
    /// Losses in a row.
    pub bursts: Option<Bursts>,
    /// The share of datagrams that is held back, and for how long.
    pub reorder: f64,
    /// See [`Profile::reorder`].
    pub reorder_by: Duration,
    /// The share of datagrams that arrives twice.
    pub duplicate: f64,
}

/// The size of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queue {
    /// So many payload bytes.
    Bytes(usize),
    /// As many as the bottleneck lets through in this time. Without a bottleneck nothing waits.
    Time(Duration),
}

/// The model of Gilbert and Elliott: a wire that is now and then in a bad state.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bursts {
    /// The chance to enter the bad state, at each datagram.
    pub enter: f64,
    /// The chance to leave it, at each datagram.
    pub leave: f64,
    /// The share that is lost while in it.
    pub loss: f64,
}

/// What is wrong with a description of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileError(String);

impl std::fmt::Display for ProfileError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (known: rate queue delay jitter loss burst reorder duplicate)", self.0)
    }
}

impl std::error::Error for ProfileError {}

impl Default for Profile {
    /// A wire that does nothing to what it carries.
    fn default() -> Self {
        Self {
            rate_bps: None,
            queue: Queue::Time(Duration::from_millis(200)),
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            loss: 0.0,
            bursts: None,
            reorder: 0.0,
            reorder_by: Duration::from_millis(10),
            duplicate: 0.0,
        }
    }
}

impl Profile {
    /// This with changes: `rate=500k queue=64000 delay=150ms jitter=5ms loss=0.03 burst=0.01/0.3/0.9 reorder=0.01/20ms
    /// duplicate=0.01`. Rates are bit/s, with `k` or `M`, or `none`; a queue is bytes or a time; a burst is the chances
    /// to enter and to leave it and the share lost inside, or `none`.
    pub fn with(mut self, words: &str) -> Result<Self, ProfileError> {
        for word in words.split_whitespace() {
            let bad = || ProfileError(format!("not understood: {word:?}"));
            let (key, value) = word.split_once('=').ok_or_else(bad)?;
            match key {
                "rate" if value == "none" => self.rate_bps = None,
                "rate" => self.rate_bps = Some(rate(value).ok_or_else(bad)?),
                "queue" => self.queue = queue(value).ok_or_else(bad)?,
                "delay" => self.delay = duration(value).ok_or_else(bad)?,
                "jitter" => self.jitter = duration(value).ok_or_else(bad)?,
                "loss" => self.loss = share(value).ok_or_else(bad)?,
                "burst" if value == "none" => self.bursts = None,
                "burst" => self.bursts = Some(bursts(value).ok_or_else(bad)?),
                "reorder" => {
                    let (part, by) =
                        value.split_once('/').map_or((value, None), |(part, by)| (part, Some(by)));
                    self.reorder = share(part).ok_or_else(bad)?;
                    if let Some(by) = by {
                        self.reorder_by = duration(by).ok_or_else(bad)?;
                    }
                }
                "duplicate" => self.duplicate = share(value).ok_or_else(bad)?,
                _ => return Err(bad()),
            }
        }
        Ok(self)
    }

    /// How long a datagram is in the bottleneck.
    pub(crate) fn time_of(&self, bytes: usize) -> Duration {
        self.rate_bps.map_or(Duration::ZERO, |rate| time_at(rate, bytes))
    }

    /// The most bytes that wait, the one in the bottleneck included.
    pub(crate) fn queue_bytes(&self) -> usize {
        match (self.queue, self.rate_bps) {
            (_, None) => usize::MAX,
            (Queue::Bytes(bytes), _) => bytes,
            (Queue::Time(time), Some(rate)) => (rate as f64 / 8.0 * time.as_secs_f64()) as usize,
        }
    }
}

fn rate(text: &str) -> Option<u64> {
    let (number, unit) = match text.strip_suffix(['k', 'M']) {
        Some(number) if text.ends_with('k') => (number, 1e3),
        Some(number) => (number, 1e6),
        None => (text, 1.0),
    };
    let rate = number.parse::<f64>().ok()? * unit;
    (rate >= 1.0 && rate.is_finite()).then_some(rate as u64)
}

fn duration(text: &str) -> Option<Duration> {
    let (number, seconds) = match text.strip_suffix("ms") {
        Some(number) => (number, 1e-3),
        None => (text.strip_suffix('s')?, 1.0),
    };
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()
}

fn queue(text: &str) -> Option<Queue> {
    duration(text).map(Queue::Time).or_else(|| text.parse().ok().map(Queue::Bytes))
}

fn share(text: &str) -> Option<f64> {
    text.parse().ok().filter(|share| (0.0..=1.0).contains(share))
}

fn bursts(text: &str) -> Option<Bursts> {
    let mut parts = text.split('/').map(share);
    let bursts = Bursts { enter: parts.next()??, leave: parts.next()??, loss: parts.next()?? };
    parts.next().is_none().then_some(bursts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_described_in_words_and_changed_by_further_ones() {
        let ms = Duration::from_millis;
        let slow = Profile::default().with("rate=500k queue=300ms delay=150ms loss=0.03").unwrap();
        assert_eq!((slow.rate_bps, slow.queue, slow.delay), (Some(500_000), Queue::Time(ms(300)), ms(150)));
        let faster = slow
            .with("rate=3M queue=64000 burst=0.01/0.3/0.9 reorder=0.02/20ms duplicate=1 jitter=1s")
            .unwrap();
        assert_eq!(
            (faster.rate_bps, faster.queue, faster.loss),
            (Some(3_000_000), Queue::Bytes(64_000), 0.03)
        );
        assert_eq!(faster.bursts, Some(Bursts { enter: 0.01, leave: 0.3, loss: 0.9 }));
        assert_eq!((faster.reorder, faster.reorder_by, faster.duplicate), (0.02, ms(20), 1.0));
        let clean = faster.with("rate=none burst=none").unwrap();
        assert_eq!((clean.rate_bps, clean.bursts), (None, None));
    }

    #[test]
    fn what_is_no_link_is_refused() {
        for words in [
            "loss=2",
            "loss=-1",
            "loss=NaN",
            "rate=0",
            "rate=fast",
            "delay=10",
            "speed=1",
            "rate",
            "burst=1/1",
        ] {
            assert!(Profile::default().with(words).is_err(), "{words}");
        }
    }
}
